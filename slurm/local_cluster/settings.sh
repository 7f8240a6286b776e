# What a cluster is made of: knobs from the environment, and where its things lie. Sourced by every command.
# Before programs are known to be there this uses nothing but bash itself.

# Where /usr/bin is searched, /usr/sbin is too, where the daemons lie; an ordinary user's PATH often lacks it.
case ":$PATH:" in *:/usr/bin:*) PATH=$PATH:/usr/sbin ;; esac

root=${CLUSTER_ROOT:-/tmp/local-slurm-$EUID}   # everything lies below it; a cluster is known by it
nodes=${CLUSTER_NODES:-4}                      # a100-1, a100-2, ...
gpus=${CLUSTER_GPUS:-8}                        # in each node
cpus=${CLUSTER_CPUS:-128}                      # in each node
accounting=${CLUSTER_ACCOUNTING:-dbd}          # dbd: sacct works; none: it does not
first_port=${CLUSTER_PORTS:-16800}             # of the nodes + 11; side by side, 100 apart
max_array_size=${CLUSTER_MAX_ARRAY_SIZE:-1001} # SLURM's own default
slurmd_timeout=${CLUSTER_SLURMD_TIMEOUT:-20}   # seconds of silence after which a node is down
message_timeout=${CLUSTER_MESSAGE_TIMEOUT:-10} # seconds that daemons wait for an answer
grace_time=${CLUSTER_GRACE_TIME:-10}           # seconds from the warning of a preempted job to its end

mistake() {
    echo "error: $*" >&2
    exit 2
}

[[ $root =~ ^/[A-Za-z0-9._/-]+$ ]] || mistake "CLUSTER_ROOT=$root: must be an absolute path of letters, digits, . _ / -"
[ ${#root} -le 70 ] || mistake "CLUSTER_ROOT=$root: ${#root} letters, at most 70, as a socket's path has to be short"
[[ $accounting =~ ^(dbd|none)$ ]] || mistake "CLUSTER_ACCOUNTING=$accounting: must be dbd or none"
for knob in NODES GPUS CPUS PORTS MAX_ARRAY_SIZE SLURMD_TIMEOUT MESSAGE_TIMEOUT GRACE_TIME; do
    knob=CLUSTER_$knob
    [[ ${!knob:-1} =~ ^[1-9][0-9]*$ ]] || mistake "$knob=${!knob}: must be a whole number from 1"
done
[ "$nodes" -le 80 ] || mistake "CLUSTER_NODES=$nodes: at most 80"

database_port=$((first_port + 1))
slurmdbd_port=$((first_port + 2))
slurmctld_port=$((first_port + 3))
node_port() { echo $((first_port + 10 + $1)); }

munge_socket=$root/run/munge.socket
export SLURM_CONF=$root/etc/slurm.conf

daemons=(munged slurmctld slurmd)
clients=(munge sbatch srun salloc squeue scancel scontrol sinfo)
packages=(munge slurmctld slurmd slurm-client)
if [ "$accounting" = dbd ]; then
    daemons+=(slurmdbd mariadbd)
    clients+=(sacct sacctmgr)
    packages+=(slurmdbd mariadb-server-core)
fi

missing=()
for program in "${daemons[@]}" "${clients[@]}"; do
    command -v "$program" >/dev/null || missing+=("$program")
done
