# A node is a slurmd that says it is a100-<n>.

# Where the machine lets us, a node has a name of its own, which others find: hostname and MASTER_ADDR are as on a cluster.
start_node() {
    local name=a100-$1
    local daemon=(env "SLURMD_NODENAME=$name" slurmd -N "$name")
    if unshare --uts --mount true 2>/dev/null; then
        # shellcheck disable=SC2016  # expanded by the shell in the namespace
        unshare --uts --mount --propagation private \
            sh -c 'hostname "$1" && mount --bind "$2" /etc/hosts && shift 2 && exec "$@"' sh "$name" "$root/etc/hosts" "${daemon[@]}"
    else
        "${daemon[@]}"
    fi
}

# The id of a node's slurmd; nothing if it is down.
slurmd_of() {
    local pid
    for pid in $(processes_on "a100-$1"); do
        if [ "$pid" = "$(cat "$root/run/slurmd.a100-$1.pid" 2>/dev/null)" ]; then echo "$pid"; fi
    done
}
