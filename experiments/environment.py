"""What must be set before JAX computes for the first time, which some packages do when they are imported."""

import os
from pathlib import Path

# One thread per matrix product: several add in another order from run to run, and a resumed fit could not end with the
# bits of one that was not interrupted. A setting of the user's is kept.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

# XLA takes every core. Who shares cores among jobs, as joblib does, limits OpenMP's threads: that limit holds here too.
if "OMP_NUM_THREADS" in os.environ:
    os.environ.setdefault("NPROC", os.environ["OMP_NUM_THREADS"])

# Launchers start jobs in processes of their own, which must find these scripts.
here = str(Path(__file__).resolve().parent)
if here not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
