#!/bin/sh
# Case II of Micro3Diff: a polycrystal, as a solid.
# Usage: training/recipes/grains64.sh FOLDER [OPTIONS OF mdiff-train fit]
set -eu
folder=$1
shift
mkdir -p "$folder"
[ -e "$folder/grains.npy" ] || mdiff-train grains "$folder/grains.npy"
mdiff-train fit "$folder/grains.npy" "$folder/grains64.safetensors" --resume --name grains64 \
  --phases grain=0,boundary=1 --set training.batch=64 --set training.steps=5500 \
  --licence Apache-2.0 --source "synthetic, after Micro3Diff case II: a periodic Laguerre tessellation with grains of 10, 14 and 18 voxels, 64×64×300 rod from mdiff-train grains, sliced along its length" "$@"
mdiff-export repository "$folder/grains64.safetensors" "$folder/repository"
