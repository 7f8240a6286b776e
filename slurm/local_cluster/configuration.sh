# What `up` writes below $root/etc: the configuration of SLURM and of its accounting.

node_names=a100-[1-$nodes]
owner=$(id -un)

write_configuration() {
    slurm_conf >"$SLURM_CONF"
    gres_conf >"$root/etc/gres.conf"
    hosts >"$root/etc/hosts"
    if [ "$accounting" = dbd ]; then
        # slurmdbd starts with a file that others cannot read, beside slurm.conf, and with no other.
        (umask 077 && slurmdbd_conf >"$root/etc/slurmdbd.conf")
    fi
}

slurm_conf() {
    cat <<EOF
ClusterName=local
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$slurmctld_port
SlurmUser=$owner
SlurmdUser=$owner
StateSaveLocation=$root/state
SlurmctldPidFile=$root/run/slurmctld.pid
SlurmctldLogFile=$root/log/slurmctld.log
SlurmctldDebug=verbose
SlurmdSpoolDir=$root/spool/%n
SlurmdPidFile=$root/run/slurmd.%n.pid
SlurmdLogFile=$root/log/slurmd.%n.log
SlurmdDebug=verbose

# A requeued job does not start before its credential has expired: six seconds here, two minutes by default.
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$munge_socket,cred_expire=5

# No cgroups, no binding; nodes with what is written below, whatever this machine has.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SlurmdParameters=config_overrides

SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=2,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
EnforcePartLimits=ALL
MaxArraySize=$max_array_size

KillWait=5
SlurmdTimeout=$slurmd_timeout
MessageTimeout=$message_timeout
ReturnToService=2
MinJobAge=600

$(accounting_of_slurm)

GresTypes=gpu
NodeName=$node_names NodeHostname=localhost NodeAddr=127.0.0.1 Port=[$(node_port 1)-$(node_port "$nodes")] Sockets=1 CoresPerSocket=$cpus ThreadsPerCore=1 RealMemory=1000000 Gres=gpu:a100:$gpus Feature=a100,80g
PartitionName=DEFAULT Nodes=$node_names MaxTime=3-00:00:00 DefaultTime=01:00:00 DefMemPerCPU=1000
PartitionName=a100 Default=YES PriorityTier=10 PreemptMode=OFF
PartitionName=scavenge PriorityTier=1 PreemptMode=REQUEUE GraceTime=$grace_time
EOF
}

accounting_of_slurm() {
    if [ "$accounting" = none ]; then
        echo AccountingStorageType=accounting_storage/none
        return
    fi
    # Who talks to slurmdbd looks for munge's socket in AccountingStoragePass, not in AuthInfo.
    cat <<EOF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$slurmdbd_port
AccountingStoragePass=$munge_socket
AccountingStorageTRES=gres/gpu,gres/gpu:a100
EOF
}

gres_conf() {
    echo AutoDetect=off
    echo "NodeName=$node_names Name=gpu Type=a100 File=$root/dev/nvidia[0-$((gpus - 1))]"
}

hosts() {
    cat /etc/hosts
    printf '127.0.0.1 a100-%s\n' $(seq "$nodes")
}

slurmdbd_conf() {
    cat <<EOF
AuthType=auth/munge
AuthInfo=socket=$munge_socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$slurmdbd_port
SlurmUser=$owner
LogFile=$root/log/slurmdbd.log
PidFile=$root/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$database_port
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
EOF
}
