"""What must be set before JAX computes for the first time, which some packages do when they are imported."""

import contextlib
import os
from pathlib import Path

# A simulation is many small operations: sharing each among threads costs more time than it saves. So every core is a
# device with one thread, and candidates, seeds and connectomes are shared out among devices. One thread adds in the
# same order in every run, without which a resumed fit could not end with the bits of one that was not interrupted.
# Settings of the user's are kept.
os.environ.setdefault("NPROC", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax


def cores() -> int:
    """Cores that this process may use: fewer than the machine has where jobs share them.

    joblib's jobs are told by ``OMP_NUM_THREADS``; SLURM's by ``SLURM_CPUS_PER_TASK``, as not every cluster binds them.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = (os.environ.get(name, "") for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"))
    return min([allowed, *(int(limit) for limit in limits if limit.isdigit() and int(limit))])


if "JAX_NUM_CPU_DEVICES" not in os.environ and "device_count" not in os.environ["XLA_FLAGS"]:
    # Where JAX has computed before, as in a notebook that imports these modules, its devices stay as they are.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", cores())

# Several machines work on one run: each starts the same command, with JAX's address of the first and these numbers.
if "JAX_COORDINATOR_ADDRESS" in os.environ:
    numbers = {
        name: int(os.environ[variable])
        for name, variable in (("num_processes", "JAX_NUM_PROCESSES"), ("process_id", "JAX_PROCESS_ID"))
        if variable in os.environ
    }
    jax.distributed.initialize(**numbers)

# Launchers start jobs in processes of their own, which must find these scripts.
here = str(Path(__file__).resolve().parent)
if here not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
