#!/bin/sh
# Case I of Micro3Diff: spheres in a matrix.
# Usage: training/recipes/spheres64.sh FOLDER [OPTIONS OF mdiff-train fit]
set -eu
folder=$1
shift
mkdir -p "$folder"
[ -e "$folder/spheres.npy" ] || mdiff-train spheres "$folder/spheres.npy"
mdiff-train fit "$folder/spheres.npy" "$folder/spheres64.safetensors" --resume --name spheres64 \
  --phases matrix=0,sphere=1 --set training.steps=9000 \
  --licence Apache-2.0 --source "synthetic, Micro3Diff case I: spheres of diameter N(15, 4) voxels, fraction 0.30, 64×64×300 rod from mdiff-train spheres, sliced along its length" "$@"
mdiff-export repository "$folder/spheres64.safetensors" "$folder/repository"
