#!/bin/bash

# Parameters
#SBATCH --array=0-2%3
#SBATCH --cpus-per-task=8
#SBATCH --error=RUNS/slurm/%A_%a_0_log.err
#SBATCH --gpus-per-node=8
#SBATCH --job-name=diffussm-hourglass
#SBATCH --mem=400G
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --open-mode=append
#SBATCH --output=RUNS/slurm/%A_%a_0_log.out
#SBATCH --requeue
#SBATCH --signal=USR2@180
#SBATCH --time=24:00:00

# setup
export OMP_NUM_THREADS=8
export DIFFUSSM_NOTICE_SECONDS=180
export NCCL_DEBUG=WARN
export PYTHONPATH=RUNS/code/0123456789ab${PYTHONPATH:+:$PYTHONPATH}

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output RUNS/slurm/%A_%a_%t_log.out --error RUNS/slurm/%A_%a_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=8 PYTHON -P -u -m submitit.core._submit RUNS/slurm

#!/bin/bash

# Parameters
#SBATCH --cpus-per-task=8
#SBATCH --error=RUNS/slurm/%j_0_log.err
#SBATCH --gpus-per-node=8
#SBATCH --job-name=diffussm-hourglass-evaluator
#SBATCH --mem=400G
#SBATCH --nice=1000
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --open-mode=append
#SBATCH --output=RUNS/slurm/%j_0_log.out
#SBATCH --requeue
#SBATCH --signal=USR2@180
#SBATCH --time=24:00:00

# setup
export OMP_NUM_THREADS=8
export DIFFUSSM_NOTICE_SECONDS=180
export NCCL_DEBUG=WARN
export PYTHONPATH=RUNS/code/0123456789ab${PYTHONPATH:+:$PYTHONPATH}

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output RUNS/slurm/%j_%t_log.out --error RUNS/slurm/%j_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=8 PYTHON -P -u -m submitit.core._submit RUNS/slurm
