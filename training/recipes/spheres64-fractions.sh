#!/bin/sh
# Overlapping spheres at fractions from 0.2 to 0.6, told to the network: sampled at any fraction between.
# Usage: training/recipes/spheres64-fractions.sh FOLDER [OPTIONS OF mdiff-train fit]
set -eu
folder=$1
shift
mkdir -p "$folder"
files=
for percent in 20 25 30 35 40 45 50 55 60; do
  file=$folder/overlapping-$percent.npy
  [ -e "$file" ] || mdiff-train spheres "$file" --overlapping --fraction "0.$percent" --seed "$percent"
  files="$files $file"
done
# shellcheck disable=SC2086 # a list of files
mdiff-train fit $files "$folder/spheres64-fractions.safetensors" --resume --name spheres64-fractions \
  --phases matrix=0,sphere=1 --tell-fractions --set training.batch=16 --set training.steps=3000 --set training.ema=0.999 \
  --licence Apache-2.0 --source "synthetic, overlapping spheres of diameter N(15, 4) voxels, made by mdiff-train spheres" "$@"
mdiff-export repository "$folder/spheres64-fractions.safetensors" "$folder/repository"
