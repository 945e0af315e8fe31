"""Predictions that are asked for outside of any program."""

import jax
import numpy as np
import pytest
from problems import network_of

from fitting import InputError
from fitting.predict import LinearResponse, Simulation
from fitting.programs import compile_seconds
from fitting.signal import Observation

PLAIN = Observation(orthogonalize=False, transient=0.5, trim=0.5)


@pytest.fixture(params=["response", "simulation"])
def predictor(request, directed):
    network = network_of(*directed, drive=0.6, speed_bounds=(2.0, 10.0))
    if request.param == "response":
        return LinearResponse(network, PLAIN, dt=0.5, frequencies=3)
    return Simulation(network, PLAIN, duration=4500.0, dt=0.5)


def test_the_first_prediction_compiles_and_later_ones_do_not(predictor):
    """Whatever the values; inside a program the same numbers come out, to rounding (64 bits)."""
    key = jax.random.key(0)
    predictor.predict({"k": 0.5}, key).fc.block_until_ready()
    before = compile_seconds()
    got = predictor.predict({"k": 0.7}, key).fc
    assert compile_seconds() == before
    inside = jax.jit(lambda k: predictor.observe(predictor.activity({"k": k}, key), predictor.observation).fc)(0.7)
    np.testing.assert_allclose(got, inside, rtol=0, atol=1e-12)


def test_a_prediction_with_a_speed_beyond_the_bounds_is_refused(predictor):
    with pytest.raises(InputError, match="outside the network's bounds"):
        predictor.predict({"signal_speed": 11.0}, jax.random.key(0))
