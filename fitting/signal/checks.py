"""Checks of signals and of filter settings, shared by the public functions of this package."""

from __future__ import annotations

import math

import jax
import numpy as np

from fitting.errors import InputError


def check_rate(fs: float):
    """Refuse a sampling rate that is not a positive number."""
    if not (isinstance(fs, int | float | np.number) and 0 < fs < math.inf):
        raise InputError(f"sampling rate fs must be a positive number of Hz; got {fs!r}")


def check_band(band, fs: float) -> tuple[float, float]:
    """A pass band ``(low, high)`` in Hz that lies between 0 and the Nyquist frequency."""
    check_rate(fs)
    try:
        low, high = (float(edge) for edge in band)
    except (TypeError, ValueError):
        raise InputError(f"band must be two frequencies in Hz, such as (8, 12); got {band!r}") from None
    if not low < high:
        raise InputError(f"band ({low:g}, {high:g}) Hz is empty; the first frequency must be below the second")
    if low <= 0:
        raise InputError(f"band ({low:g}, {high:g}) Hz must start above 0 Hz")
    if high >= fs / 2:
        raise InputError(
            f"band ({low:g}, {high:g}) Hz reaches the Nyquist frequency {fs / 2:g} Hz of data sampled at {fs:g} Hz; "
            f"use a lower band or a higher sampling rate"
        )
    return low, high


def check_cutoff(cutoff, fs: float, what: str = "low_pass") -> float:
    """A cut-off frequency in Hz between 0 and the Nyquist frequency."""
    check_rate(fs)
    try:
        cutoff = float(cutoff)
    except (TypeError, ValueError):
        raise InputError(f"{what} must be one frequency in Hz; got {cutoff!r}") from None
    if not 0 < cutoff < fs / 2:
        raise InputError(
            f"{what} {cutoff:g} Hz must lie between 0 and the Nyquist frequency {fs / 2:g} Hz of data at {fs:g} Hz"
        )
    return cutoff


def check_signals(x, what: str = "x"):
    """Refuse arrays that are not (time, region), or that hold NaN; values are looked at only if concrete."""
    if getattr(x, "ndim", np.ndim(x)) != 2:
        raise InputError(f"{what} must have two dimensions (time, region); got shape {np.shape(x)}")
    if x.shape[0] < 2:
        raise InputError(f"{what} has {x.shape[0]} time point(s); connectivity needs at least 2")
    if not isinstance(x, jax.core.Tracer) and not np.isfinite(np.asarray(x)).all():
        bad = np.argwhere(~np.isfinite(np.asarray(x)))[0]
        raise InputError(f"{what} has a value that is not finite at time index {bad[0]}, region {bad[1]}")


def check_orthogonalization(kind: bool | str):
    """Refuse a way to orthogonalise that does not exist."""
    if kind not in (True, False, "pairwise", "symmetric"):
        raise InputError(f"orthogonalize is true, false, pairwise or symmetric; got {kind!r}")
