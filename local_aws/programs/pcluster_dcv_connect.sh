#!/bin/bash
# What `pcluster dcv-connect` runs on the head node: opens a session and prints where it is, as ParallelCluster's own script does.
# Called with the directory to share. The token is good for one visit within 30 seconds.
set -euo pipefail
if [ $# -ne 1 ]; then
    echo "usage: $0 SHARED_DIRECTORY" >&2
    exit 1
fi
token=$(tr -dc 'A-Za-z0-9' </dev/urandom | head -c 43 || true)
mkdir -p /run/dcv
touch "/run/dcv/$token"
echo "PclusterDcvServerPort=$(cat /opt/parallelcluster/shared/dcv/port) PclusterDcvSessionId=console PclusterDcvSessionToken=$token"
