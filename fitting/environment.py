"""What must be set before JAX computes for the first time, which brainstate does when it is imported.

A simulation is many small operations: sharing each among threads costs more time than it saves. So every core is a
device with one thread, and candidates, seeds and connectomes are shared out among devices. One thread adds in the
same order in every run, without which a resumed fit could not end with the bits of one that was not interrupted.
Settings of the user's are kept (``NPROC``, ``XLA_FLAGS``, ``JAX_NUM_CPU_DEVICES``, ``OPENBLAS_NUM_THREADS``), and where
JAX has computed before, its devices stay as they are.
"""

import contextlib
import importlib.util
import os
from typing import Any

import jax
import threadpoolctl


def cores() -> int:
    """Cores that this process may use: fewer than the machine has where jobs share them.

    joblib's jobs are told by ``OMP_NUM_THREADS``; SLURM's by ``SLURM_CPUS_PER_TASK``, as not every cluster binds them.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = (os.environ.get(name, "") for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"))
    return min([allowed, *(int(limit) for limit in limits if limit.isdigit() and int(limit))])


def limit_blas_threads():
    """Give SciPy's BLAS, which JAX calls for LAPACK, one thread.

    Its threads wait actively, so that two processes by linear response on two cores take twenty times as long as one.
    NumPy's own BLAS keeps its threads.
    """
    import scipy.linalg  # noqa: F401  loads the library

    if "OPENBLAS_NUM_THREADS" not in os.environ:
        every = threadpoolctl.ThreadpoolController().select(user_api="blas")
        files = [library["filepath"] for library in every.info()]
        every.select(filepath=[file for file in files if f"{os.sep}scipy.libs{os.sep}" in file]).limit(limits=1)


def prepare():
    """Set all of it."""
    os.environ.setdefault("NPROC", "1")
    flags = ["--xla_cpu_multi_thread_eigen=false"]
    if importlib.util.find_spec("jax_plugins"):
        # Compiling for a GPU is the work of many threads, which NPROC would forbid. Trying kernels out takes longer
        # and gains little here, and which one wins may differ when a run is resumed.
        flags += [f"--xla_gpu_force_compilation_parallelism={cores()}", "--xla_gpu_autotune_level=0"]
    os.environ.setdefault("XLA_FLAGS", " ".join(flags))
    chosen = "JAX_NUM_CPU_DEVICES" in os.environ or "device_count" in os.environ["XLA_FLAGS"]
    if not chosen and jax.config.values["jax_num_cpu_devices"] < 1:
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", cores())
    # Several machines work on one run: each starts the same command, with JAX's address of the first and these numbers.
    if "JAX_COORDINATOR_ADDRESS" in os.environ and not jax.distributed.is_initialized():
        names = (("num_processes", "JAX_NUM_PROCESSES"), ("process_id", "JAX_PROCESS_ID"))
        numbers: dict[str, Any] = {name: int(os.environ[v]) for name, v in names if v in os.environ}
        jax.distributed.initialize(**numbers)
    limit_blas_threads()


prepare()
