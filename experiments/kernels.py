"""Count what programs start on a GPU, without one: ``python experiments/kernels.py [case=NAME ...]``.

XLA compiles for an NVIDIA H100 wherever JAX's CUDA packages are installed (``pip install 'fitting[cuda]'``); nothing is
run. One JSON line per case: the kernels that are started one after the other, the GB that they write, the memory of the
program, and the seconds of compiling it on this machine. 32 bits.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from functools import partial

if __name__ == "__main__":
    # Before JAX is imported, which would ask for the driver of a GPU and, without one, not offer its compiler.
    os.environ["JAX_PLATFORMS"] = "cpu"

from benchmark import MANY, of_candidates, the_network
from scripting.work import work_of

#: The GPU that is compiled for, as XLA wants it described: the numbers are NVIDIA's.
H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  memory_bandwidth: 3352320000000
  device_memory_size: 84942979072
  l2_cache_size: 52428800
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
}
platform_name: "CUDA"
runtime_version { major: 12 minor: 9 }
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def candidates(**settings):
    """Many candidates at once: the function, and its arguments."""
    import jax

    one, values, _ = of_candidates(**settings)
    return jax.vmap(one), (values,)


def fit_step():
    """A step of the default fit: loss of a 30 s simulation, connectivity and spectra included, and its gradient."""
    import jax
    import jax.numpy as jnp

    from fitting.objective import Target
    from fitting.optimize import Parameter, Problem
    from fitting.predict import Simulation
    from fitting.signal import Observation

    network = the_network(20.0, node="wilson_cowan_alpha").for_speeds(3.0, 20.0)
    bounds = {"k": (1.5, 0.1, 10.0), "signal_speed": (6.0, 3.0, 20.0), "sigma": (0.02, 0.005, 0.5)}
    parameters = [Parameter(name, *values) for name, values in bounds.items()]
    target = Target(jnp.asarray(-network.lengths), network.labels)
    problem = Problem(Simulation(network, Observation()), parameters, target)
    value = lambda point: problem.value(point, jax.random.key(0))[0]  # noqa: E731
    return jax.value_and_grad(value), (problem.parameters.start(),)


CASES = {
    "candidates_1": partial(candidates, gradient=False, candidates=1),
    "candidates_1_gradient": partial(candidates, gradient=True, candidates=1),
    **{name: partial(candidates, **settings) for name, settings in MANY.items()},
    "fit_step": fit_step,
}


def has_compiler() -> bool:
    """Whether JAX's CUDA packages are installed."""
    return any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13))


def compile_for_h100(function, arguments):
    """The compiled program, for arguments of these shapes."""
    import jax
    from jax.experimental import topologies

    device = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1").devices[0]
    there = jax.sharding.SingleDeviceSharding(device)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=there), arguments)
    with jax.default_device(device):
        return jax.jit(function).lower(*shapes).compile()


def main(arguments: list[str]) -> int:
    """Compile the cases that the command line names, or all."""
    names = [argument.removeprefix("case=") for argument in arguments] or list(CASES)
    unknown = [name for name in names if name not in CASES]
    if unknown:
        print(f"error: unknown case {', '.join(unknown)}; choose from {', '.join(CASES)}", file=sys.stderr)
        return 2
    if not has_compiler():
        print("error: XLA's compiler for GPUs is missing; pip install 'fitting[cuda]' (no GPU needed)", file=sys.stderr)
        return 2
    import jax

    for name in names:
        function, values = CASES[name]()
        began = time.perf_counter()
        compiled = compile_for_h100(function, values)
        seconds = time.perf_counter() - began
        kernels, written = work_of(compiled.as_text())
        memory = compiled.memory_analysis().temp_size_in_bytes
        row = {"case": name, "kernels": kernels, "written_gb": round(written / 1e9, 1)}
        row |= {"memory_mb": round(memory / 1e6), "compile_s": round(seconds, 1), "jax": jax.__version__}
        print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
