#!/usr/bin/env bash
# Usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of
# tools/train.py]. Set GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS.
set -euo pipefail

cd_tools=$(dirname "$0")
GPUS_PER_NODE=${GPUS_PER_NODE:-8}

# shellcheck disable=SC2086
PYTHONPATH="$cd_tools/..:${PYTHONPATH:-}" srun -p "$1" \
    --job-name="$2" \
    --gres="gpu:$GPUS_PER_NODE" \
    --ntasks="${GPUS:-8}" \
    --ntasks-per-node="$GPUS_PER_NODE" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    python -u "$cd_tools/train.py" "$3" --work-dir "$4" --launcher slurm \
    "${@:5}"
