"""Noise that all regions share: simulated, and in closed form."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import check_central_differences, network_of

from fitting import InputError
from fitting.network import simulate, simulate_noise
from fitting.optimize import Parameter
from fitting.predict import LinearResponse, Simulation
from fitting.response import cross_spectra, linearize
from fitting.signal import Observation

LOADS = {"common_1": np.array([1.5, 1.0, -0.8, 0.0, 0.4, 2.0]), "common_2": np.array([0.0, 0.7, 0.0, 0.0, -1.0, 0.3])}
OBSERVATION = Observation(band=(8.0, 12.0), low_pass=None, orthogonalize=False, transient=0.5, trim=0.5)


@pytest.fixture(scope="module")
def network(directed):
    return replace(network_of(*directed, drive=0.6), common_inputs=2)


@pytest.mark.parametrize("noise", ["ornstein_uhlenbeck", "white"])
def test_common_inputs_are_noise_added_by_hand(network, noise):
    """The same steps as private noise to which common numbers were added, with their strengths: 1e-12, float64."""
    network = replace(network, noise=noise)
    numbers = jax.random.normal(jax.random.key(0), (400, *network.noise_shape))
    own, common = numbers[..., :6], numbers[..., 6:]
    added = own + sum(load * common[..., [m]] for m, load in enumerate(LOADS.values()))
    values = {"k": 1.5, "sigma": 0.03}
    one = simulate_noise(network, values | LOADS, numbers, dt=0.5)
    other = simulate_noise(replace(network, common_inputs=0), values, added, dt=0.5)
    np.testing.assert_allclose(one.rates, other.rates, rtol=0, atol=1e-12)
    assert float(jnp.abs(one.rates - simulate_noise(network, values, numbers, dt=0.5).rates).max()) > 1e-3


def test_networks_without_common_inputs_draw_the_noise_that_they_drew(network):
    plain = replace(network, common_inputs=0)
    assert plain.noise_shape == (2, 6)
    assert network.noise_shape == (2, 8)
    assert "common_1" not in plain.parameter_names
    with pytest.raises(InputError, match="common_inputs must be 0 to 2; got 3"):
        replace(network, common_inputs=3)
    with pytest.raises(InputError, match="and 2 common inputs"):
        simulate_noise(network, {}, jnp.zeros((10, 2, 6)), dt=0.5)


def test_closed_form_is_the_equation_by_hand(network):
    """In NumPy: regions by inverse matrices, inputs by a sum over sources and ports."""
    linear = linearize(network, {"k": 1.5, "sigma": 0.03} | LOADS, dt=0.5)
    parts = {name: np.asarray(value) for name, value in vars(linear).items()}
    for f in (7.0, 10.0):
        z = np.exp(2j * np.pi * f / 1000 * 0.5)
        transfer, entering = np.zeros(6, complex), np.zeros((6, 2), complex)
        for i in range(6):
            inverse = np.linalg.inv((z - 1) / 0.5 * np.eye(2) - parts["local"][i])[linear.coupled]
            transfer[i] = inverse @ parts["entry"][i]
            for port in range(2):
                a, b, c, d = parts["noise_process"][i, port]
                entering[i, port] = inverse @ parts["noise_entry"][i, :, port] * (d + b * c / (z - a))
        power = np.diag((np.abs(entering) ** 2).sum(1)).astype(complex)
        for load in LOADS.values():
            for port in range(2):
                power += np.outer(load * entering[:, port], (load * entering[:, port]).conj())
        delayed = parts["weights"] * np.exp(-2j * np.pi * f / 1000 * parts["travel"])
        spread = np.linalg.inv(np.eye(6) - transfer[:, None] * delayed)
        expected = 2 * 0.5 / 1000 * spread @ power @ spread.conj().T
        np.testing.assert_allclose(cross_spectra(linear, np.array([f]))[0], expected, rtol=1e-9)


@pytest.mark.slow
def test_closed_form_is_that_of_long_simulations(network):
    """Envelope connectivity of 600 s, within 0.05 (a standard error of some 0.02)."""
    values = {"k": 1.5, "sigma": 0.002, "signal_speed": 5.0} | LOADS
    response = LinearResponse(network, OBSERVATION, dt=0.5)
    simulation = Simulation(network, OBSERVATION, duration=600_500.0, dt=0.5, start="steady")
    closed = np.asarray(response.predict(values, None).fc)
    sampled = np.mean([simulation.predict(values, jax.random.key(seed)).fc for seed in range(2)], axis=0)
    upper = np.triu_indices(6, 1)
    assert np.abs(closed[upper] - sampled[upper]).max() < 0.05
    without = np.asarray(response.predict(values | {name: np.zeros(6) for name in LOADS}, None).fc)
    assert np.abs(closed[upper] - without[upper]).max() > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("predictor", ["response", "simulation"])
def test_gradients_of_common_inputs_are_central_differences(network, predictor):
    """By each region's strength."""
    load = Parameter("common_1", LOADS["common_1"], -3.0, 3.0, per_region=True)
    check_central_differences(predictor, network, [load], [("common_1", 0), ("common_1", 3)])


def test_one_key_gives_one_noise(network):
    values = {"k": 1.0, "sigma": 0.01}
    runs = [simulate(network, values, duration=50.0, dt=0.5, key=jax.random.key(s)).rates for s in (0, 0, 1)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
