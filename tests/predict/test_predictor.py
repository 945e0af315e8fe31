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


def test_simulations_in_32_bits_beside_64_are_those_of_32_bits_alone(directed, float32):
    """Activity, connectivity and its gradient, which comes back in the bits of what it is taken for."""
    network, key = network_of(*directed, drive=0.6), jax.random.key(0)

    def numbers(precision):
        simulation = Simulation(network, PLAIN, duration=4500.0, dt=0.5, start="steady", precision=precision)

        def total(k):
            activity = simulation.activity({"k": k}, key)
            fc = simulation.observe(activity, PLAIN).fc
            return (fc**2).sum(), (activity, fc)

        (_, both), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(jax.numpy.asarray(0.7))
        return *both, gradient, simulation.cost()

    *alone, cost = numbers(None)
    jax.config.update("jax_enable_x64", True)
    *beside, same_cost = numbers(32)
    assert [x.dtype for x in beside] == ["float32", "float32", "float64"]
    # The steady state that it starts from is found in 64 bits.
    for x, y in zip(alone, beside, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)
    assert same_cost.bytes == cost.bytes < numbers(64)[-1].bytes
    assert numbers(None)[0].dtype == "float64"


def test_a_precision_that_there_is_not_is_refused(directed, float32):
    network = network_of(*directed)
    with pytest.raises(InputError, match="precision must be 32 or 64 bits; got 16"):
        Simulation(network, PLAIN, precision=16)
    with pytest.raises(InputError, match="JAX computes in 32 bits; 64 need its setting jax_enable_x64"):
        Simulation(network, PLAIN, precision=64)


def test_growing_modes_are_counted_once_for_the_same_parameters(directed, monkeypatch):
    """And anew for others."""
    from fitting.predict import linear_response

    asked, count = [], linear_response.unstable_roots
    monkeypatch.setattr(linear_response, "unstable_roots", lambda linear: asked.append(linear) or count(linear))
    network = network_of(*directed, drive=0.6)
    response = LinearResponse(network, Observation(orthogonalize=False))
    found = [response.unstable({"k": 0.5, "drive": drive}) for drive in (0.6, np.asarray(0.6), 0.8)]
    assert found == [0, 0, response.unstable({"drive": 0.8, "k": 0.5})]
    assert found[2] > 0
    assert len(asked) == 2
