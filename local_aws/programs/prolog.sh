#!/bin/bash
# PrologSlurmctld: returns as soon as every node of the job answers, and its return starts the job. Without it slurmctld looks
# only every 30 s whether a CONFIGURING job may start. The upper bound is ResumeTimeout, after which Slurm decides itself.
export PATH=/usr/bin:/bin
end=$((SECONDS + 60))
while [ $SECONDS -lt $end ]; do
    nodes=$(scontrol --oneliner show node "$SLURM_JOB_NODELIST" 2>/dev/null) || break
    case $nodes in
        *POWERING_UP* | *POWERED_DOWN* | *NOT_RESPONDING*) sleep 0.2 ;;
        *) break ;;
    esac
done
exit 0
