"""Filters, resampling and analytic signal against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from jax.test_util import check_grads

from fitting import InputError
from fitting.signal import band_pass, hilbert, low_pass, resample, sosfiltfilt, welch

DESIGNS = {
    "alpha": band_pass((8.0, 12.0), 100.0),
    "one hertz wide": band_pass((9.5, 10.5), 100.0),
    "wide, order 5": band_pass((1.0, 45.0), 100.0, order=5),
    "order 8": band_pass((8.0, 12.0), 100.0, order=8),
    "low 1 Hz": low_pass(1.0, 100.0),
    "low 0.1 Hz": low_pass(0.1, 100.0),
    "order 1": low_pass(1.0, 100.0, order=1),
    "bessel": low_pass(0.2, 100.0, order=4, kind="bessel"),
}


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("samples", [200, 777, 6001])
def test_sosfiltfilt_is_scipys(name, samples, rng):
    x = rng.standard_normal((samples, 3)) + 2.0
    expected = scipy.signal.sosfiltfilt(DESIGNS[name], x, axis=0)
    got = sosfiltfilt(DESIGNS[name], jnp.asarray(x), axis=0)
    # Measured: 3e-12 for the 0.1 Hz low-pass, whose poles are 6e-3 from the unit circle; 1e-13 otherwise.
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("name", DESIGNS)
def test_sosfiltfilt_in_32_bits(name, rng, float32):
    x = rng.standard_normal((6000, 3))
    expected = scipy.signal.sosfiltfilt(DESIGNS[name], x, axis=0)
    got = sosfiltfilt(DESIGNS[name], jnp.asarray(x, jnp.float32), axis=0)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_any_axis_and_batch(axis, rng):
    x = np.moveaxis(rng.standard_normal((150, 2, 3)), 0, axis)
    sos = DESIGNS["alpha"]
    np.testing.assert_allclose(
        sosfiltfilt(sos, jnp.asarray(x), axis), scipy.signal.sosfiltfilt(sos, x, axis=axis), atol=1e-12
    )
    np.testing.assert_allclose(hilbert(jnp.asarray(x), axis), scipy.signal.hilbert(x, axis=axis), atol=1e-12)
    np.testing.assert_allclose(resample(jnp.asarray(x), 77, axis), scipy.signal.resample(x, 77, axis=axis), atol=1e-12)


@pytest.mark.parametrize("samples", [200, 201, 6000])
@pytest.mark.parametrize("channels", [1, 94])
def test_hilbert_and_resample_are_scipys(samples, channels, rng):
    x = rng.standard_normal((samples, channels))
    np.testing.assert_allclose(hilbert(jnp.asarray(x)), scipy.signal.hilbert(x, axis=0), atol=1e-12)
    for num in (1, 2, 99, 100, samples - 1, samples, samples + 1, 2 * samples):
        got, expected = resample(jnp.asarray(x), num), scipy.signal.resample(x, num, axis=0)
        np.testing.assert_allclose(got, expected, atol=1e-10, err_msg=str(num))


@pytest.mark.parametrize("samples", [512, 1001])
def test_welch_is_scipys(samples, rng):
    x = rng.standard_normal((samples, 4)) + 3.0
    for window in (1.0, 1.01):
        length = round(window * 100)
        f, expected = scipy.signal.welch(x, 100.0, nperseg=length, noverlap=length // 2, axis=0)
        got_f, got = welch(jnp.asarray(x), 100.0, window)
        np.testing.assert_allclose(got_f, f)
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-14)


def test_gradients_equal_central_differences(rng):
    x = jnp.asarray(rng.standard_normal((160, 2)))
    sos = DESIGNS["alpha"]
    for f in (
        lambda x: jnp.sin(sosfiltfilt(sos, x)).sum(),
        lambda x: jnp.sin(resample(x, 77)).sum(),
        lambda x: jnp.sin(hilbert(x).imag).sum(),
        lambda x: jnp.log(welch(jnp.asarray(x), 100.0, 0.5)[1][1:]).sum(),
    ):
        check_grads(jax.jit(f), (x,), order=1, modes=("fwd", "rev"), atol=1e-4, rtol=1e-4)


def test_jit_and_vmap_change_nothing(rng):
    x = jnp.asarray(rng.standard_normal((3, 200, 2)))
    f = lambda x: sosfiltfilt(DESIGNS["alpha"], x)  # noqa: E731
    np.testing.assert_allclose(jax.jit(jax.vmap(f))(x), np.stack([f(row) for row in x]), atol=1e-14)


def test_filters_run_along_time_not_along_regions(rng):
    """The notebook calls filtfilt(b, a, data) on (time, region): SciPy then filters across regions."""
    t = np.arange(3000) / 100.0
    fast = np.sin(2 * np.pi * 30 * t[:, None] + rng.uniform(0, 2 * np.pi, 40))
    b, a = scipy.signal.butter(3, [8, 12], btype="band", fs=100.0)
    notebook = scipy.signal.filtfilt(b, a, fast)
    ours = np.asarray(sosfiltfilt(band_pass((8.0, 12.0), 100.0), jnp.asarray(fast)))
    assert ours[500:-500].std() < 1e-3 * fast.std()  # 30 Hz is outside 8 to 12 Hz
    assert notebook.std() > 0.1 * fast.std()
    f, power = scipy.signal.welch(notebook, 100.0, axis=0, nperseg=500)
    assert abs(f[power.mean(1).argmax()] - 30.0) < 1.0  # the notebook's call leaves 30 Hz in


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: band_pass((12.0, 8.0), 100.0), "empty"),
        (lambda: band_pass((8.0, 50.0), 100.0), "Nyquist frequency 50 Hz"),
        (lambda: band_pass((0.0, 5.0), 100.0), "above 0 Hz"),
        (lambda: band_pass((8.0,), 100.0), "two frequencies"),
        (lambda: band_pass((8.0, 12.0), -1.0), "positive number"),
        (lambda: band_pass((8.0, 12.0), 100.0, order=0), "at least 1"),
        (lambda: low_pass(60.0, 100.0), "between 0 and the Nyquist"),
        (lambda: low_pass(1.0, 100.0, kind="x"), "unknown low-pass kind"),
        (lambda: sosfiltfilt(DESIGNS["alpha"], jnp.zeros((21, 2))), "21 samples is too short"),
        (lambda: sosfiltfilt(np.zeros((3, 5)), jnp.zeros((210, 2))), r"\(sections, 6\)"),
        (lambda: sosfiltfilt(DESIGNS["alpha"], jnp.zeros((210, 2), complex)), "real signals"),
        (lambda: resample(jnp.zeros((21, 2)), 0), "positive whole number"),
        (lambda: welch(jnp.zeros((21, 2)), 100.0, 2.0), "at most the"),
    ],
)
def test_bad_input_gets_a_sentence(call, words, unchecked):
    with pytest.raises(InputError, match=words):
        call()
