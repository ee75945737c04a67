#!/bin/bash
# The first program of a head node: the daemons that cloud-init and chef start on AWS. It stays, and reaps what is orphaned.
#   head_node.sh SSHD_CONFIG [DCV_SERVER ARGUMENT...]
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
sshd_config=$1
shift

munged --force --foreground --num-threads=2 --key-file=/opt/slurm/etc/munge.key --log-file=/var/log/munged.log &
until [ -S /run/munge/munge.socket.2 ]; do kill -0 $! || exit 1; sleep 0.02; done
/opt/parallelcluster/scripts/slurmctld.sh >>/var/log/slurmctld.out 2>&1 &
/usr/sbin/sshd -D -f "$sshd_config" -E /var/log/sshd.log &
if [ $# -gt 0 ]; then "$@" >>/var/log/dcv.log 2>&1 & fi
wait
