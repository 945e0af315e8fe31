"""Envelope connectivity against an obvious double loop over SciPy and against MNE."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from fitting import InputError
from fitting.data import fc_target, match
from fitting.signal import (
    Observation,
    analytic_signal,
    envelope_fc,
    fc_correlation,
    fc_dynamics,
    fc_matrix,
    pearson,
    phase_locking,
    zscore,
)


def double_loop(x, fs, band, low_pass=None, order=3, orthogonalize=True, log=False, absolute=False, trim=0.0):
    """Hipp et al. (2012), one pair at a time, SciPy only; tf-form filters where they are stable enough."""
    sos = scipy.signal.butter(order, band, btype="band", fs=fs, output="sos")
    z = scipy.signal.hilbert(scipy.signal.sosfiltfilt(sos, x, axis=0), axis=0)
    cut = round(trim * fs)

    def smooth(envelope):
        if log:
            envelope = np.log(envelope**2)
        if low_pass is not None:
            envelope = scipy.signal.sosfiltfilt(
                scipy.signal.butter(order, low_pass, btype="low", fs=fs, output="sos"), envelope
            )
        return envelope[cut : len(envelope) - cut]

    n = x.shape[1]
    fc = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            left = np.abs((z[:, i] * z[:, j].conj() / np.abs(z[:, j])).imag) if orthogonalize else np.abs(z[:, i])
            fc[i, j] = np.corrcoef(smooth(left), smooth(np.abs(z[:, j])))[0, 1]
    fc = np.abs(fc) if absolute else fc
    return (fc + fc.T) / 2


SETTINGS = [
    {},
    {"low_pass": 1.0},
    {"low_pass": 0.2, "order": 4},
    {"orthogonalize": False, "low_pass": 1.0},
    {"log": True},
    {"absolute": True},
    {"trim": 1.5, "low_pass": 1.0},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize(("samples", "regions"), [(900, 5), (1201, 2)])
def test_envelope_fc_is_the_double_loop(settings, samples, regions, rng):
    x = rng.standard_normal((samples, regions)) @ (np.eye(regions) + 0.3)
    expected = double_loop(x, 100.0, (8.0, 12.0), **settings)
    got = envelope_fc(jnp.asarray(x), 100.0, (8.0, 12.0), **settings)
    np.testing.assert_allclose(got, expected, atol=1e-8)


def test_envelope_fc_in_32_bits(rng, float32):
    x = rng.standard_normal((6000, 6))
    for band, low_pass in (((8.0, 12.0), 1.0), ((9.5, 10.5), 0.1)):
        expected = double_loop(x, 100.0, band, low_pass)
        got = envelope_fc(jnp.asarray(x, jnp.float32), 100.0, band, low_pass)
        np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize(("log", "absolute"), [(False, False), (True, False), (False, True)])
def test_envelope_fc_is_mnes(log, absolute, rng):
    mne = pytest.importorskip("mne_connectivity")
    x = rng.standard_normal((1500, 6))
    z = np.asarray(analytic_signal(jnp.asarray(x), 100.0, (8.0, 12.0)))
    expected = mne.envelope_correlation(
        z.T[None], orthogonalize="pairwise", log=log, absolute=absolute, verbose=False
    ).get_data("dense")[0, :, :, 0]
    expected = expected + np.tril(expected, -1).T if np.allclose(np.triu(expected, 1), 0) else expected
    got = np.asarray(envelope_fc(jnp.asarray(x), 100.0, (8.0, 12.0), log=log, absolute=absolute))
    off = ~np.eye(6, dtype=bool)
    np.testing.assert_allclose(got[off], expected[off], atol=1e-8)


def test_directions_are_kept_when_not_symmetrised(rng):
    x = jnp.asarray(rng.standard_normal((900, 3)))
    fc = envelope_fc(x, 100.0, (8.0, 12.0), symmetrize=False)
    assert float(jnp.abs(fc - fc.T).max()) > 1e-3
    np.testing.assert_allclose((fc + fc.T) / 2, envelope_fc(x, 100.0, (8.0, 12.0)), atol=1e-14)


def test_standardizing_and_scale_change_nothing(rng):
    x = jnp.asarray(rng.standard_normal((900, 4)))
    fc = envelope_fc(x, 100.0, (8.0, 12.0), 1.0)
    np.testing.assert_allclose(envelope_fc(x * 1e-13, 100.0, (8.0, 12.0), 1.0), fc, atol=1e-10)
    np.testing.assert_allclose(envelope_fc(x + 5, 100.0, (8.0, 12.0), 1.0, standardize=True), fc, atol=1e-9)


@pytest.mark.parametrize("filter", ["butterworth", "fir"])
def test_both_precisions_work_in_one_process(filter, rng):
    """Each after the other, alone and in a program of its own: 1e-12 and 1e-5."""
    x = rng.standard_normal((600, 3))
    expected = envelope_fc(jnp.asarray(x), 100.0, (8.0, 12.0), low_pass=2.0, filter=filter)

    def fc(x):
        return envelope_fc(x, 100.0, (8.0, 12.0), low_pass=2.0, filter=filter)

    try:
        for x64, tolerance in ((True, 1e-12), (False, 1e-5), (True, 1e-12)):
            jax.config.update("jax_enable_x64", x64)
            for function in (fc, jax.jit(fc)):
                np.testing.assert_allclose(function(jnp.asarray(x)), expected, rtol=0, atol=tolerance)
    finally:
        jax.config.update("jax_enable_x64", True)


@pytest.mark.parametrize("orthogonalize", [True, False])
def test_signals_of_any_unit_have_the_same_connectivity(orthogonalize, rng, float32):
    """In tesla or in ampere metres; the same bits where the unit is a power of two."""
    x = rng.standard_normal((1500, 4)).astype(np.float32)
    fc = lambda x: np.asarray(envelope_fc(jnp.asarray(x), 100.0, (8.0, 12.0), 1.0, orthogonalize=orthogonalize))  # noqa: E731
    expected = fc(x)
    assert np.isfinite(expected).all()
    for power in (-80, -40, 30):
        np.testing.assert_array_equal(fc(x * np.float32(2.0) ** power), expected)
    np.testing.assert_allclose(fc(x * np.float32(1e-12)), expected, atol=2e-5)
    plain = np.asarray(fc_matrix(jnp.asarray(x)))
    np.testing.assert_array_equal(fc_matrix(jnp.asarray(x * np.float32(2.0) ** -60)), plain)


def test_downsampled_envelopes(rng):
    x = rng.standard_normal((1200, 3))
    z = np.asarray(analytic_signal(jnp.asarray(x), 100.0, (8.0, 12.0)))
    envelopes = scipy.signal.resample(np.abs(z), 12, axis=0)
    got = envelope_fc(jnp.asarray(x), 100.0, (8.0, 12.0), orthogonalize=False, envelope_fs=1.0)
    off = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(np.asarray(got)[off], np.corrcoef(envelopes.T)[off], atol=1e-10)


def test_orthogonalisation_removes_leakage(rng):
    """Two independent sources mixed without delay look connected until they are orthogonalised."""
    source = rng.standard_normal((60_000, 2))
    mixed = jnp.asarray(source @ np.array([[1.0, 0.6], [0.6, 1.0]]))
    assert float(envelope_fc(mixed, 100.0, (8.0, 12.0), orthogonalize=False)[0, 1]) > 0.5
    assert abs(float(envelope_fc(mixed, 100.0, (8.0, 12.0))[0, 1])) < 0.05  # standard error about 0.02


def awkward(rng):
    """Signals on which naive formulas divide by zero: silent, constant, identical, with a silent stretch."""
    x = rng.standard_normal((400, 6))
    x[:, 1] = 0.0
    x[:, 2] = 3.0
    x[:, 4] = x[:, 3]
    x[:200, 5] = 0.0
    return jnp.asarray(x)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [*SETTINGS[:2], *SETTINGS[3:6]], ids=str)
def test_value_and_gradient_are_finite_on_awkward_signals(settings, rng):
    x = awkward(rng)
    fc, gradient = jax.value_and_grad(lambda x: (envelope_fc(x, 100.0, (8.0, 12.0), **settings) ** 2).sum())(x)
    assert np.isfinite(fc)
    assert np.isfinite(np.asarray(gradient)).all()
    matrix = np.asarray(envelope_fc(x, 100.0, (8.0, 12.0), **settings))
    assert np.isfinite(matrix).all()
    assert (matrix[1] == 0).all()  # a silent region is connected to nothing
    if settings.get("orthogonalize", True):
        assert matrix[3, 4] == 0.0  # copies of one signal have nothing left after orthogonalisation


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("low_pass", [None, 1.0])
def test_logarithms_of_what_copies_leave_are_no_signal(low_pass, bits, rng):
    x = jnp.asarray(rng.standard_normal((3000, 3))[:, [0, 1, 1, 2]], f"float{bits}")
    fc = np.asarray(envelope_fc(x, 100.0, (8.0, 12.0), low_pass, trim=1.0, log=True))
    assert fc[1, 2] == fc[2, 1] == 0.0
    assert np.count_nonzero(fc) == 10


def test_constant_connectivity_correlates_with_nothing_and_has_no_gradient(rng):
    """Its mean leaves rounding, which is no pattern."""
    other = jnp.asarray(rng.standard_normal((80, 80)))
    r, gradient = jax.value_and_grad(fc_correlation)(jnp.full((80, 80), 0.1), other)
    assert r == 0.0
    assert (np.asarray(gradient) == 0).all()


@pytest.mark.parametrize("spread", [1e-5, 3e-6, 1e-6])
def test_small_differences_on_a_large_mean_are_a_pattern_in_32_bits_too(spread, rng):
    a, b = (np.float32(1 + spread * x) for x in rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], 3000).T)
    expected = np.corrcoef(a.astype(float), b.astype(float))[0, 1]
    assert pearson(jnp.asarray(a), jnp.asarray(b)) == pytest.approx(expected, abs=1e-5)
    assert pearson(jnp.full(3000, jnp.float32(0.1)), jnp.asarray(b)) == 0


def test_modulus_of_zero_has_gradient_zero():
    from fitting.signal import modulus

    gradient = jax.grad(lambda a: modulus(a + 0j * a).sum())(jnp.array([0.0, 2.0]))
    np.testing.assert_array_equal(gradient, [0.0, 1.0])


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_gradient_is_forward_mode_and_central_differences(settings, rng):
    x = jnp.asarray(rng.standard_normal((420, 3)))
    direction = jnp.asarray(rng.standard_normal(x.shape))
    weights = jnp.asarray(rng.standard_normal((3, 3)))
    f = lambda x: (weights * envelope_fc(x, 100.0, (8.0, 12.0), **settings)).sum()  # noqa: E731
    reverse = (jax.grad(f)(x) * direction).sum()
    forward = jax.jvp(f, (x,), (direction,))[1]
    np.testing.assert_allclose(reverse, forward, rtol=1e-9)
    step = 1e-6
    central = (f(x + step * direction) - f(x - step * direction)) / (2 * step)
    np.testing.assert_allclose(reverse, central, rtol=1e-5)


def test_plain_correlation_is_numpys(rng):
    x = rng.standard_normal((50, 4))
    expected = np.corrcoef(x.T) - np.eye(4)
    np.testing.assert_allclose(fc_matrix(jnp.asarray(x)), expected, atol=1e-14)
    np.testing.assert_allclose(zscore(jnp.asarray(x)), (x - x.mean(0)) / x.std(0), atol=1e-13)


def test_fc_correlation_uses_the_upper_triangle_only(rng):
    a, b = rng.standard_normal((2, 5, 5))
    a, b = a + a.T, b + b.T
    upper = np.triu_indices(5, 1)
    expected = np.corrcoef(a[upper], b[upper])[0, 1]
    np.testing.assert_allclose(fc_correlation(jnp.asarray(a), jnp.asarray(b)), expected, atol=1e-14)
    np.testing.assert_allclose(fc_correlation(jnp.asarray(a + 9 * np.eye(5)), jnp.asarray(b)), expected, atol=1e-14)
    assert float(fc_correlation(jnp.ones((5, 5)), jnp.asarray(b))) == 0.0


def test_phase_locking_and_dynamics_are_the_obvious_loops(rng):
    x = rng.standard_normal((600, 4))
    z = np.asarray(analytic_signal(jnp.asarray(x), 100.0, (8.0, 12.0)))
    plv = np.array([[abs(np.mean(np.exp(1j * (np.angle(a) - np.angle(b))))) for b in z.T] for a in z.T])
    np.testing.assert_allclose(phase_locking(jnp.asarray(z)), plv - np.eye(4), atol=1e-12)
    fc, fcd = fc_dynamics(jnp.asarray(x), 100.0, 2.0, 1.0)
    windows = [np.corrcoef(x[s : s + 200].T) for s in range(0, 401, 100)]
    upper = np.triu_indices(4, 1)
    np.testing.assert_allclose(fc[3], windows[3] - np.eye(4), atol=1e-12)
    np.testing.assert_allclose(fcd, np.corrcoef([w[upper] for w in windows]), atol=1e-12)


def test_taking_the_first_rows_is_not_matching_by_label(meg_fc_path):
    """The notebook compares the model's 80 regions with the first 80 of 94."""
    from fitting.data import hcp_aal2, read_fc

    connectome, fc = hcp_aal2(), read_fc(meg_fc_path)
    labels = connectome["target"].values.tolist()
    matched, dropped = match(labels, fc)
    assert len(dropped) == 14
    weights = jnp.asarray(connectome.weights.values)
    right = float(fc_correlation(weights, jnp.asarray(matched.values)))
    wrong = float(fc_correlation(weights, jnp.asarray(fc.values[:80, :80])))
    assert right == pytest.approx(0.241, abs=5e-4)
    assert wrong < 0.12


