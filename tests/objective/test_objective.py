"""The loss and its parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import labels_of, network_of, target_of

from fitting import InputError
from fitting.data import recording
from fitting.objective import Objective, Target, disattenuated_correlation, spectral_distance, terms_of
from fitting.predict import Prediction, Simulation
from fitting.signal import Observation, fc_correlation


def compared(objective, signals, observation, target, replicates=1):
    """Terms of activity at 100 Hz, its transient included, and its connectivity."""
    network = network_of(np.ones((signals.shape[1],) * 2), np.full((signals.shape[1],) * 2, 40.0))
    duration = 10.0 * signals.shape[0]
    simulation = Simulation(network, observation, duration=duration, dt=10.0, replicates=replicates)

    @jax.jit
    def compare(signals):
        prediction = simulation.observe(signals, observation, target.spectrum is not None)
        return terms_of(objective(prediction, target), prediction, target), prediction.fc

    return compare(signals)


def symmetric(rng, n=60):
    m = rng.standard_normal((n, n))
    return np.triu(m, 1) + np.triu(m, 1).T


def test_disattenuation_undoes_noise(rng):
    """Truth plus independent noise in both halves: the plain correlation falls, the corrected one does not.

    1770 pairs and noise as large as the signal: standard error of the corrected value about 0.03.
    """
    truth = symmetric(rng)
    halves = [jnp.asarray(truth + symmetric(rng)) for _ in range(2)]
    plain = float(fc_correlation((halves[0] + halves[1]) / 2, jnp.asarray(truth)))
    assert plain == pytest.approx(np.sqrt(2 / 3), abs=0.03)
    assert float(disattenuated_correlation(halves, jnp.asarray(truth))) == pytest.approx(1.0, abs=0.1)


def test_disattenuation_of_disagreeing_or_constant_halves_is_finite(rng):
    a, zero = jnp.asarray(symmetric(rng, 5)), jnp.zeros((5, 5))
    for first, second in ((a, -a), (zero, zero), (a, zero)):
        value, gradient = jax.jit(jax.value_and_grad(disattenuated_correlation))([first, second], a)
        assert np.isfinite(float(value))
        assert np.isfinite(np.asarray(gradient)).all()


@pytest.mark.parametrize("measure", ["correlation", "concordance"])
@pytest.mark.parametrize("replicates", [1, 2])
@pytest.mark.parametrize("sampling_variance", [0.0, 0.01])
def test_a_prediction_that_is_not_finite_has_no_loss(measure, replicates, sampling_variance, rng):
    """A fit must see it: a loss of one would look like a model that predicts nothing."""
    target = target_of(symmetric(rng, 5))
    broken = jnp.asarray(np.stack([symmetric(rng, 5)] * replicates)).at[0, 1, 2].set(jnp.nan)
    prediction = Prediction(broken, None, jnp.zeros(()))
    objective = Objective(measure=measure, sampling_variance=sampling_variance)
    terms = terms_of(objective(prediction, target), prediction, target)
    assert np.isnan([float(terms.loss), float(terms.fc_correlation)]).all()


def test_terms_tell_how_reliable_a_prediction_is(rng):
    """Of halves with a common part and noise as large as it, half of the variance is shared; 1770 pairs: ± 0.05."""
    truth = symmetric(rng)
    halves = jnp.asarray(np.stack([truth + symmetric(rng) for _ in range(2)]))
    target = target_of(truth)
    reliability = lambda replicates: float(  # noqa: E731
        terms_of(jnp.zeros(()), Prediction(replicates, None, jnp.zeros(())), target).reliability
    )
    assert reliability(halves) == pytest.approx(0.5, abs=0.07)
    assert reliability(halves[:1]) == 1.0
    assert reliability(jnp.zeros((2, 60, 60))) == 1.0


def test_loss_is_the_sum_of_its_terms(rng):
    observation = Observation(transient=1.0, trim=0.0, low_pass=None, orthogonalize=False)
    objective = Objective(fc=2.0, spectrum=3.0, disattenuate=False)
    signals = rng.standard_normal((2000, 4))
    labels = labels_of(4)
    target = Target.of_recordings([recording(signals, 100.0, labels, units="model")], observation)
    assert target.seconds == 20.0
    terms, fc = compared(objective, jnp.asarray(rng.standard_normal((2100, 4))), observation, target)
    expected = 2 * (1 - terms.fc_correlation) + 3 * terms.spectrum
    np.testing.assert_allclose(terms.loss, expected, rtol=1e-12)
    assert fc.shape == (4, 4)
    same, _ = compared(objective, jnp.asarray(np.concatenate([signals[:100], signals])), observation, target)
    np.testing.assert_allclose(same.fc_correlation, 1.0, atol=1e-12)
    np.testing.assert_allclose(same.spectrum, 0.0, atol=1e-12)


def test_silence_has_derivatives_of_any_order():
    loud = jnp.array([[1.0, 2.0], [0.0, 3.0]])

    def distance(x):
        return spectral_distance(jnp.stack([x, 2 * x]), jnp.full((2, 2), 1.5))

    derivatives = jax.grad(distance), jax.jacfwd(jax.jacfwd(distance))
    values = (distance(loud), *(jax.jit(derivative)(loud) for derivative in derivatives))
    assert all(np.isfinite(each).all() for each in values)
    assert float(values[1][1, 0]) == 0.0
    assert float(values[2][1, 0, 1, 0]) == 0.0
    # What is not a number stays so.
    assert np.isnan(distance(loud.at[0, 0].set(jnp.nan)))


def test_spectra_need_model_units(rng):
    signals, labels = rng.standard_normal((2000, 3)), labels_of(3)
    observation = Observation(orthogonalize=False, transient=0.0)
    tesla = Target.of_recordings([recording(signals, 100.0, labels, units="T")], observation)
    assert tesla.spectrum is None
    terms, _ = compared(Objective(), jnp.asarray(signals), observation, tesla, replicates=2)
    assert float(terms.spectrum) == 0.0
    model = [recording(signals, 100.0, labels, units="model")]
    assert Target.of_recordings(model, observation).spectrum.shape == (len(observation.frequencies), 3)
    assert Target.of_recordings(model, observation, spectrum=False).spectrum is None


def test_power_shows_in_the_spectral_term_only(rng):
    """Ten times the amplitude is two decades of power everywhere."""
    observation = Observation(transient=0.0, orthogonalize=False)
    signals, labels = rng.standard_normal((2000, 4)), labels_of(4)
    objective = Objective(disattenuate=False)
    target = Target.of_recordings([recording(signals, 100.0, labels, units="model")], observation)
    terms, _ = compared(objective, jnp.asarray(10 * signals), observation, target)
    np.testing.assert_allclose(terms.spectrum, 4.0, rtol=1e-10)
    np.testing.assert_allclose(terms.fc_correlation, 1.0, rtol=1e-10)


def test_silence_has_a_finite_loss_and_gradient():
    observation = Observation(transient=0.0, orthogonalize=False)
    target = target_of(jnp.ones((3, 3)), spectrum=jnp.ones((77, 3)))
    loss = lambda x: compared(Objective(), x, observation, target, replicates=2)[0].loss  # noqa: E731
    value, gradient = jax.value_and_grad(loss)(jnp.zeros((2000, 3)))
    assert np.isfinite(float(value))
    assert np.isfinite(np.asarray(gradient)).all()


@pytest.mark.parametrize(
    ("made", "settings", "words"),
    [
        (Objective, {"fc": -1.0}, "negative"),
        (Objective, {"fc": 0.0, "spectrum": 0.0}, "all zero"),
        (Objective, {"sampling_variance": -0.1}, "sampling_variance must not be negative"),
        (Observation, {"spectrum_band": (5.0, 5.0)}, "empty"),
        (Observation, {"spectrum_window": 0.0}, "spectrum_window must be positive"),
    ],
)
def test_bad_settings_get_a_sentence(made, settings, words):
    with pytest.raises(InputError, match=words):
        made(**settings)


def test_a_target_needs_a_label_for_every_region():
    with pytest.raises(InputError, match=r"connectivity is \(3, 3\), and it has 2 labels"):
        Target(jnp.ones((3, 3)), labels_of(2))


def test_replicates_of_any_number_are_averaged_by_pairs(rng):
    """Three replicates: the mean product of all pairs is what they share; of one, the correlation is the plain one."""
    truth = symmetric(rng, 12)
    parts = [truth + 0.7 * symmetric(rng, 12) for _ in range(3)]
    upper = np.triu_indices(12, 1)
    a = np.array([part[upper] - part[upper].mean() for part in parts])
    t = truth[upper] - truth[upper].mean()
    shared = np.mean([(a[0] * a[1]).mean(), (a[0] * a[2]).mean(), (a[1] * a[2]).mean()])
    expected = (a.mean(0) * t).mean() / np.sqrt(shared * (t**2).mean())
    found = disattenuated_correlation(jnp.asarray(np.array(parts)), jnp.asarray(truth))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    one = jnp.asarray(parts[0])
    plain = fc_correlation(one, jnp.asarray(truth))
    np.testing.assert_allclose(disattenuated_correlation([one], jnp.asarray(truth)), plain, rtol=1e-12)


def test_sampling_variance_takes_what_noise_would(rng):
    """Noise of variance v in every pair leaves r sqrt(s / (s + v)) of a correlation r with pairs of variance s."""
    observation = Observation(transient=0.0, trim=0.0, orthogonalize=False)
    signals, target = jnp.asarray(rng.standard_normal((2000, 5))), target_of(symmetric(rng, 5))
    plain, fc = compared(Objective(disattenuate=False), signals, observation, target)
    noisy, _ = compared(Objective(disattenuate=False, sampling_variance=0.02), signals, observation, target)
    pairs = np.asarray(fc)[np.triu_indices(5, 1)]
    left = np.sqrt(pairs.var() / (pairs.var() + 0.02))
    np.testing.assert_allclose(1 - noisy.loss, (1 - plain.loss) * left, rtol=1e-12)
    np.testing.assert_allclose(noisy.fc_correlation, plain.fc_correlation, rtol=1e-12)


@pytest.mark.parametrize("replicates", [1, 2])
def test_constant_connectivity_has_no_gradient_whatever_the_sampling_variance(replicates, rng):
    target, fc = target_of(symmetric(rng, 5)), jnp.asarray(symmetric(rng, 5))
    objective = Objective(sampling_variance=0.01)

    def loss(size):
        return objective(Prediction(jnp.stack([size * fc] * replicates), None, jnp.zeros(())), target)

    assert jax.value_and_grad(loss)(0.0) == (1.0, 0.0)


@pytest.mark.slow
def test_a_target_of_several_recordings_is_their_average(rng):
    """Runs count by their length within a subject, subjects alike, and bad segments not at all."""
    observation = Observation(fs=100.0, band=(8.0, 12.0), low_pass=1.0)
    labels = ["A.L", "B.L", "C.L"]

    def made(seconds, **more):
        return recording(rng.standard_normal((round(100 * seconds), 3)), 100.0, labels, **more)

    runs = [made(30, subject="1"), made(10, subject="1", run="2"), made(20, subject="2")]
    fcs = [np.asarray(observation.fc(jnp.asarray(r.values), 100.0)) for r in runs]
    target = Target.of_recordings(runs, observation)
    np.testing.assert_allclose(target.fc, ((0.75 * fcs[0] + 0.25 * fcs[1]) + fcs[2]) / 2, rtol=1e-12)
    assert target.seconds == 60.0
    artefact = runs[0].values.copy()
    artefact[1000:1200] = np.nan
    cut = recording(artefact, 100.0, labels, bad=[(10.0, 12.0)])
    parts = [np.asarray(observation.fc(jnp.asarray(runs[0].values[a:b]), 100.0)) for a, b in ((0, 1000), (1200, 3000))]
    target = Target.of_recordings([cut], observation)
    np.testing.assert_allclose(target.fc, (10 * parts[0] + 18 * parts[1]) / 28, rtol=1e-12)
    assert target.seconds == 28.0
    with pytest.raises(InputError, match="same regions in the same order"):
        Target.of_recordings([runs[0], runs[1].isel(region=[1, 0, 2])], observation)
    still = runs[0].copy()
    still[:, 1] = 1.5
    with pytest.raises(InputError, match=r"is constant in B\.L, so that it has no connectivity there"):
        Target.of_recordings([still], observation)
    with pytest.raises(InputError, match="at least one recording"):
        Target.of_recordings([], observation)
    with pytest.raises(InputError, match="no stretch without bad segments is as long as 4 s"):
        Target.of_recordings([made(3)], observation)
