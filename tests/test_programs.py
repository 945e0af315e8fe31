"""Programs hold no numbers of the data: other connectomes and targets find them compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fitting.data import hcp_aal2, scale_weights
from fitting.network import Network
from fitting.objective import Target
from fitting.optimize import Parameter, Problem
from fitting.predict import LinearResponse, Simulation
from fitting.programs import compiled, outlined
from fitting.signal import Observation

PARAMETERS = [
    Parameter("k", 1.5, lower=0.3, upper=30, scale="log"),
    Parameter("drive", 0.6, lower=0.3, upper=1.2, per_region=True),
    Parameter("signal_speed", "6 m/s", lower="3 m/s", upper="20 m/s", unit="m/s", scale="log"),
]


def problem(predictor: str, seed: int) -> Problem:
    """Of weights and a target of their own, on the same connections and lengths."""
    rng, own = np.random.default_rng(seed), hcp_aal2(regions=4)
    weights = own.weights.values * rng.uniform(0.5, 1, (4, 4))
    network = Network(scale_weights(own.assign(weights=(own.weights.dims, weights))))
    observation = Observation()
    predictors = {
        "response": LinearResponse(network, observation),
        "simulation": Simulation(network, observation, duration="10 s", dt="1 ms"),
    }
    return Problem(predictors[predictor], PARAMETERS, Target(jnp.corrcoef(rng.random((4, 9))), network.labels))


@pytest.mark.parametrize("predictor", ["response", "simulation"])
def test_programs_of_two_connectomes_are_one(predictor):
    texts = []
    for seed in (0, 1):
        own = problem(predictor, seed)
        arguments = own.parameters.start(), jax.random.key(0)
        run, arrays = outlined(own.value_and_grad, *arguments)
        texts.append(run.lower(arrays, *arguments).as_text())
        assert any(np.shape(array) == (4, 4) for array in arrays)
    assert texts[0] == texts[1]


def test_what_is_outlined_computes_the_same():
    """In 32 and in 64 bits, with keys and NumPy arrays in the closure, and with one compiled function for both."""
    weights, key, table = (
        np.arange(6, dtype="float32").reshape(2, 3),
        jax.random.key(3),
        {"shift": np.ones(2, "float32")},
    )

    def function(x, scale):
        noise = jax.random.normal(key, (2,), jnp.result_type(float))
        return {"sum": weights @ x * scale + noise, "shifted": jax.jit(lambda y: y + table["shift"])(x[:2])}

    program = compiled(function)
    for bits in (64, 32, 64):
        jax.config.update("jax_enable_x64", bits == 64)
        try:
            x = np.linspace(0, 1, 3).astype(f"float{bits}")
            one, other = program(x, 2.0), jax.jit(function)(x, 2.0)
            for name, value in one.items():
                assert value.dtype == other[name].dtype
                np.testing.assert_array_equal(value, other[name])
        finally:
            jax.config.update("jax_enable_x64", True)


def test_arrays_are_copied_to_the_device_once():
    weights, x = np.arange(3.0), jax.device_put(jnp.ones(3))
    program = compiled(lambda x: weights * x)
    before = np.asarray(program(x))
    with jax.transfer_guard_host_to_device("disallow"):
        np.testing.assert_array_equal(np.asarray(program(x)), before)
