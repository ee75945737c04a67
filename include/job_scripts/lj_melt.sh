#!/bin/bash
# Melting of a Lennard-Jones crystal with LAMMPS over MPI: thermo.csv, atoms and pair correlation before and after.
# Parameters: PARAM_STEPS, PARAM_TEMPERATURE, PARAM_DENSITY, PARAM_SCALE.
set -euo pipefail

. ./software.sh
use_lammps

export OMP_NUM_THREADS=1
"${LAMMPS[@]}" -in lj_melt.lammps \
    -var steps "$PARAM_STEPS" -var temperature "$PARAM_TEMPERATURE" \
    -var density "$PARAM_DENSITY" -var scale "$PARAM_SCALE"
