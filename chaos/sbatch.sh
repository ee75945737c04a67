#!/bin/bash
# Stands before sbatch on the head node: notes each call, and kills the program that calls where a run has ordered it.
#   /fsx/chaos/<token> holds the order `before`, `during` or `after`; /fsx/chaos/submitted gets a line for each call.
for option in "$@"; do
    case $option in --job-name=*) name=${option#*=} ;; esac
done
[[ $name =~ \.([0-9a-f]{12})\.[0-9] ]] && token=${BASH_REMATCH[1]}
order=/fsx/chaos/$token
if mv "$order" "$order.$$" 2>/dev/null; then moment=$(cat "$order.$$"); fi

if [ "$moment" = before ]; then
    kill -9 $PPID
    exit 1
fi
/usr/bin/sbatch "$@" >"/tmp/sbatch.$$" &
if [ "$moment" = during ]; then kill -9 $PPID; fi
wait $!
code=$?
printf '%s %s %s\n' "$name" "$code" "$(head -n 1 "/tmp/sbatch.$$")" >>/fsx/chaos/submitted
if [ "$moment" = after ]; then kill -9 $PPID; fi
cat "/tmp/sbatch.$$"
rm -f "/tmp/sbatch.$$"
exit $code
