#!/bin/bash
run="$SLURM_JOB_NAME - $SLURM_JOB_ID"
echo "begin $run" >>"$PARAM_RAN"
echo "begin $SLURM_JOB_NAME"
sleep "$PARAM_SECONDS"
echo "end $SLURM_JOB_NAME"
echo "end $run" >>"$PARAM_RAN"
