"""The hand-written adjoint against forward mode, checkpointed reverse mode and central differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import EVERY_NODE, network_of

from fitting.network import Adjoint, simulate

DT = 0.25


def everything(run):
    """A scalar that every part of a simulation's result enters."""
    total = jnp.sum(jnp.sin(20 * run.rates) ** 2) + jnp.sum(run.state.history**2)
    total += sum(jnp.sum(jnp.cos(x)) for x in run.state.node.values()) + jnp.sum(run.state.noise**2)
    return total + sum(jnp.sum(jnp.cos(10 * x)) for x in run.recorded.values())


def values_of(directed, rng):
    weights, lengths = directed
    n = len(weights)
    return {
        "k": jnp.asarray(0.9),
        "signal_speed": jnp.asarray(2.3),
        "sigma": jnp.asarray(0.2),
        "tau_noise": jnp.asarray(11.0),
        "drive": jnp.asarray(rng.uniform(0.5, 0.7, n)),
        "tau_E": jnp.asarray(9.0),
        "wEE": jnp.asarray(rng.uniform(15, 16.5, n)),
        "weights": jnp.asarray(weights),
        "lengths": jnp.asarray(lengths),
    }


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [(1.0, 8.0), (1.0, 20.0), (2.0, 2.5)])
@pytest.mark.parametrize("horizon", [None, 13.0])
def test_block_adjoint_is_forward_and_reverse_mode(bounds, horizon, directed, rng):
    """133 ms: three stretches, and not a whole number of blocks.

    With a horizon, forward mode has no cut, so only reverse is compared.
    """
    network = network_of(*directed, speed_bounds=bounds)
    values = values_of(directed, rng)

    def loss(values, adjoint):
        return everything(
            simulate(
                network,
                values,
                duration=133.0,
                dt=DT,
                key=jax.random.key(1),
                record=("rI",),
                adjoint=Adjoint(adjoint, horizon),
            )
        )

    block = jax.jit(jax.grad(lambda v: loss(v, "block")))(values)
    reverse = jax.jit(jax.grad(lambda v: loss(v, "checkpoint")))(values)
    for name in values:
        scale = np.abs(reverse[name]).max()
        assert scale > 0, name
        np.testing.assert_allclose(block[name], reverse[name], atol=1e-10 * scale, err_msg=name)
    forward = jax.jit(jax.jacfwd(lambda v: loss(v, "forward")))(values)
    for name in values:
        scale = np.abs(reverse[name]).max()
        np.testing.assert_allclose(forward[name], reverse[name], atol=1e-10 * scale, err_msg=name)


def test_equal_central_differences(directed, rng):
    network = network_of(*directed, speed_bounds=(1.0, 8.0))
    values = values_of(directed, rng)
    loss = jax.jit(lambda v: everything(simulate(network, v, duration=133.0, dt=DT, key=jax.random.key(1))))
    gradient = jax.grad(loss)(values)
    for name, value in values.items():
        direction = jnp.asarray(rng.standard_normal(value.shape))
        if name in ("weights", "lengths"):
            direction = direction * (directed[0] != 0)
        step = 1e-6
        central = (
            loss(values | {name: value + step * direction}) - loss(values | {name: value - step * direction})
        ) / (2 * step)
        np.testing.assert_allclose((gradient[name] * direction).sum(), central, rtol=1e-5, err_msg=name)


def test_speed_where_a_delay_is_a_whole_number_of_steps():
    """Two regions, a delay of exactly 40 steps: interpolation has a kink there, and the gradient is that of
    longer delays (slower speed), to one side."""
    weights, lengths = np.array([[0.0, 1.0], [1.0, 0.0]]), np.full((2, 2), 30.0)
    network = network_of(weights, lengths, speed_bounds=(1.0, 8.0), drive=0.6)
    loss = jax.jit(
        lambda s: (
            simulate(network, {"signal_speed": s, "k": 2.0, "sigma": 0.3}, duration=60.0, dt=DT, key=jax.random.key(4))
            .rates[-1]
            .sum()
        )
    )
    at = 3.0  # 30 mm / (3 mm/ms) / 0.25 ms = 40 steps
    step = 1e-6
    slower = (loss(at) - loss(at - step)) / step
    faster = (loss(at + step) - loss(at)) / step
    gradient = jax.grad(loss)(at)
    np.testing.assert_allclose(gradient, slower, rtol=1e-4)
    assert abs(float(faster - slower)) > 1e-3 * abs(float(slower))


def test_nearest_delays_have_no_gradient_for_speed(directed):
    network = network_of(*directed, interpolation="nearest", drive=0.6)
    loss = lambda s: simulate(network, {"signal_speed": s}, duration=20.0, dt=DT, key=jax.random.key(0)).rates.sum()  # noqa: E731
    assert float(jax.grad(loss)(3.0)) == 0.0


@pytest.mark.parametrize("preset", EVERY_NODE)
def test_every_node_has_exact_gradients(preset, directed):
    network = network_of(*directed, node=preset)
    values = {"k": jnp.asarray(0.1), "signal_speed": jnp.asarray(3.0), "sigma": jnp.asarray(0.05)}

    def loss(values, adjoint):
        run = simulate(network, values, duration=20.0, dt=0.1, key=jax.random.key(1), adjoint=Adjoint(adjoint))
        return jnp.sum(run.rates**2)

    block = jax.jit(jax.grad(lambda v: loss(v, "block")))(values)
    forward = jax.jit(jax.jacfwd(lambda v: loss(v, "forward")))(values)
    for name in values:
        np.testing.assert_allclose(block[name], forward[name], rtol=1e-9, err_msg=name)


@pytest.mark.slow
def test_batched_gradients_are_single_ones(directed):
    network = network_of(*directed, drive=0.6)
    loss = lambda k, s: jnp.sum(  # noqa: E731
        simulate(network, {"k": k, "signal_speed": s, "sigma": 0.2}, duration=30.0, dt=DT, key=jax.random.key(1)).rates
        ** 2
    )
    k, s = jnp.array([0.5, 1.0, 1.5]), jnp.array([2.0, 3.5, 9.0])
    batch = jax.vmap(jax.grad(loss, argnums=(0, 1)))(k, s)
    for i in range(3):
        single = jax.grad(loss, argnums=(0, 1))(k[i], s[i])
        np.testing.assert_allclose([batch[0][i], batch[1][i]], single, rtol=1e-10)


def test_sigma_zero_and_silence_have_finite_gradients(directed):
    network = network_of(*directed)
    gradient = jax.grad(
        lambda s: jnp.sum(simulate(network, {"sigma": s}, duration=20.0, dt=DT, key=jax.random.key(1)).rates ** 2)
    )(0.0)
    assert np.isfinite(float(gradient))


@pytest.mark.slow
def test_memory_of_the_adjoint_is_a_few_numbers_per_region_and_step(directed):
    """Doubling the length may add at most 8 numbers per region and step, in the whole compiled program."""
    network = network_of(*directed, drive=0.6)

    def temporary(duration):
        def loss(k):
            return jnp.sum(simulate(network, {"k": k}, duration=duration, dt=DT, key=jax.random.key(1)).rates ** 2)

        return jax.jit(jax.grad(loss)).lower(1.0).compile().memory_analysis().temp_size_in_bytes

    extra = temporary(8000.0) - temporary(4000.0)
    assert extra < 8 * network.regions * (4000.0 / DT) * 8
