"""Zero-phase recursive filters in jax.numpy, in time linear in the number of samples.

Filters are designed on the host by scipy.signal as second-order sections. To run one fast, a block
of samples is filtered by one matrix product: within a block by the impulse response, across blocks
by a state of one number per pole,

    y_block = L x_block + O s,      s' = A^B s + R x_block.

The state is put in coordinates in which white input gives states of unit variance (the input-normal
realisation, Mullis and Roberts, IEEE Trans. ASSP 24, 1976), which keeps rounding small even for
poles very close to the unit circle, so that 32-bit floats can hold a 0.1 Hz cut-off at 100 Hz.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.signal
from jax import lax
from jaxtyping import Array, Float

from fitting.errors import InputError
from fitting.signal.checks import check_band, check_cutoff

#: Samples filtered by one matrix product.
BLOCK = 32


def band_pass(band: tuple[float, float], fs: float, order: int = 3) -> np.ndarray:
    """Second-order sections of a Butterworth band-pass filter.

    Parameters
    ----------
    band : (float, float)
        Pass band in Hz.
    fs : float
        Sampling rate in Hz.
    order : int
        Order as in :func:`scipy.signal.butter` (the band-pass has twice as many poles).

    Returns
    -------
    ndarray (sections, 6)

    Raises
    ------
    InputError
        If the band is empty or reaches the Nyquist frequency.

    Examples
    --------
    >>> from fitting.signal import band_pass
    >>> band_pass((8.0, 12.0), fs=100.0).shape
    (3, 6)
    """
    _check_order(order)
    return scipy.signal.butter(order, check_band(band, fs), btype="bandpass", fs=fs, output="sos")


def low_pass(cutoff: float, fs: float, order: int = 3, kind: str = "butterworth") -> np.ndarray:
    """Second-order sections of a low-pass filter.

    Parameters
    ----------
    cutoff : float
        Cut-off in Hz (-3 dB for one pass; a zero-phase filter has -6 dB there).
    fs : float
        Sampling rate in Hz.
    order : int
    kind : str
        ``"butterworth"`` or ``"bessel"`` (flat group delay, no ringing).

    Returns
    -------
    ndarray (sections, 6)

    Raises
    ------
    InputError
        If the cut-off is not between 0 and the Nyquist frequency, or the kind is unknown.

    Examples
    --------
    >>> from fitting.signal import low_pass
    >>> low_pass(1.0, fs=100.0).shape
    (2, 6)
    """
    _check_order(order)
    cutoff = check_cutoff(cutoff, fs)
    if kind == "butterworth":
        return scipy.signal.butter(order, cutoff, btype="lowpass", fs=fs, output="sos")
    if kind == "bessel":
        return scipy.signal.bessel(order, cutoff, btype="lowpass", fs=fs, output="sos", norm="mag")
    raise InputError(f"unknown low-pass kind {kind!r}; choose butterworth or bessel")


def _check_order(order: int):
    if not isinstance(order, int | np.integer) or order < 1:
        raise InputError(f"filter order must be a whole number of at least 1; got {order!r}")


class _Blocks(NamedTuple):
    """Matrices of a filter that works on blocks of samples, for row vectors of samples."""

    direct: np.ndarray  # (B, B): samples -> filtered samples
    read: np.ndarray  # (n, B): state -> filtered samples
    write: np.ndarray  # (B, n): samples -> state
    carry: np.ndarray  # (n, n): state -> state one block later
    rest: np.ndarray  # (n,): state that a constant input of one has settled to


def _state_space(sos: np.ndarray):
    """State space ``(A, b, c, d)`` of cascaded sections in transposed direct form II, SciPy's state order."""
    a, b, c, d = np.zeros((0, 0)), np.zeros(0), np.zeros(0), 1.0
    for b0, b1, b2, _, a1, a2 in sos:
        section_a = np.array([[-a1, 1.0], [-a2, 0.0]])
        section_b = np.array([b1 - a1 * b0, b2 - a2 * b0])
        n = len(a)
        a = np.block([[a, np.zeros((n, 2))], [np.outer(section_b, c), section_a]])
        b = np.concatenate([b, section_b * d])
        c = np.concatenate([b0 * c, [1.0, 0.0]])
        d = b0 * d
    return a, b, c, d


@lru_cache(maxsize=128)
def _blocks(sos_bytes: bytes, sections: int, block: int) -> _Blocks:
    sos = np.frombuffer(sos_bytes).reshape(sections, 6)
    a, b, c, d = _state_space(sos)
    rest = scipy.signal.sosfilt_zi(sos).reshape(-1)
    # States that nothing reaches (the second one of a first-order section) have no variance; drop them.
    reached = np.abs(np.linalg.matrix_power(a, 0) @ b) > 0
    for k in range(1, len(a)):
        reached |= np.abs(np.linalg.matrix_power(a, k) @ b) > 0
    a, b, c, rest = a[np.ix_(reached, reached)], b[reached], c[reached], rest[reached]
    gramian = scipy.linalg.solve_discrete_lyapunov(a, np.outer(b, b), method="bilinear")
    root = np.linalg.cholesky((gramian + gramian.T) / 2)
    a = scipy.linalg.solve_triangular(root, a @ root, lower=True)
    b = scipy.linalg.solve_triangular(root, b, lower=True)
    rest = scipy.linalg.solve_triangular(root, rest, lower=True)
    c = c @ root
    # Likewise states that the output never sees (a pole and a zero of two sections cancel); rotate them away.
    seen = np.linalg.svd(np.stack([c @ np.linalg.matrix_power(a, k) for k in range(len(a))]))
    keep = seen[2][seen[1] > len(a) * np.finfo(float).eps * seen[1][0]]
    a, b, c, rest = keep @ a @ keep.T, keep @ b, c @ keep.T, keep @ rest
    powers = [np.eye(len(a))]
    for _ in range(block):
        powers.append(a @ powers[-1])
    response = np.array([d] + [c @ powers[k] @ b for k in range(block - 1)])
    direct = scipy.linalg.toeplitz(response, np.zeros(block)).T
    read = np.stack([c @ powers[k] for k in range(block)], axis=1)
    write = np.stack([powers[block - 1 - k] @ b for k in range(block)], axis=0)
    return _Blocks(direct, read, write, powers[block].T, rest)


