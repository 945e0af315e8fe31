"""Symmetric orthogonalisation against its definition, and decimation in pieces against resampling the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.signal
from problems import labels_of

from fitting import InputError
from fitting.data import recording
from fitting.evaluate import split_half_ceiling
from fitting.objective import Target
from fitting.signal import Decimator, Observation, envelope_fc, resample, symmetric_orthogonalization


def mixed(rng, samples=500, regions=6):
    return rng.standard_normal((samples, regions)) @ (np.eye(regions) + 0.4 * rng.random((regions, regions)))


def test_result_is_orthogonal_and_no_step_away_is_closer(rng):
    x = mixed(rng) * [1.0, 2.0, 4.0, 1.0, 0.5, 3.0]
    y = np.asarray(symmetric_orthogonalization(jnp.asarray(x)))
    gram = y.T @ y
    np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=1e-10 * gram.max())
    # Turn the result in every plane, and stretch it.
    distance = np.sum((x - y) ** 2)
    scale = np.linalg.norm(y, axis=0)
    for i in range(6):
        for j in range(i):
            for angle in (-1e-3, 1e-3):
                generator = np.zeros((6, 6))
                generator[i, j], generator[j, i] = angle, -angle
                turned = (y / scale) @ scipy.linalg.expm(generator) * scale
                assert np.sum((x - turned) ** 2) > distance
        for stretch in (0.999, 1.001):
            factor = np.ones(6)
            factor[i] = stretch
            assert np.sum((x - y * factor) ** 2) > distance


@pytest.mark.parametrize("strength", [[1.0, 1.0, 1.0, 1.0], [1.0, 10.0, 1.0, 0.1]])
def test_result_is_that_of_the_published_iteration(strength, rng):
    """Equations 4, 6 and 8 in turns, from D = 1, as MNE-Connectivity does them; to 1e-8 of the largest value."""
    x, d = mixed(rng, regions=4) * strength, np.ones(4)
    for _ in range(3000):
        u, _, v = np.linalg.svd(x * d, full_matrices=False)
        basis = u @ v
        d = (x * basis).sum(0)
    y = symmetric_orthogonalization(jnp.asarray(x))
    np.testing.assert_allclose(y, basis * d, atol=1e-8 * np.abs(x).max())
    scaled = symmetric_orthogonalization(1e-12 * jnp.asarray(x))
    np.testing.assert_allclose(scaled, 1e-12 * y, atol=1e-20 * np.abs(x).max())


def test_orthogonal_signals_stay(rng):
    q = np.linalg.qr(rng.standard_normal((300, 4)))[0] * [1.0, 20.0, 3.0, 0.1]
    np.testing.assert_allclose(symmetric_orthogonalization(jnp.asarray(q)), q, atol=1e-12)


def test_dependent_signals_are_refused(rng):
    x = mixed(rng)
    with pytest.raises(InputError, match="linearly independent"):
        symmetric_orthogonalization(jnp.asarray(x - x.mean(1, keepdims=True)))
    with pytest.raises(InputError, match="6 of 5 samples"):
        symmetric_orthogonalization(jnp.asarray(x[:5]))


def test_connection_inherited_by_leakage_is_removed_symmetrically_only(rng):
    """Colclough et al.: A and B wax and wane together; A leaks into C; so C, made orthogonal to B alone, joins in."""
    sources = rng.standard_normal((60_000, 3))
    loud = 0.2 + np.repeat(rng.random(300), 200)[:, None] * [2.0, 2.0, 0.0] + [0.0, 0.0, 1.0]
    x = jnp.asarray((sources * loud) @ np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    settings = {"fs": 100.0, "band": (8.0, 12.0), "low_pass": 1.0}
    pairwise = envelope_fc(x, **settings)
    # C is the louder for what it takes from A, and the louder ones change less, unless all are as loud.
    symmetric = envelope_fc(x, **settings, orthogonalize="symmetric", standardize=True)
    assert float(pairwise[0, 1]) > 0.3
    assert float(symmetric[0, 1]) > 0.3
    assert float(pairwise[1, 2]) > 0.1
    assert abs(float(symmetric[1, 2])) < 0.5 * float(pairwise[1, 2])


def test_a_target_may_be_orthogonalised_symmetrically(rng):
    """Compiled, as targets and their ceilings are, to the same numbers; dependent signals are refused there, too."""
    observation = Observation(orthogonalize="symmetric", orthogonalize_simulation=False)
    one = recording(mixed(rng, 4000), 100.0, labels_of(6))
    expected = envelope_fc(jnp.asarray(one.values), 100.0, (8.0, 12.0), orthogonalize="symmetric", trim=1.0)
    np.testing.assert_allclose(Target.of_recordings([one], observation).fc, expected, rtol=1e-6, atol=1e-9)
    ceiling = split_half_ceiling([one], observation)
    assert ceiling is None or ceiling.reliability < 1
    with pytest.raises(InputError, match="linearly independent"):
        Target.of_recordings([one - one.mean("region")], observation)


def test_observation_demands_a_choice_for_the_simulation():
    with pytest.raises(InputError, match="orthogonalize_simulation"):
        Observation(orthogonalize="symmetric")
    text = str(Observation(orthogonalize="symmetric", orthogonalize_simulation=False))
    assert "recording orthogonalised symmetrically, simulation not" in text
    with pytest.raises(InputError, match="pairwise"):
        Observation(orthogonalize="both")


@pytest.mark.parametrize("factor", [2, 7, 100])
def test_response_is_as_documented(factor):
    decimator = Decimator(factor)
    frequency, response = scipy.signal.freqz(decimator.taps, worN=40_000, fs=2.0 * factor)  # new Nyquist is 1
    size = np.abs(response)
    assert np.abs(size[frequency <= 0.8] - 1).max() < 2e-4
    assert size[frequency >= 1.0].max() < 2e-4  # 80 dB is 1e-4; Kaiser's formula is good to a factor 2
    np.testing.assert_allclose(decimator.taps, decimator.taps[::-1], atol=1e-18)


def test_pieces_are_resampling_the_whole(rng):
    """Band-limited noise at 10 kHz to 100 Hz: inside, where no end is felt, to the filter's ripple."""
    samples, factor = 200_000, 100
    spectrum = np.zeros((samples // 2 + 1, 3), complex)
    spectrum[: int(35 * samples / 10_000)] = rng.standard_normal((700, 3)) + 1j * rng.standard_normal((700, 3))
    x = jnp.asarray(np.fft.irfft(spectrum, axis=0) * samples / 50)
    decimator = Decimator(factor)
    state, pieces = decimator.start(x[0]), []
    for start, stop in ((0, 100), (100, 50_000), (50_000, 50_300), (50_300, samples)):
        state, y = jax.jit(decimator)(state, x[start:stop])
        pieces.append(y)
    y = jnp.concatenate([*pieces, decimator.finish(state)])[decimator.delay :]
    whole = resample(x, samples // factor)
    assert y.shape == whole.shape
    inside = slice(decimator.delay, -decimator.delay)
    np.testing.assert_allclose(y[inside], whole[inside], atol=3e-4 * float(jnp.abs(whole).max()))
    state = decimator.start(x[0])
    state, first = decimator(state, x)
    once = jnp.concatenate([first, decimator.finish(state)])[decimator.delay :]
    np.testing.assert_allclose(y, once, atol=1e-12)


def test_what_a_decimator_refuses():
    for settings, words in (((0,), "at least 1"), ((2, 500.0), "dB"), ((2, 80.0, 1.0), "fraction")):
        with pytest.raises(InputError, match=words):
            Decimator(*settings)
    decimator = Decimator(4)
    with pytest.raises(InputError, match="multiple of 4"):
        decimator(decimator.start(jnp.zeros(2)), jnp.zeros((6, 2)))
    assert Decimator(1).delay == 0
