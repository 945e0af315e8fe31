"""Networks of many subjects, decimation on the fly, and estimates of cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import connectome_of, network_of

from fitting import InputError
from fitting.network import DelayBounds, Network, decimate, simulate, simulate_decimated
from fitting.predict import measured_cost
from fitting.predict.cost import memory
from fitting.signal import Decimator


@pytest.fixture
def subjects(rng):
    weights = rng.uniform(0.1, 1, (3, 4, 4))
    weights[0, 1, 2] = 0.0  # a connection that one subject lacks
    return weights, rng.uniform(20, 120, (3, 4, 4))


def test_all_subjects_at_once_are_each_alone(subjects):
    weights, lengths = subjects
    network = network_of(weights[0], lengths[0], drive=0.6, speed_bounds=(1.0, 8.0)).for_connectomes(weights, lengths)
    values = {"k": 0.5, "signal_speed": 3.0}

    def together(w, length):
        return simulate(
            network, values | {"weights": w, "lengths": length}, duration=60.0, dt=0.25, key=jax.random.key(1)
        ).rates

    batch = jax.jit(jax.vmap(together))(jnp.asarray(weights), jnp.asarray(lengths))
    for w, length, rates in zip(weights, lengths, batch, strict=True):
        alone = network_of(w, length, drive=0.6, speed_bounds=(1.0, 8.0))
        expected = simulate(alone, values, duration=60.0, dt=0.25, key=jax.random.key(1)).rates
        np.testing.assert_allclose(rates, expected, atol=1e-12)


def test_lengths_outside_the_plan_never_give_a_wrong_number(subjects):
    weights, lengths = subjects
    network = network_of(weights[1], lengths[1], drive=0.6)
    with pytest.raises(InputError, match="length of connection"):
        simulate(network, {"lengths": jnp.asarray(lengths[2])}, duration=10.0, dt=0.5)
    run = jax.jit(lambda length: simulate(network, {"lengths": length}, duration=10.0, dt=0.5).rates)
    assert np.isnan(np.asarray(run(jnp.asarray(lengths[2])))).any()
    assert np.isfinite(np.asarray(run(jnp.asarray(lengths[1])))).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shortest": np.full((2, 2), 60.0), "longest": np.full((2, 2), 70.0)}, "shortest <= lengths"),
        ({"shortest": np.ones((3, 3)), "longest": np.ones((3, 3))}, "bounds of lengths are"),
    ],
)
def test_bad_length_bounds(settings, words, unchecked):
    with pytest.raises(InputError, match=words):
        Network(connectome_of(np.ones((2, 2)), np.full((2, 2), 50.0)), bounds=DelayBounds(**settings))


def test_bad_subjects(unchecked):
    with pytest.raises(InputError, match="subject, target, source"):
        network_of(np.ones((2, 2)), np.ones((2, 2))).for_connectomes(np.ones((2, 2)), np.ones((2, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("piece", [250.0, 370.0, 5000.0])
def test_decimating_on_the_fly_is_decimating_the_whole(piece, directed, monkeypatch):
    monkeypatch.setattr(decimate, "PIECE", piece)
    network = network_of(*directed, drive=0.6, speed_bounds=(1.0, 8.0))
    settings = {"duration": 2000.0, "dt": 0.5, "key": jax.random.key(2)}
    decimator = Decimator(20)

    def whole(values):
        x = simulate(network, values, **settings).rates
        state, y = decimator(decimator.start(x[0]), x)
        return jnp.concatenate([y, decimator.finish(state)])[decimator.delay :]

    def pieces(values):
        return simulate_decimated(network, values, fs=100.0, **settings).rates

    values = {"k": 0.7, "signal_speed": 3.0, "sigma": 0.05}
    np.testing.assert_allclose(pieces(values), whole(values), atol=1e-12)
    ours = jax.grad(lambda v: (pieces(v) ** 3).sum())(values)
    theirs = jax.grad(lambda v: (whole(v) ** 3).sum())(values)
    for name in values:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9)


@pytest.mark.slow
def test_memory_of_a_decimated_gradient_hardly_grows_with_time(directed):
    network = network_of(*directed, drive=0.6)

    def memory(duration):
        def loss(k):
            run = simulate_decimated(network, {"k": k}, duration=duration, dt=0.5, fs=100.0, key=jax.random.key(0))
            return (run.rates**2).mean()

        return jax.jit(jax.grad(loss)).lower(1.0).compile().memory_analysis().temp_size_in_bytes

    every_step = 90_000 * 2 * network.regions * 8
    assert memory(50_000.0) - memory(5_000.0) < 0.2 * every_step


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"fs": 300.0, "dt": 0.5, "duration": 1000.0}, "whole number of times"),
        ({"fs": 100.0, "dt": 0.5, "duration": 1004.0}, "whole number of samples"),
    ],
)
def test_decimation_that_does_not_fit(settings, words, directed):
    with pytest.raises(InputError, match=words):
        simulate_decimated(network_of(*directed), {}, **settings)


@pytest.mark.slow
def test_measured_cost_grows_with_steps_and_candidates(directed):
    network = network_of(*directed, drive=0.6)
    one = measured_cost(network, duration=20_000.0, dt=0.5)
    two = measured_cost(network, duration=40_000.0, dt=0.5)
    assert (memory(network, 80_000), memory(network, 40_000)) == (
        2 * memory(network, 40_000),
        2 * memory(network, 20_000),
    )
    assert 1.5 < two.bytes / one.bytes < 2.5
    four = measured_cost(network, duration=20_000.0, dt=0.5, candidates=4)
    assert 2.5 < four.bytes / one.bytes < 6
    forward = measured_cost(network, duration=20_000.0, dt=0.5, gradient=False)
    assert forward.bytes < one.bytes
    assert str(one).startswith(f"{one.bytes / 1e6:,.0f} MB, about ")
