"""Programs are laid out otherwise for a GPU; run on a CPU, they must give the numbers of those for a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import network_of

from fitting import devices
from fitting.network import Adjoint, delays, simulate

DT = 0.25


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Fewer written out, fewer summed at once: programs of the same kind that compile quickly on a CPU."""
    monkeypatch.setattr(delays, "UNROLLED", 4)
    monkeypatch.setattr(delays, "SERIAL", 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bounds", "blocks", "horizon"),
    [
        ((3.0, 20.0), [8, 2], None),  # an inner loop is written out whole, and two turns of the outer one
        ((2.0, 6.0), [28, 7], None),  # more steps than are written out: 4 and 3
        ((3.0, 160.0), [1], 13.0),
    ],
)
def test_gives_the_numbers_of_one_for_a_cpu(monkeypatch, bounds, blocks, horizon, directed):
    """Values to 1e-12, gradients for every kind of parameter to 1e-10, 103 ms: not a whole number of blocks."""
    weights, lengths = directed
    network = network_of(weights, lengths, speed_bounds=bounds, drive=0.6)
    plan = network.delays(DT, gpu=True)
    assert [level.block for level in plan.levels] == blocks
    assert max(level.incoming.real.shape[1] for level in plan.levels) > delays.SERIAL
    values = {
        "k": jnp.asarray(0.9),
        "signal_speed": jnp.asarray(sum(bounds) / 2.1),
        "sigma": jnp.asarray(0.2),
        "wEE": jnp.linspace(15.0, 16.5, len(weights)),
        "weights": jnp.asarray(network.weights),
        "lengths": jnp.asarray(lengths),
    }

    def loss(values):
        adjoint = Adjoint("block", horizon)
        run = simulate(network, values, duration=103.0, dt=DT, key=jax.random.key(1), record=("rI",), adjoint=adjoint)
        return jnp.sum(jnp.sin(20 * run.rates) ** 2) + jnp.sum(run.recorded["rI"] ** 2), run

    found = []
    for gpu in (False, True):
        monkeypatch.setattr(devices, "on_gpu", lambda gpu=gpu: gpu)
        found.append(jax.jit(jax.value_and_grad(loss, has_aux=True))(values))
    ((_, here), gradient_here), ((_, there), gradient_there) = found
    assert float(np.ptp(here.rates)) > 0.01
    np.testing.assert_allclose(there.rates, here.rates, atol=1e-12)
    for a, b in zip(jax.tree.leaves(there.state), jax.tree.leaves(here.state), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    for name, expected in gradient_here.items():
        scale = np.abs(expected).max()
        assert scale > 0, name
        np.testing.assert_allclose(gradient_there[name], expected, atol=1e-10 * scale, err_msg=name)


@pytest.mark.slow
def test_forward_mode_gives_the_same_derivatives(monkeypatch, directed):
    monkeypatch.setattr(devices, "on_gpu", lambda: True)
    network = network_of(*directed, speed_bounds=(1.0, 8.0), drive=0.6)

    def loss(values, adjoint):
        run = simulate(network, values, duration=50.0, dt=DT, key=jax.random.key(1), adjoint=Adjoint(adjoint))
        return jnp.sum(jnp.sin(20 * run.rates) ** 2)

    values = {"k": jnp.asarray(0.9), "signal_speed": jnp.asarray(2.3), "sigma": jnp.asarray(0.2)}
    reverse = jax.jit(jax.grad(lambda v: loss(v, "block")))(values)
    forward = jax.jit(jax.jacfwd(lambda v: loss(v, "forward")))(values)
    for name in values:
        np.testing.assert_allclose(forward[name], reverse[name], rtol=1e-10, err_msg=name)
