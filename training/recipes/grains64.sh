#!/bin/sh
# Case II of Micro3Diff: polycrystalline grains, 300 independent images.
# Usage: training/recipes/grains64.sh FOLDER [OPTIONS OF mdiff-train fit]
set -eu
folder=$1
shift
mkdir -p "$folder"
[ -e "$folder/grains.npy" ] || mdiff-train grains "$folder/grains.npy"
mdiff-train fit "$folder/grains.npy" "$folder/grains64.safetensors" --resume --name grains64 \
  --phases grain=0,boundary=1 --independent --set training.batch=16 --set training.steps=5000 --set training.ema=0.999 \
  --licence Apache-2.0 --source "synthetic, Micro3Diff case II: Laguerre tessellations with grains of 6, 9 and 12 pixels, made by mdiff-train grains" "$@"
mdiff-export repository "$folder/grains64.safetensors" "$folder/repository"