def filter_blocks(sos, block: int = BLOCK) -> _Blocks:
    """Matrices that filter blocks of samples; see the module."""
    sos = np.ascontiguousarray(sos, dtype=float)
    if sos.ndim != 2 or sos.shape[1] != 6:
        raise InputError(f"sos must have shape (sections, 6), as scipy.signal designs them; got {sos.shape}")
    return _blocks(sos.tobytes(), len(sos), block)


def _filter(design: _Blocks, x, backwards: bool = False):
    """Filter blocks ``(..., count, block)`` along time, starting settled on the first sample (SciPy's ``zi * x[0]``).

    Backwards in time is the same with every matrix mirrored: nothing has to be reversed in memory.
    """
    direct, read, write, carry, rest = design
    if backwards:
        direct, read, write = direct[::-1, ::-1], read[:, ::-1], write[::-1]
    start = x[..., -1, -1:] if backwards else x[..., 0, :1]
    precision = lax.Precision.HIGHEST
    pushed = jnp.moveaxis(jnp.matmul(x, write, precision=precision), -2, 0)

    def one(state, push):
        return jnp.matmul(state, carry, precision=precision) + push, state

    _, states = lax.scan(one, start * rest, pushed, reverse=backwards)
    y = jnp.matmul(x, direct, precision=precision)
    return y + jnp.matmul(jnp.moveaxis(states, 0, -2), read, precision=precision)


def padding_length(sos: np.ndarray) -> int:
    """Samples by which :func:`sosfiltfilt` extends each end, as scipy.signal.sosfiltfilt's default."""
    sos = np.asarray(sos)
    taps = 2 * len(sos) + 1
    taps -= min(int((sos[:, 2] == 0).sum()), int((sos[:, 5] == 0).sum()))
    return 3 * taps


def check_longer_than_padding(sos: np.ndarray, samples: int) -> int:
    """:func:`padding_length`, refusing signals that are not longer."""
    edge = padding_length(sos)
    if samples <= edge:
        raise InputError(
            f"signal of {samples} samples is too short for this filter, which extends each end by {edge} samples; "
            f"it must be longer than that"
        )
    return edge


def sosfiltfilt(sos: np.ndarray, x: Float[Array, ...], axis: int = 0) -> Float[Array, ...]:
    """Filter forwards and backwards: no phase shift, twice the attenuation.

    Parameters
    ----------
    sos : ndarray (sections, 6)
        Second-order sections from scipy.signal or :func:`band_pass`, :func:`low_pass`; not traced.
    x : array
        Real signals; filtered along ``axis``, everything else is batch.
    axis : int
        Time axis. SciPy's default is the last one, here it is the first: signals are (time, region).

    Returns
    -------
    array
        As :func:`scipy.signal.sosfiltfilt` with its default odd padding.

    Raises
    ------
    InputError
        If the signal is not longer than the padding.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fitting.signal import band_pass, sosfiltfilt
    >>> t = jnp.arange(1000) / 100.0
    >>> x = jnp.stack([jnp.sin(2 * jnp.pi * 10 * t), jnp.sin(2 * jnp.pi * 30 * t)], axis=1)
    >>> y = sosfiltfilt(band_pass((8.0, 12.0), fs=100.0), x)
    >>> [round(float(v), 3) for v in y[400:600].std(0)]
    [0.707, 0.0]
    """
    x = _floating(x)
    # Of the signal's own precision: JAX mixes up what it has traced with 64 and with 32 bits by the same NumPy array.
    design = _Blocks(*(np.asarray(matrix, x.dtype) for matrix in filter_blocks(sos)))
    return _both_ways(design, x, check_longer_than_padding(sos, x.shape[axis]), axis)


@partial(jax.jit, static_argnames=("edge", "axis"))
def _both_ways(design: _Blocks, x, edge: int, axis: int):
    """Forwards and backwards, each end extended by so many samples; one program even where nothing else is compiled."""
    x = jnp.moveaxis(x, axis, -1)
    samples = x.shape[-1]
    first, last = x[..., :1], x[..., -1:]
    head = 2 * first - x[..., edge:0:-1]
    tail = 2 * last - x[..., -2 : -edge - 2 : -1]
    # Whole blocks: a filter settled on the first sample stays settled while that sample is repeated.
    block = design.direct.shape[0]
    extra = -(samples + 2 * edge) % block
    repeated = jnp.broadcast_to(head[..., :1], (*head.shape[:-1], extra))
    blocks = jnp.concatenate([repeated, head, x, tail], axis=-1).reshape(*x.shape[:-1], -1, block)
    y = _filter(design, _filter(design, blocks), backwards=True).reshape(*x.shape[:-1], -1)
    return jnp.moveaxis(y[..., extra + edge : extra + edge + samples], -1, axis)


def _floating(x):
    x = jnp.asarray(x)
    if jnp.iscomplexobj(x):
        raise InputError("filters take real signals; got complex ones")
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jax.dtypes.canonicalize_dtype(float))
