#!/bin/sh
# Case III of Micro3Diff: the active material of a battery cathode, a 64×64×300 rod of its CT.
# Usage: training/recipes/nmc64.sh FOLDER [OPTIONS OF mdiff-train fit], with nmc-1-cal_generatedCBD_bridge.tif of
# NREL's MATBOX_Microstructure_analysis_toolbox in FOLDER.
set -eu
folder=$1
shift
mdiff-train fit "$folder/nmc-1-cal_generatedCBD_bridge.tif" "$folder/nmc64.safetensors" --resume --name nmc64 \
  --phases rest=0+2,active=1 --crop 93:157,118:182,0:300 --axis 2 --set training.steps=8000 \
  --licence BSD-3-Clause --source "NMC-1-CAL cathode, X-ray CT, active material against the rest; NREL/MATBOX_Microstructure_analysis_toolbox, Micro3Diff case III: the 300 slices of one 64×64×300 rod" "$@"
mdiff-export repository "$folder/nmc64.safetensors" "$folder/repository"