def test_label_order_does_not_matter(rng):
    matrix = rng.standard_normal((5, 5))
    matrix = matrix + matrix.T
    labels = [f"R{i}.L" for i in range(5)]
    shuffled = rng.permutation(5)
    a, _ = match(labels, fc_target(matrix, labels))
    b, _ = match(labels, fc_target(matrix[np.ix_(shuffled, shuffled)], [labels[i] for i in shuffled]))
    np.testing.assert_array_equal(a.values, b.values)


def test_one_region_and_short_signals():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((300, 1)))
    np.testing.assert_array_equal(envelope_fc(x, 100.0, (8.0, 12.0)), [[0.0]])
    with pytest.raises(InputError, match="too short"):
        envelope_fc(x[:20], 100.0, (8.0, 12.0))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: envelope_fc(x.T[0], 100.0, (8.0, 12.0)), "two dimensions"),
        (lambda x: envelope_fc(x.at[3, 1].set(jnp.nan), 100.0, (8.0, 12.0)), "time index 3, region 1"),
        (lambda x: envelope_fc(x, 100.0, (8.0, 12.0), low_pass=55.0), "low_pass 55 Hz"),
        (lambda x: envelope_fc(x, 100.0, (8.0, 12.0), trim=2.0), "leaves 0 samples"),
        (lambda x: envelope_fc(x, 100.0, (8.0, 12.0), envelope_fs=0.1), "0 envelope sample"),
        (lambda x: fc_correlation(jnp.eye(3), jnp.eye(4)), r"\(3, 3\) and \(4, 4\)"),
        (lambda x: fc_correlation(jnp.eye(2), jnp.eye(2)), "at least 3 regions"),
        (lambda x: Observation(fs=20.0), "Nyquist"),
        (lambda x: Observation(transient=-1.0), "negative"),
        (lambda x: Observation().fc(x, 20.0), "nothing above 10 Hz"),
        (lambda x: Observation(transient=9.0).fc(x, 100.0, simulated=True), "simulate longer"),
    ],
)
def test_bad_input_gets_a_sentence(call, words, unchecked):
    x = jnp.asarray(np.random.default_rng(1).standard_normal((300, 3)))
    with pytest.raises(InputError, match=words):
        call(x)


