"""Inhibition that gives every region the same activity: simulated, linearised, differentiated."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import check_central_differences, network_of

from fitting import InputError
from fitting.network import NODES, simulate
from fitting.optimize import Parameter
from fitting.response import linearize, unstable_roots
from fitting.signal import Observation

OBSERVATION = Observation(band=(8.0, 12.0), low_pass=None, orthogonalize=False, transient=0.5, trim=0.5)
WEIGHTS = {
    "wilson_cowan_alpha": ("wIE", 0.1),
    "wilson_cowan_notebook": ("wIE", 0.05),
}


@pytest.mark.parametrize(
    ("node", "coupling"),
    [
        ("wilson_cowan_alpha", "diffusive"),
        pytest.param("wilson_cowan_alpha", "additive", marks=pytest.mark.slow),
        pytest.param("wilson_cowan_notebook", "diffusive", marks=pytest.mark.slow),
        pytest.param("wilson_cowan_notebook", "additive", marks=pytest.mark.slow),
    ],
)
def test_every_region_is_at_its_target(directed, node, coupling):
    """At the steady state of the linearised network and in a simulation without noise, whatever couples and drives."""
    weight, target = WEIGHTS[node]
    network = replace(network_of(*directed, drive=0.65), node=node, coupling=coupling, balance=weight)
    targets = target * np.array([1.0, 0.8, 1.2, 1.0, 1.1, 0.9])
    values = {"k": 0.8, "signal_speed": 5.0, "excitation": targets}
    index = list(network.node.variables).index(network.node.coupled)
    linear = linearize(network, values, dt=0.25)
    np.testing.assert_allclose(linear.steady[:, index], targets, rtol=1e-8)
    found = network.resolve(values, jnp.float64)[2][weight]
    assert np.ptp(found) > 0.05
    if unstable_roots(linear) == 0:
        still = simulate(network, values, duration=4000.0, dt=0.25).rates[-1]
        np.testing.assert_allclose(still, targets, rtol=1e-6)
    # The same network with these weights given.
    fixed = replace(network, balance="")
    same = linearize(fixed, {n: v for n, v in values.items() if n != "excitation"} | {weight: found}, dt=0.25)
    np.testing.assert_allclose(same.steady, linear.steady, rtol=1e-6)


def test_a_target_between_two_branches_is_rested_at_and_unstable(directed):
    """With little drive the activity that is asked for is a steady state that nothing stays at."""
    network = replace(network_of(*directed, drive=0.5), balance="wIE")
    linear = linearize(network, {"k": 0.4, "signal_speed": 4.0, "excitation": 0.1}, dt=0.5)
    np.testing.assert_allclose(linear.steady[:, list(network.node.variables).index("rE")], 0.1, rtol=1e-8)
    assert unstable_roots(linear) > 0


@pytest.mark.slow
def test_the_weight_is_that_of_plasticity(directed):
    """The rule followed on the simulated network, a small step after every 200 ms, ends at the same weights."""
    network = replace(network_of(*directed, drive=0.6), balance="wIE", coupling="additive")
    values = {"k": 0.1, "signal_speed": 5.0, "excitation": 0.05}
    assert unstable_roots(linearize(network, values, dt=0.5)) == 0
    expected = network.resolve(values, jnp.float64)[2]["wIE"]
    plain, weight = replace(network, balance=""), jnp.full(6, 12.0)
    run = jax.jit(lambda weight, state: simulate(plain, values_of(weight), duration=200.0, dt=0.5, state=state))

    def values_of(weight):
        return {"k": 0.1, "signal_speed": 5.0, "wIE": weight}

    state = None
    for _ in range(400):
        done = simulate(plain, values_of(weight), duration=200.0, dt=0.5) if state is None else run(weight, state)
        state = done.state
        weight = weight + 20.0 * (done.rates[-1] - 0.05)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(weight, expected, rtol=1e-4)


@pytest.mark.parametrize("predictor", [pytest.param("response", marks=pytest.mark.slow), "simulation"])
def test_gradients_are_central_differences(directed, predictor):
    """By the target activity and by what moves the balance."""
    network = replace(network_of(*directed, drive=0.6), balance="wIE")
    parameters = [
        Parameter("k", 0.8, 0.1, 5.0),
        Parameter("wEI", 15.0, 8.0, 24.0),
        Parameter("excitation", 0.05, 0.02, 0.1),
    ]
    check_central_differences(predictor, network, parameters, [(p.name, ()) for p in parameters])


def test_what_cannot_be_balanced_is_said(directed):
    network = network_of(*directed, drive=0.6)
    with pytest.raises(InputError, match="balance: WilsonCowanStep has no weight 'wII2'; it has "):
        replace(network, balance="wII2")
    balanced = replace(network, balance="wIE")
    with pytest.raises(InputError, match="wIE is set in every region by balance; give excitation"):
        balanced.check_parameters({"wIE": 3.0})
    assert "excitation" not in network.parameter_names
    assert bool(jnp.isnan(balanced.resolve({"excitation": 0.999999}, jnp.float64)[2]["wIE"]).all())
    assert "WilsonCowanStep" in NODES["wilson_cowan_alpha"]().model
