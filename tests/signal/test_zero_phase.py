"""Filters without phase shift: MNE's finite impulse responses, and what linear response makes of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fitting import InputError
from fitting.signal import Observation, envelope_fc, fir_taps, zero_phase_band_pass, zero_phase_low_pass


@pytest.mark.parametrize(("samples", "fs"), [(6000, 100.0), (400, 100.0), (150, 100.0), (3000, 250.0)])
@pytest.mark.parametrize("band", [(8.0, 12.0), (1.0, 4.0), (30.0, 45.0), (None, 0.2), (None, 1.0)])
def test_fir_filters_are_those_of_mne(samples, fs, band, rng):
    """To 1e-10 in 64 bits, drifts and signals shorter than the filter included."""
    mne = pytest.importorskip("mne", reason="mne is not installed")
    x = rng.standard_normal((3, samples)).cumsum(1)
    expected = mne.filter.filter_data(x.copy(), fs, *band, verbose="error")
    low, high = band
    design = zero_phase_low_pass("fir", high, fs) if low is None else zero_phase_band_pass("fir", band, fs)
    np.testing.assert_allclose(design(jnp.asarray(x), axis=-1), expected, atol=1e-10 * np.abs(x).max())
    np.testing.assert_allclose(design(jnp.asarray(x.T), axis=0).T, expected, atol=1e-10 * np.abs(x).max())


def test_edges_of_the_fir_filters():
    """8 to 12 Hz is -6 dB at 7 and 13.5 Hz; a low-pass at 0.2 Hz is -6 dB at 1.2 Hz."""
    gain = zero_phase_band_pass("fir", (8.0, 12.0), 100.0).gain(np.array([7.0, 10.0, 13.5]))
    np.testing.assert_allclose(gain, [0.5, 1.0, 0.5], atol=3e-3)
    assert zero_phase_low_pass("fir", 0.2, 100.0).gain(np.array([1.2]))[0] == pytest.approx(0.5, abs=5e-3)
    assert len(fir_taps(100.0, 8.0, 12.0)) % 2 == 1


@pytest.mark.parametrize("kind", ["butterworth", "fir"])
def test_gains_are_what_sines_keep(kind):
    """The amplitude of a long sine in the middle of a signal, at several frequencies."""
    time = np.arange(6000) / 100.0
    for design in (zero_phase_band_pass(kind, (8.0, 12.0), 100.0), zero_phase_low_pass(kind, 1.0, 100.0)):
        for frequency in (0.5, 1.5, 7.5, 10.0, 13.0):
            y = np.asarray(design(jnp.asarray(np.sin(2 * np.pi * frequency * time))[:, None]))[2000:4000, 0]
            amplitude = 2 * np.abs(np.mean(y * np.exp(-2j * np.pi * frequency * time[2000:4000])))
            assert amplitude == pytest.approx(abs(design.gain(np.array([frequency]))[0]), abs=2e-3)


def test_envelope_connectivity_with_fir_filters_is_a_loop_over_mne(rng):
    """Orthogonalised, with a low-pass, pair by pair: 1e-8 in 64 bits."""
    mne = pytest.importorskip("mne", reason="mne is not installed")
    import scipy.signal

    x = rng.standard_normal((3000, 4)) @ rng.standard_normal((4, 4))
    z = scipy.signal.hilbert(mne.filter.filter_data(x.T.copy(), 100.0, 8.0, 12.0, verbose="error"))

    def smooth(envelope):
        return mne.filter.filter_data(envelope, 100.0, None, 0.2, verbose="error")

    expected = np.zeros((4, 4))
    for i in range(4):
        for j in range(4):
            if i != j:
                rest = np.abs(np.imag(z[i] * z[j].conj() / np.abs(z[j])))
                expected[i, j] = np.corrcoef(smooth(rest), smooth(np.abs(z[j])))[0, 1]
    found = envelope_fc(jnp.asarray(x), 100.0, (8.0, 12.0), 0.2, filter="fir")
    np.testing.assert_allclose(found, (expected + expected.T) / 2, atol=1e-8)


@pytest.mark.slow
def test_gradients_of_fir_filters_are_central_differences(rng):
    x = jnp.asarray(rng.standard_normal((600, 3)))
    direction = jnp.asarray(rng.standard_normal((600, 3)))
    loss = lambda x: (envelope_fc(x, 100.0, (8.0, 12.0), 1.0, filter="fir") ** 2).sum()  # noqa: E731
    slope = (jax.grad(loss)(x) * direction).sum()
    step = 1e-5
    central = (loss(x + step * direction) - loss(x - step * direction)) / (2 * step)
    np.testing.assert_allclose(slope, central, rtol=1e-6)


def test_unknown_filters_are_refused():
    with pytest.raises(InputError, match="unknown filter 'iir'; choose from butterworth, fir"):
        Observation(filter="iir")
    with pytest.raises(InputError, match="unknown filter 'iir'"):
        zero_phase_band_pass("iir", (8.0, 12.0), 100.0)
    assert "FIR as MNE's" in str(Observation(filter="fir"))
