#!/bin/bash
# Keeps slurmctld running, as systemd does on AWS: a restart (`kill` of the daemon) reads a changed slurm.conf.
while :; do
    slurmctld -D
    sleep 0.2
done
