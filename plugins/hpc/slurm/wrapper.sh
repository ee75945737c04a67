# Runs the job script and records, on the shared file system, how it began and how it ended: so its end is known
# after Slurm has forgotten the job, and without an accounting database. The first argument is this attempt's folder, the
# second the point of a sweep that the first element of a job array computes.
attempt=$1
record=$attempt

# Each point of a sweep has a folder of its own below the job's, with the inputs linked into it.
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    export POINT=$(($2 + SLURM_ARRAY_TASK_ID))
    record=$attempt/elements/$POINT
    top=$PWD
    mkdir -p "points/$POINT" && cd "points/$POINT" || exit 121
    exec >>output.log 2>&1
    while IFS= read -r input; do
        case $input in */*) mkdir -p -- "${input%/*}" ;; esac
        ln -sfn -- "$top/$input" "$input"
    done <"$attempt/inputs"
    export NUMBERS=$PWD/numbers
fi

# put NAME: make a file of standard input; it appears whole or not at all.
put() { cat >"$record/.$1.$SLURM_JOB_ID" && mv -f "$record/.$1.$SLURM_JOB_ID" "$record/$1"; }

# One job an attempt: the first that links its id owns the record, and still does when it is put back and starts again.
printf '%s\n' "$SLURM_JOB_ID" | put "owner-$SLURM_JOB_ID"
ln "$record/owner-$SLURM_JOB_ID" "$record/owner" 2>/dev/null
owner=$(cat "$record/owner")
if [ "$owner" != "$SLURM_JOB_ID" ]; then
    echo "Job $owner is this attempt already; job $SLURM_JOB_ID ends here, without running the script." >&2
    exit 120
fi

# A newer attempt was begun because Slurm had forgotten this one.
if [ -e "$attempt/withdrawn" ]; then
    echo "This attempt was given up; job $SLURM_JOB_ID ends here, without running the script." >&2
    exit 120
fi
# A slurmctld that was killed may start a job again, or put it back, after its end: that end stands.
if [ -e "$record/end" ] && [ ! -e "$record/terminated" ]; then
    echo "Job $SLURM_JOB_ID has ended before and is not run again; clear the task for that." >&2
    exit 0
fi

rm -f "$record/end" "$record/terminated"
if [ -n "${POINT:-}" ]; then rm -f "$attempt/ends/$POINT="* "$NUMBERS"; fi
began=$(date +%s)
printf '%s\n' "job_id=$SLURM_JOB_ID" "start=$began" "node_list=$SLURM_JOB_NODELIST" \
    "restarts=${SLURM_RESTART_COUNT:-0}" | put start

# Slurm's own end of a job (cancel, walltime, requeue) begins with SIGTERM; the script gets it too, and time to react.
trap 'echo "terminated=$(date +%s)" | put terminated; kill -TERM "$script" 2>/dev/null' TERM

# Since Slurm 22.05 srun takes the CPUs of a task from here only.
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi
. "$attempt/parameters.sh"
if [ -n "${POINT:-}" ]; then . "$attempt/points.sh"; fi

"$attempt/script" &
script=$!
# A trap ends `wait` early: wait again until the script itself is gone.
while :; do
    wait "$script"
    code=$?
    kill -0 "$script" 2>/dev/null || break
done
# If the script ended while the trap ran, that code is of the interrupted wait; bash still knows the script's own.
wait "$script"
code=$?

ended=$(date +%s)
printf '%s\n' "end=$ended" "seconds=$((ended - began))" "exit_code=$code" \
    "signal=$((code > 128 ? code - 128 : 0))" | put end
if [ -n "${POINT:-}" ]; then : >"$attempt/ends/$POINT=$code"; fi
exit "$code"
