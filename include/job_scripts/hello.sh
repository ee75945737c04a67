#!/bin/bash
# Every node says hello, in one file. Parameter: PARAM_GREETING.
set -euo pipefail

srun --ntasks-per-node=1 bash -c 'printf "%s from %s\n" "$PARAM_GREETING" "$(hostname)"' | sort >hello.txt
cat hello.txt
