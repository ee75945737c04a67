#!/bin/bash
# The first program of a compute node.
#   compute_node.sh NODE
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

munged --force --foreground --num-threads=2 --key-file=/opt/slurm/etc/munge.key --log-file=/var/log/munged.log &
until [ -S /run/munge/munge.socket.2 ]; do kill -0 $! || exit 1; sleep 0.02; done
env --default-signal slurmd -D -b -N "$1" >>/var/log/slurmd.out 2>&1 &
wait
