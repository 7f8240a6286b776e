# Which processes belong to the cluster, and how they end. Daemons inherit SLURM_CONF from `up`, steps and tasks from
# daemons, and no other cluster has the same one. What runs on a node has SLURMD_NODENAME besides: tasks get it from
# SLURM, a slurmd from `start_node` and its slurmstepd from it. So nothing hangs on a pid file.

conf_is_ours="SLURM_CONF=${SLURM_CONF//./\\.}"

# Ids of processes with every one of these NAME=value, regular expressions, in their environment.
with_environment() {
    local setting path found=(/proc/[0-9]*/environ)
    for setting; do
        mapfile -t found < <(grep --files-with-matches --null-data --line-regexp -e "$setting" "${found[@]}" 2>/dev/null)
        [ ${#found[@]} -gt 0 ] || return 0
    done
    for path in "${found[@]}"; do
        path=${path#/proc/}
        echo "${path%/environ}"
    done
}

# Ids of the cluster's daemons of that name.
daemons_named() {
    local pid
    for pid in $(with_environment "$conf_is_ours"); do
        if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ]; then echo "$pid"; fi
    done
}

# slurmd, slurmstepd, batch shells and tasks of the nodes that the regular expression says, and what descends from them.
processes_on() {
    local pid
    for pid in $(with_environment "$conf_is_ours" "SLURMD_NODENAME=$1"); do with_descendants "$pid"; done | sort -un
}

with_descendants() {
    local pid
    for pid; do
        echo "$pid"
        # shellcheck disable=SC2046  # ids, a word each
        with_descendants $(cat "/proc/$pid/task/"*/children 2>/dev/null)
    done
}

# A zombie has ended; who should reap it may take its time.
lives() { [[ $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) == [^Z]* ]]; }

any_lives() {
    local pid
    for pid; do
        if lives "$pid"; then return 0; fi
    done
    return 1
}

# SIGTERM, and SIGKILL to what is still there ten seconds later.
end() {
    [ $# -gt 0 ] || return 0
    local deadline=$((SECONDS + 10))
    kill -TERM "$@" 2>/dev/null
    kill -CONT "$@" 2>/dev/null # a stopped one cannot answer
    while any_lives "$@"; do
        if [ $SECONDS -ge $deadline ]; then kill -KILL "$@" 2>/dev/null; fi
        sleep 0.05
    done
}
