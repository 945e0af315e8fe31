"""Filters without phase shift, of two kinds: Butterworth run both ways, and MNE's finite impulse responses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
import scipy.signal
from jaxtyping import Array, Float

from fitting.errors import InputError
from fitting.signal.checks import check_band, check_cutoff
from fitting.signal.filters import band_pass, low_pass, sosfiltfilt

#: Kinds of filters by name.
FILTERS = ("butterworth", "fir")


@runtime_checkable
class ZeroPhase(Protocol):
    """A filter without phase shift: what it does to signals, and to their amplitude at each frequency."""

    def __call__(self, x: Float[Array, ...], axis: int = 0) -> Float[Array, ...]:
        """Filter signals along an axis."""

    def gain(self, frequencies: Float[np.ndarray, " frequency"]) -> Float[np.ndarray, " frequency"]:
        """Amplitude of a passed sine over that of the sine itself, at frequencies in Hz."""


@dataclass(frozen=True, eq=False)
class BothWays:
    """A recursive filter run forwards and backwards: see :func:`fitting.signal.sosfiltfilt`."""

    sos: np.ndarray
    fs: float

    def __call__(self, x: Float[Array, ...], axis: int = 0) -> Float[Array, ...]:
        """See :class:`ZeroPhase`."""
        return sosfiltfilt(self.sos, x, axis)

    def gain(self, frequencies):
        """See :class:`ZeroPhase`."""
        shape = np.shape(frequencies)
        return np.abs(scipy.signal.sosfreqz(self.sos, np.ravel(frequencies), fs=self.fs)[1].reshape(shape)) ** 2


@dataclass(frozen=True, eq=False)
class Symmetric:
    """A finite impulse response, symmetric, of odd length, run once; ends are extended by odd reflection.

    As ``mne.filter.filter_data`` does it: ends are reflected as far as the filter reaches, at most by the signal's own
    length.
    """

    taps: np.ndarray
    fs: float

    def __call__(self, x: Float[Array, ...], axis: int = 0) -> Float[Array, ...]:
        """See :class:`ZeroPhase`."""
        x = jnp.asarray(x)
        if x.shape[axis] < 2:
            raise InputError(f"a signal of {x.shape[axis]} sample(s) is too short to be filtered")
        return _once(np.asarray(self.taps, jnp.result_type(x, float)), x, axis)

    def gain(self, frequencies):
        """See :class:`ZeroPhase`."""
        turns = 2 * np.pi * np.asarray(frequencies, float)[..., None] / self.fs
        half = len(self.taps) // 2
        return self.taps[half] + 2 * (np.cos(turns * np.arange(1, half + 1)) @ self.taps[half + 1 :])


@partial(jax.jit, static_argnames="axis")
def _once(taps, x, axis: int):
    """Convolve with symmetric taps; ends are reflected."""
    x = jnp.moveaxis(x, axis, -1)
    samples, half = x.shape[-1], len(taps) // 2
    edge = min(len(taps), samples) - 1
    head = 2 * x[..., :1] - x[..., edge:0:-1]
    tail = 2 * x[..., -1:] - x[..., -2 : -edge - 2 : -1]
    x = jnp.concatenate([head, x, tail], axis=-1)
    length = scipy.fft.next_fast_len(x.shape[-1] + len(taps) - 1, real=True)
    response = jnp.fft.rfft(taps, length)
    y = jnp.fft.irfft(jnp.fft.rfft(x, length) * response, length)
    return jnp.moveaxis(y[..., edge + half : edge + half + samples], -1, axis)


def _low_pass_taps(edge: float, width: float, fs: float) -> np.ndarray:
    """A sinc in a Hamming window, as long as a transition of ``width`` Hz beside the edge needs."""
    length = round(3.3 * fs / width)
    return scipy.signal.firwin(length + 1 - length % 2, edge + width / 2, window="hamming", fs=fs)


def fir_taps(fs: float, low: float | None, high: float) -> Float[np.ndarray, " tap"]:
    """MNE's default filter: sincs in Hamming windows whose transition bands follow from the edges.

    The transition below ``low`` is as wide as a quarter of it, at least 2 Hz and at most ``low`` itself; the one above
    ``high`` a quarter of it, at least 2 Hz and at most the rest up to the Nyquist frequency. So 8 to 12 Hz is -6 dB at
    7 and 13.5 Hz, and a low-pass at 0.2 Hz is -6 dB at 1.2 Hz.

    Parameters
    ----------
    fs : float
        Sampling rate in Hz.
    low : float or None
        Lower edge in Hz; None: a low-pass.
    high : float
        Upper edge in Hz.

    Returns
    -------
    array (tap,)
        Symmetric, of odd length.

    References
    ----------
    Gramfort et al., Frontiers in Neuroscience 7 (2013), 267; ``mne.filter.create_filter``.

    Examples
    --------
    >>> from fitting.signal import fir_taps
    >>> len(fir_taps(100.0, 8.0, 12.0)), len(fir_taps(100.0, None, 0.2))
    (165, 165)
    """
    taps = _low_pass_taps(high, min(max(0.25 * high, 2.0), fs / 2 - high), fs)
    if low is None:
        return taps
    width = min(max(0.25 * low, 2.0), low)
    below = _low_pass_taps(low - width, width, fs)
    shorter, longer = sorted((taps, below), key=len)
    pad = (len(longer) - len(shorter)) // 2
    taps, below = (np.pad(part, pad if part is shorter else 0) for part in (taps, below))
    return taps - below


def zero_phase_band_pass(kind: str, band: tuple[float, float], fs: float, order: int = 3) -> ZeroPhase:
    """A band-pass of a kind: ``"butterworth"`` of an order, or ``"fir"``."""
    if kind == "fir":
        return Symmetric(fir_taps(fs, *check_band(band, fs)), fs)
    return BothWays(band_pass(band, fs, order), _known(kind, fs))


def zero_phase_low_pass(kind: str, cutoff: float, fs: float, order: int = 3) -> ZeroPhase:
    """A low-pass of a kind: ``"butterworth"`` or ``"bessel"`` of an order, or ``"fir"``."""
    if kind == "fir":
        return Symmetric(fir_taps(fs, None, check_cutoff(cutoff, fs)), fs)
    return BothWays(low_pass(cutoff, fs, order, kind), fs)


def _known(kind: str, fs: float) -> float:
    if kind not in FILTERS:
        raise InputError(f"unknown filter {kind!r}; choose from {', '.join(FILTERS)}")
    return fs
