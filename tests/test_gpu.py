"""The same numbers on a GPU as on a CPU, and few kernels. Skipped where JAX sees no GPU, or has no CUDA packages."""

import json
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import kernels
import numpy as np
import pytest

from fitting.data import hcp_aal2
from fitting.network import Network, simulate
from fitting.objective import Objective, Target
from fitting.optimize import Parameter, Problem
from fitting.predict import LinearResponse, Simulation
from fitting.signal import Observation, envelope_fc

#: Largest difference relative to the largest number, by bits. In 32 bits a simulation of four seconds grows rounding by
#: orders of magnitude.
TOLERANCE = {64: 1e-8, 32: 2e-3}


@pytest.fixture(params=[64, 32])
def bits(request):
    jax.config.update("jax_enable_x64", request.param == 64)
    yield request.param
    jax.config.update("jax_enable_x64", True)


@pytest.fixture
def gpu():
    try:
        return jax.devices("gpu")[0]
    except RuntimeError:
        pytest.skip("JAX sees no GPU on this machine")


def problem():
    network = Network(hcp_aal2(regions=10), parameters={"drive": 0.6})
    declared = [
        Parameter("k", 2.0, 0.5, 8.0, scale="log"),
        Parameter("signal_speed", 6.0, 3.0, 20.0),
        Parameter("drive", 0.6, 0.2, 1.0, per_region=True),
    ]
    observation = Observation(low_pass=None, orthogonalize=False, transient=0.5, trim=0.25)
    target = Target(jnp.asarray(np.exp(-network.lengths / 60)), network.labels)
    return Problem(Simulation(network, observation, 4000.0, 0.5), declared, target)


def activity():
    return simulate(problem().network, {"sigma": 0.05}, duration=2000.0, dt=0.5, key=jax.random.key(3)).rates


def gradient():
    made = problem()
    return jax.jit(made.value_and_grad)(made.parameters.start(), jax.random.key(0))


def connectivity():
    signals = jnp.asarray(np.random.default_rng(0).standard_normal((1500, 8)), jnp.result_type(float))
    return jax.jit(jax.value_and_grad(lambda x: (envelope_fc(x, 100.0, (8.0, 12.0), 1.0) ** 2).sum()))(signals)


def response():
    made, observation = problem(), Observation(orthogonalize=False)
    linear = replace(made, predictor=LinearResponse(made.network, observation), loss=Objective(spectrum=0.0))
    return jax.jit(linear.value_and_grad)(linear.parameters.start(), jax.random.key(0))


@pytest.mark.parametrize("compute", [activity, gradient, connectivity, response], ids=lambda f: f.__name__)
def test_a_gpu_computes_what_a_cpu_does(compute, bits, gpu):
    found = []
    for device in (jax.devices("cpu")[0], gpu):
        with jax.default_device(device):
            result = compute()
        leaves = jax.tree.leaves(result)
        assert {leaf.devices().pop() for leaf in leaves} == {device}
        found.append([np.asarray(leaf, float) for leaf in leaves])
    for on_cpu, on_gpu in zip(*found, strict=True):
        size = max(np.abs(on_cpu).max(), 1e-6)
        np.testing.assert_allclose(on_gpu, on_cpu, rtol=0, atol=TOLERANCE[bits] * size)


def test_batches_fill_the_free_memory(gpu):
    from fitting.devices import free_bytes, side_by_side

    with jax.default_device(gpu):
        assert side_by_side(free_bytes() // 20) in (9, 10)
        assert side_by_side(free_bytes() * 2) == 1


@pytest.mark.skipif(
    not kernels.has_compiler(), reason="JAX's CUDA packages, whose compiler needs no GPU, are not installed"
)
def test_an_h100_starts_few_kernels():
    """For 60 000 steps; a loop over steps starts 400 000 and, with the gradient, 1.4 million."""
    cases = {"candidates_1": 120_000, "candidates_256_gradient": 350_000}
    command = [sys.executable, kernels.__file__, *(f"case={case}" for case in cases)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["case"] for line in lines] == list(cases)
    for line in lines:
        assert 10_000 < line["kernels"] < cases[line["case"]], line
