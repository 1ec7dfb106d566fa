#!/bin/sh
# The three phases and the three planes of a battery cathode, from its whole CT.
# Usage: training/recipes/nmc64-aniso.sh FOLDER [OPTIONS OF mdiff-train fit], with nmc-1-cal_generatedCBD_bridge.tif of
# NREL's MATBOX_Microstructure_analysis_toolbox in FOLDER.
set -eu
folder=$1
shift
mdiff-train fit "$folder/nmc-1-cal_generatedCBD_bridge.tif" "$folder/nmc64-aniso.safetensors" --resume \
  --name nmc64-aniso --phases pore=0,active=1,binder=2 --planes --set training.batch=64 --set training.steps=5000 \
  --licence BSD-3-Clause --source "NMC-1-CAL cathode, X-ray CT, binder added numerically; NREL/MATBOX_Microstructure_analysis_toolbox; slices of the whole volume in three planes" "$@"
mdiff-export repository "$folder/nmc64-aniso.safetensors" "$folder/repository"
