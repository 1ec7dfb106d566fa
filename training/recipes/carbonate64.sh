#!/bin/sh
# Case IV of Micro3Diff: 250 random crops of one carbonate micrograph.
# Usage: training/recipes/carbonate64.sh FOLDER [OPTIONS OF mdiff-train fit], with carbonate_resized.npy of MCRpy
# (NEFM-TUDresden) in FOLDER.
set -eu
folder=$1
shift
mdiff-train fit "$folder/carbonate_resized.npy" "$folder/carbonate64.safetensors" --resume --name carbonate64 \
  --phases rock=0,pore=1 --crops 250 --set training.batch=16 --set training.steps=3000 --set training.ema=0.999 \
  --licence CC-BY-4.0 --source "segmented carbonate micrograph, Li et al. 2018, Scientific Reports 8:13461, by way of NEFM-TUDresden/MCRpy; Micro3Diff case IV: 250 random crops" "$@"
mdiff-export repository "$folder/carbonate64.safetensors" "$folder/repository"
