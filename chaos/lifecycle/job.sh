#!/bin/bash
# Writes result.txt in about a second, and its last line last. Parameters: PARAM_WORD, PARAM_CODE.
set -euo pipefail

: >part.txt
for number in 1 2 3 4 5; do
    echo "$PARAM_WORD $number" >>part.txt
    sleep 0.2
done
echo "$PARAM_WORD end" >>part.txt
mv part.txt result.txt
sleep 0.5
exit "$PARAM_CODE"
