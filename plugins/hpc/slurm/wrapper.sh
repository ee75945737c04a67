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
    mkdir -p "$record" "points/$POINT" && cd "points/$POINT" || exit 121
    exec >>output.log 2>&1
    while IFS= read -r input; do
        case $input in */*) mkdir -p -- "${input%/*}" ;; esac
        ln -sfn -- "$top/$input" "$input"
    done <"$attempt/inputs"
    export NUMBERS=$PWD/numbers
fi

# put NAME: make a file of standard input; it appears whole or not at all.
put() { cat >"$record/.$1.$SLURM_JOB_ID" && mv -f "$record/.$1.$SLURM_JOB_ID" "$record/$1"; }

# mark_end CODE: what the points of a sweep came to is read from the names in one folder.
mark_end() {
    if [ "$1" = 0 ] && grep -qx unfinished=1 "$record/end"; then set -- 75; fi
    : >"$attempt/ends/$POINT=$1"
}

# One job an attempt: the first that links its id owns the record, and still does when it is put back and starts again.
printf '%s\n' "$SLURM_JOB_ID" | put "owner-$SLURM_JOB_ID"
if ! grep -qx "$SLURM_JOB_ID" "$record/owner-$SLURM_JOB_ID"; then
    echo "Job $SLURM_JOB_ID cannot write to $record and ends here, without running the script." >&2
    exit 121
fi
ln "$record/owner-$SLURM_JOB_ID" "$record/owner" 2>/dev/null
# A slurmctld that was killed may start the work of a job that it has forgotten as another job. That one waits for what the
# owner comes to, and takes over from a dead one: `owner.1` is the first that did, and each can be linked only once.
is_mine() {
    turn=0 claim=$record/owner owner=
    while [ -e "$record/owner.$((turn + 1))" ]; do turn=$((turn + 1)) claim=$record/owner.$turn; done
    read -r owner <"$claim"
    [ "$owner" = "$SLURM_JOB_ID" ]
} 2>/dev/null
# An owner that cannot be read now is nobody else.
is_lost() { ! is_mine && [ -n "$owner" ]; }
shows_life() { [ ! -e "$record/end" ] && [ -n "$(find "$record/alive" "$claim" -newermt '90 seconds ago' 2>/dev/null)" ]; }
# An end with SIGTERM before it does not stand: Slurm may put that job back. Who begins anew removes `end` first.
has_ended() { [ ! -e "$record/terminated" ] && [ -e "$record/end" ]; }
# Forgotten and started anew under its own id, for it was not put back.
began_before() {
    [ ! -e "$record/terminated" ] && grep -qx "job_id=$SLURM_JOB_ID" "$record/start" &&
        grep -qx "restarts=${SLURM_RESTART_COUNT:-0}" "$record/start"
} 2>/dev/null
waits=
while :; do
    # A newer attempt was begun because Slurm had forgotten this one.
    if [ -e "$attempt/withdrawn" ]; then
        echo "This attempt was given up; job $SLURM_JOB_ID ends here, without running the script." >&2
        exit 120
    fi
    # A slurmctld that was killed may start a job again, or put it back, after its end: that end stands.
    if has_ended; then
        echo "Job $SLURM_JOB_ID has ended before and is not run again; clear the task for that." >&2
        if [ -n "${POINT:-}" ]; then mark_end "$(sed -n 's/^exit_code=//p' "$record/end")"; fi
        exit 0
    fi
    if is_mine; then
        if ! began_before || ! shows_life; then break; fi
    elif ! known=$(squeue --noheader --array --name="$SLURM_JOB_NAME" --format='%A %K' 2>/dev/null); then
        : # slurmctld does not answer: nothing is known
    elif grep -qxF "$owner ${SLURM_ARRAY_TASK_ID:-N/A}" <<<"$known"; then
        echo "Job $owner is this attempt already; job $SLURM_JOB_ID ends here, without running the script." >&2
        exit 120
    elif [ -n "$owner" ] && ! shows_life; then
        touch "$record/owner-$SLURM_JOB_ID"
        if ln "$record/owner-$SLURM_JOB_ID" "$record/owner.$((turn + 1))" 2>/dev/null; then
            echo "Slurm has forgotten job $owner, which is dead: job $SLURM_JOB_ID takes over." >&2
        else
            sleep 1
        fi
        continue
    fi
    if [ -z "$waits" ]; then echo "Slurm has forgotten job $owner, which may still run: job $SLURM_JOB_ID waits." >&2; fi
    waits=yes
    sleep 5
done

continued=$(cat "$record/continued" 2>/dev/null || echo 0)
# What an earlier start of this job has left is kept: why Slurm put it back is read there.
if [ -e "$record/start" ]; then cat "$record"/{start,terminated,end} >>"$record/before" 2>/dev/null; fi
rm -f "$record/end"
rm -f "$record/terminated"
if [ -n "${POINT:-}" ]; then rm -f "$attempt/ends/$POINT="*; fi
if [ -n "${POINT:-}" ] && [ "$continued" = 0 ]; then rm -f "$NUMBERS"; fi
began=$(date +%s)
printf '%s\n' "job_id=$SLURM_JOB_ID" "start=$began" "node_list=$SLURM_JOB_NODELIST" \
    "restarts=${SLURM_RESTART_COUNT:-0}" "continued=$continued" | put start

# A slurmctld that was killed may forget a job: so the job itself says that it lives, and one that was given up, or that
# was stopped for so long that another took over, ends.
(
    trap 'kill "$nap"; exit' TERM
    while kill -0 $$; do
        touch "$record/alive"
        if [ -e "$attempt/withdrawn" ] || is_lost; then kill -TERM $$; fi
        sleep 20 &
        nap=$!
        wait "$nap"
    done
) >/dev/null 2>&1 &
heart=$!

# The record is not written to by one that no longer owns it; Slurm ends what it leaves running.
yield() {
    is_lost || return
    kill -KILL "$script" 2>/dev/null
    kill "$heart" 2>/dev/null
    echo "Job $owner has taken over from job $SLURM_JOB_ID, which ends here." >&2
    exit 120
}

# Slurm's own end of a job (cancel, walltime, requeue) begins with SIGTERM; the script gets it too, and time to react.
interrupted=
trap 'yield; interrupted=yes; echo "terminated=$(date +%s)" | put terminated; kill -TERM "$script" 2>/dev/null' TERM

# Some time before the walltime Slurm signals this script, and the user's script saves its state and ends.
signalled=
if [ -e "$attempt/checkpoint" ]; then
    read -r signal limit <"$attempt/checkpoint"
    # shellcheck disable=SC2064  # the signal's name is known now
    trap "signalled=yes; interrupted=yes; kill -$signal \"\$script\" 2>/dev/null" "$signal"
fi

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
yield
# If the script ended while a trap ran, that code is of the interrupted wait; bash most often still knows the script's own.
if [ -n "$interrupted" ]; then
    wait "$script"
    own=$?
    if [ "$own" -ge 0 ] && [ "$own" != 127 ]; then code=$own; fi
fi

# A script that ends after that signal is not finished, whatever its exit code: it is put back, and goes on here.
unfinished=0
if [ -n "$signalled" ]; then
    unfinished=1
    if [ "$continued" -lt "$limit" ]; then
        echo $((continued + 1)) | put continued
        # Slurm kills this script when it is put back; what it would have recorded would not be its end.
        trap 'kill "$heart" 2>/dev/null; exit 0' TERM
        if scontrol requeue "$SLURM_JOB_ID"; then
            while :; do sleep 1 & wait $!; done
        fi
    fi
fi

# `scontrol` may have taken its time.
yield
ended=$(date +%s)
printf '%s\n' "end=$ended" "seconds=$((ended - began))" "exit_code=$code" \
    "signal=$((code > 128 ? code - 128 : 0))" "unfinished=$unfinished" | put end
if [ "$unfinished" = 1 ] && [ "$code" = 0 ]; then code=75; fi
if [ -n "${POINT:-}" ]; then mark_end "$code"; fi
kill "$heart" 2>/dev/null
exit "$code"