def test_observation_processes_both_sides_alike(rng):
    x = jnp.asarray(rng.standard_normal((3000, 3)))
    observation = Observation(low_pass=1.0, transient=0.0)
    np.testing.assert_array_equal(observation.fc(x, 100.0), observation.fc(x, 100.0, simulated=True))
    differs = Observation(low_pass=1.0, transient=0.0, orthogonalize_simulation=False)
    assert float(jnp.abs(differs.fc(x, 100.0) - differs.fc(x, 100.0, simulated=True)).max()) > 1e-3
    assert "simulation not" in str(differs)


@pytest.mark.parametrize("low", [None, 1.0, 4.0])
def test_effective_samples_tell_how_correlations_of_independent_signals_scatter(low, rng):
    """White noise: 12 draws of 780 pairs, so the variance is known to 1.5 %."""
    seconds, trim, draws, regions = 100.0, 2.0, 12, 40
    observation = Observation(low_pass=low, orthogonalize=False, trim=trim)
    connectivity = jax.jit(lambda x: observation.fc(x, observation.fs))
    upper = np.triu_indices(regions, 1)
    samples = round((seconds + 2 * trim) * observation.fs)
    r = [np.asarray(connectivity(jnp.asarray(rng.standard_normal((samples, regions)))))[upper] for _ in range(draws)]
    assert np.mean(np.square(r)) == pytest.approx(1 / observation.effective_samples(seconds), rel=0.1)
    assert observation.effective_samples(2 * seconds) == pytest.approx(2 * observation.effective_samples(seconds))


@pytest.mark.parametrize(
    ("regions", "samples", "dtype", "limit"),
    [
        pytest.param(94, 6000, "float64", 400e6, marks=pytest.mark.slow),
        pytest.param(94, 6000, "float32", 400e6, marks=pytest.mark.slow),
        (400, 30_000, "float32", 2e9),
    ],
)
def test_memory_of_value_and_gradient(regions, samples, dtype, limit):
    """Of the compiled program, before it runs; all pairs at all times would be 0.4 and 19 GB in 64 and 32 bits."""
    f = jax.value_and_grad(lambda x: (envelope_fc(x, 100.0, (8.0, 12.0), 1.0) ** 2).sum())
    memory = jax.jit(f).lower(jax.ShapeDtypeStruct((samples, regions), dtype)).compile().memory_analysis()
    assert memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes < limit
