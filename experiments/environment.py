"""What must be set before JAX computes for the first time, which some packages do when they are imported."""

import os

# One thread per matrix product: several add in another order from run to run, and a resumed fit could not end with the
# bits of one that was not interrupted. A setting of the user's is kept.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
