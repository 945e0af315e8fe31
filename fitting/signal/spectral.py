"""Resampling, the analytic signal and power spectra by FFT."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal
from jaxtyping import Array, Complex, Float

from fitting.errors import InputError
from fitting.signal.checks import check_rate
from fitting.signal.filters import _floating


def resample(x: Float[Array, ...], num: int, axis: int = 0) -> Float[Array, ...]:
    """Resample to ``num`` samples by cutting or padding the spectrum.

    Parameters
    ----------
    x : array
        Real signals.
    num : int
        Number of samples of the result; ``fs * num / len(x)`` is the new sampling rate.
    axis : int
        Time axis.

    Returns
    -------
    array
        As :func:`scipy.signal.resample`: an ideal anti-alias filter that takes the signal as periodic.

    Raises
    ------
    InputError
        If ``num`` is not a positive whole number.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fitting.signal import resample
    >>> t = jnp.arange(600) / 100.0
    >>> y = resample(jnp.sin(2 * jnp.pi * 2 * t)[:, None], 300)
    >>> bool(jnp.abs(y[:, 0] - jnp.sin(2 * jnp.pi * 2 * t[::2])).max() < 1e-4)
    True
    """
    if not isinstance(num, int | np.integer) or num < 1:
        raise InputError(f"num must be a positive whole number of samples; got {num!r}")
    return _resample(_floating(x), int(num), axis)


@partial(jax.jit, static_argnames=("num", "axis"))
def _resample(x, num: int, axis: int):
    x = jnp.moveaxis(x, axis, -1)
    samples = x.shape[-1]
    kept = min(samples, num)
    half = kept // 2 + 1
    spectrum = jnp.fft.rfft(x)[..., :half]
    if kept % 2 == 0 and num != samples:
        # The Nyquist bin stands for two components that fold into one, or one that splits into two.
        factor = np.ones(half)
        factor[kept // 2] = 2.0 if num < samples else 0.5
        spectrum = spectrum * jnp.asarray(factor, x.dtype)
    y = jnp.fft.irfft(spectrum, n=num) * (num / samples)
    return jnp.moveaxis(y.astype(x.dtype), -1, axis)


def hilbert(x: Float[Array, ...], axis: int = 0) -> Complex[Array, ...]:
    """Analytic signal: the signal plus ``i`` times its Hilbert transform.

    Parameters
    ----------
    x : array
        Real signals.
    axis : int
        Time axis.

    Returns
    -------
    complex array
        As :func:`scipy.signal.hilbert`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fitting.signal import hilbert
    >>> t = jnp.arange(200) / 100.0
    >>> z = hilbert(jnp.cos(2 * jnp.pi * 10 * t)[:, None])
    >>> bool(jnp.abs(jnp.abs(z) - 1).max() < 1e-5)
    True
    """
    return _hilbert(_floating(x), axis)


@partial(jax.jit, static_argnames="axis")
def _hilbert(x, axis: int):
    x = jnp.moveaxis(x, axis, -1)
    samples = x.shape[-1]
    step = np.zeros(samples)
    step[0] = 1.0
    step[1 : (samples + 1) // 2] = 2.0
    if samples % 2 == 0:
        step[samples // 2] = 1.0
    z = jnp.fft.ifft(jnp.fft.fft(x) * jnp.asarray(step, x.dtype))
    return jnp.moveaxis(z, -1, axis)


def welch(
    x: Float[Array, "time region"], fs: float, window: float = 2.0
) -> tuple[np.ndarray, Float[Array, "frequency region"]]:
    """Power spectral density by averaging over half-overlapping Hann windows.

    Parameters
    ----------
    x : array (time, region)
    fs : float
        Sampling rate in Hz.
    window : float
        Window in seconds; the frequency resolution is its inverse.

    Returns
    -------
    frequencies : ndarray (frequency,)
        In Hz.
    density : array (frequency, region)
        In squared signal units per Hz, as :func:`scipy.signal.welch` (windows demeaned, one-sided).

    Raises
    ------
    InputError
        If the signal is shorter than a window.

    References
    ----------
    Welch, IEEE Trans. Audio Electroacoust. 15 (1967), 70-73.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fitting.signal import welch
    >>> f, p = welch(jnp.sin(2 * jnp.pi * 10 * jnp.arange(1000) / 100.0)[:, None], fs=100.0)
    >>> float(f[p[:, 0].argmax()])
    10.0
    """
    check_rate(fs)
    x = _floating(x)
    length = round(window * fs)
    if not 2 <= length <= x.shape[0]:
        raise InputError(
            f"a window of {window:g} s is {length} samples at {fs:g} Hz; it needs at least 2 and at most the "
            f"signal's {x.shape[0]}"
        )
    return np.fft.rfftfreq(length, 1 / fs), _density(x, float(fs), length)


@partial(jax.jit, static_argnames=("fs", "length"))
def _density(x, fs: float, length: int):
    starts = np.arange(0, x.shape[0] - length + 1, length - length // 2)
    pieces = x[starts[:, None] + np.arange(length)]
    taper = scipy.signal.get_window("hann", length)
    pieces = (pieces - pieces.mean(1, keepdims=True)) * jnp.asarray(taper, x.dtype)[:, None]
    spectrum = jnp.fft.rfft(pieces, axis=1)
    power = (spectrum.real**2 + spectrum.imag**2).mean(0) / (fs * (taper**2).sum())
    double = np.full(length // 2 + 1, 2.0)
    double[0] = 1.0
    if length % 2 == 0:
        double[-1] = 1.0
    return power * jnp.asarray(double, x.dtype)[:, None]
