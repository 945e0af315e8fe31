"""Functional connectivity: amplitude envelopes, plain correlation, phase locking, and how matrices compare."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Complex, Float, Int

from fitting.errors import InputError
from fitting.signal.checks import check_band, check_cutoff, check_orthogonalization, check_rate, check_signals
from fitting.signal.filters import low_pass as design_low_pass
from fitting.signal.leakage import symmetric_orthogonalization
from fitting.signal.smoothed import orthogonal_envelope, pair_products, smoothed_products
from fitting.signal.spectral import hilbert, resample
from fitting.signal.zero_phase import zero_phase_band_pass, zero_phase_low_pass

#: Bytes that the envelopes of one group of pairs may take in :func:`envelope_fc`: little more than a cache.
GROUP_BYTES = 2.5e6

#: Bytes of intermediates that a gradient of :func:`envelope_fc` keeps rather than computes again.
KEPT_BYTES = 100e6

#: Pairs of regions of which :func:`envelope_fc` works on one block of samples at once: they fit a cache.
PAIRS = 9000


def modulus(z: Complex[Array, ...]) -> Float[Array, ...]:
    """``|z|``, with gradient zero instead of NaN where ``z`` is zero; what is not a number stays so."""
    square = z.real**2 + z.imag**2
    silent = square == 0
    return jnp.where(silent, 0.0, jnp.sqrt(jnp.where(silent, 1.0, square)))


def _negligible(square):
    """Squares so far below their mean over time that they hold rounding noise only.

    Half of the exponent range: what is divided by a larger modulus, and the gradient of that,
    cannot overflow.
    """
    limit = jnp.finfo(square.dtype).tiny ** 0.5
    return lax.stop_gradient(limit * square.mean(-1, keepdims=True))


def _phase(z, smallest):
    """``z / |z|``, and zero where the square of ``|z|`` is zero or not above ``smallest``."""
    square = z.real**2 + z.imag**2
    sounds = square > smallest
    return jnp.where(sounds, z / jnp.sqrt(jnp.where(sounds, square, 1.0)), 0.0)


def _sized(x):
    """``x`` times the power of two, which is exact, that brings it to about one: squares of squares stay numbers.

    Correlation ignores scale; signals in tesla or ampere metres do not fit 32 bits four times over.
    """
    largest = lax.stop_gradient(jnp.abs(x).max())
    exponent = jnp.frexp(jnp.where(largest > 0, largest, 1.0))[1]
    return x * jnp.ldexp(jnp.ones((), x.dtype), -exponent)


def _sum(x, lanes=64):
    """Sum along the last axis, of so many strands at once: one number after the other keeps no processor busy."""
    whole = x.shape[-1] // lanes * lanes
    strands = x[..., :whole].reshape(*x.shape[:-1], -1, lanes)
    return strands.sum(-2).sum(-1) + x[..., whole:].sum(-1)


def _demean(x):
    return x - _sum(x)[..., None] / x.shape[-1]


def _rounding(x, digits=64):
    """Sum of squares along the last axis that rounding alone, of so many last digits, can give a constant."""
    return (digits * jnp.finfo(x.dtype).eps) ** 2 * lax.stop_gradient(_sum(x**2))


def _correlation(cross, left, right, left_floor=0.0, right_floor=0.0):
    """Correlation from a covariance and two variances; zero where a variance does not exceed its floor, NaN of NaN."""
    varies = ~((left <= left_floor) | (right <= right_floor))
    return jnp.where(varies, cross / jnp.sqrt(jnp.where(varies, left * right, 1.0)), 0.0)


def zscore(x: Float[Array, "time region"]) -> Float[Array, "time region"]:
    """Signals with mean zero and population standard deviation one; constant signals become zero.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fitting.signal import zscore
    >>> zscore(jnp.array([[1.0], [3.0]])).tolist()
    [[-1.0], [1.0]]
    """
    check_signals(x)
    x = x - x.mean(0)
    variance = (x**2).mean(0)
    return x / jnp.sqrt(jnp.where(variance > 0, variance, 1.0)) * (variance > 0)


def analytic_signal(
    x: Float[Array, "time region"],
    fs: float,
    band: tuple[float, float],
    order: int = 3,
    filter: str = "butterworth",
) -> Complex[Array, "time region"]:
    """Analytic signal of ``x`` in a band: zero-phase filter along time, then Hilbert transform.

    Parameters
    ----------
    x : array (time, region)
    fs : float
        Sampling rate in Hz.
    band : (float, float)
        Pass band in Hz.
    order : int
        Butterworth order.
    filter : str
        ``"butterworth"`` or ``"fir"``, see :mod:`fitting.signal.zero_phase`.

    Returns
    -------
    complex array (time, region)
        Its modulus is the amplitude envelope.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fitting.signal import analytic_signal
    >>> x = 3 * jnp.sin(2 * jnp.pi * 10 * jnp.arange(1000) / 100.0)[:, None]
    >>> round(float(jnp.abs(analytic_signal(x, 100.0, (8.0, 12.0))[500, 0])), 2)
    3.0
    """
    check_signals(x)
    return hilbert(zero_phase_band_pass(filter, band, fs, order)(x, axis=0), axis=0)


class _Smoothing(NamedTuple):
    """What happens to every envelope before envelopes are correlated; hashable, fixed before compiling."""

    fs: float
    low_pass: float | None
    order: int
    kind: str
    log: bool
    samples: int | None  # after down-sampling
    trim: int  # samples cut from each end, at the final rate

    @property
    def only_filters(self) -> bool:
        """Whether envelopes go through a recursive low-pass and are trimmed, nothing else."""
        return self.low_pass is not None and self.kind != "fir" and not self.log and self.samples is None

    @property
    def sos(self) -> np.ndarray:
        """The low-pass filter's second-order sections."""
        assert self.low_pass is not None
        return design_low_pass(self.low_pass, self.fs, self.order, self.kind)

    def __call__(self, envelope):
        """Process envelopes along their last axis."""
        if self.log:
            # Log of the squared envelope. The floor keeps it and its gradient finite in silence.
            square = envelope**2
            floor = jnp.maximum(_negligible(square), jnp.finfo(envelope.dtype).tiny)
            loud = square > floor
            envelope = jnp.where(loud, jnp.log(jnp.where(loud, square, 1.0)), jnp.log(floor))
        if self.low_pass is not None:
            envelope = zero_phase_low_pass(self.kind, self.low_pass, self.fs, self.order)(envelope, axis=-1)
        if self.samples is not None:
            envelope = resample(envelope, self.samples, axis=-1)
        return envelope[..., self.trim : envelope.shape[-1] - self.trim]


def orthogonalized_envelope_fc(z: Complex[Array, "time region"], smooth: _Smoothing) -> Float[Array, "region region"]:
    """Correlation of each region's envelope, orthogonalised to each other region, with the other's envelope."""
    products = _products_of_filtered if smooth.only_filters else _products_of_processed
    covariance, variance, plain, floor, plain_floor = products(z, modulus(z), smooth)
    # A region orthogonalised to itself, or to an exact copy, leaves rounding noise, whose correlation
    # would be an accident: below its floor there is no signal.
    return _correlation(covariance, variance, plain, floor, plain_floor)


def _by_groups(rows, regions, regions_at_once, kept):
    """Map ``rows`` over groups of regions; ``kept``: a gradient may keep what all groups need, else it recomputes."""
    count = -(-regions // max(1, regions_at_once))
    members = np.arange(count * -(-regions // count)).reshape(count, -1) % regions
    results = lax.map(rows if kept else jax.checkpoint(rows), members)
    return jax.tree.map(lambda x: x.reshape(members.size, -1)[:regions], results)


def _by_tiles(tile, ours, theirs, side):
    """A function of some regions and some others, of all of them: square by square, each computed again in a gradient.

    Trees of arrays (region, ...), of which ``tile`` gets so many rows each; it returns arrays (our, their).
    """
    regions = len(jax.tree.leaves(ours)[0])
    count = -(-regions // max(1, side))
    groups = np.arange(count * -(-regions // count)).reshape(count, -1) % regions
    ours, theirs = jax.tree.map(lambda x: x[groups], (ours, theirs))
    squares = lax.map(lambda some: lax.map(partial(jax.checkpoint(tile), some), theirs), ours)
    return jax.tree.map(lambda x: x.swapaxes(1, 2).reshape(groups.size, -1)[:regions, :regions], squares)


def _products_of_filtered(z, envelope, smooth):
    """Where envelopes are only low-pass filtered, products need no filtered envelope."""
    samples, regions = envelope.shape
    smallest = _negligible(envelope.T**2)[:, 0]

    def phase(z):
        return _phase(z, smallest)

    plan = smoothed_products(smooth.sos, samples, smooth.trim, envelope.dtype)
    codes = plan.codes(envelope)
    plain = jnp.einsum("bvr,bvr->r", codes, plan.dual(codes), precision=lax.Precision.HIGHEST)
    kept = plan.state_bytes(regions**2, envelope.dtype) < KEPT_BYTES
    blocks, few = z[plan.order], z[np.linspace(0, samples - 1, 32).astype(int)]
    covariance, variance = _by_groups(
        lambda members: pair_products(plan, blocks, few, phase, codes, members), regions, PAIRS // regions, kept
    )
    floor = _rounding(envelope.T)
    return covariance, variance, plain, floor[:, None], floor


def _products_of_processed(z, envelope, smooth):
    """Whatever else is done to envelopes: do it, for the pairs of some regions with some others at a time."""
    plain = smooth(envelope.T)
    plain_floor, plain = _rounding(plain), _demean(plain)
    z, unit, least = z.T, _phase(z, _negligible(envelope.T**2)[:, 0]).T, _rounding(envelope.T)

    def tile(ours, theirs):
        (z, least), (unit, plain) = ours, theirs
        orthogonal = orthogonal_envelope(z, unit, axis=0)
        rest = smooth(orthogonal)
        floor, rest = _rounding(rest), _demean(rest)
        # Logarithms make numbers like any others of the rounding that copies of a signal leave.
        nothing = _sum(orthogonal**2) <= least[:, None]
        floor = jnp.where(nothing, jnp.inf, floor if smooth.log else floor + least[:, None])
        return _sum(rest * plain), _sum(rest**2), floor

    side = math.isqrt(int(GROUP_BYTES / (envelope.shape[0] * envelope.dtype.itemsize)))
    covariance, variance, floor = _by_tiles(tile, (z, least), (unit, plain), side)
    return covariance, variance, _sum(plain**2), floor, plain_floor


def envelope_fc(
    x: Float[Array, "time region"],
    fs: float,
    band: tuple[float, float],
    low_pass: float | None = None,
    order: int = 3,
    orthogonalize: bool | str = True,
    *,
    log: bool = False,
    absolute: bool = False,
    symmetrize: bool = True,
    standardize: bool = False,
    trim: float = 0.0,
    envelope_fs: float | None = None,
    filter: str = "butterworth",
    low_pass_kind: str = "butterworth",
) -> Float[Array, "region region"]:
    """Amplitude-envelope connectivity of band-limited signals, orthogonalised pairwise against leakage.

    Parameters
    ----------
    x : array (time, region)
        Signals.
    fs : float
        Sampling rate in Hz.
    band : (float, float)
        Pass band in Hz.
    low_pass : float, optional
        Cut-off in Hz of a low-pass filter on the envelopes.
    order : int
        Butterworth order of both filters (each run forwards and backwards).
    orthogonalize : bool or str
        ``True`` or ``"pairwise"``: remove from each signal, pair by pair, what is in phase with the
        other (Hipp et al., 2012). ``"symmetric"``: make all band-limited signals orthogonal at once
        (:func:`symmetric_orthogonalization`; for recordings, no gradient).
    log : bool
        Correlate the logarithm of squared envelopes.
    absolute : bool
        Take absolute correlations, before directions are averaged.
    symmetrize : bool
        Average both directions of a pair; without it ``fc[i, j]`` has region i orthogonalised to j.
    standardize : bool
        Z-score the signals first. Correlation ignores scale, so this changes rounding only, unless signals are made
        orthogonal symmetrically: then all regions change alike, however strong they are.
    trim : float
        Seconds cut from both ends of the envelopes, where filters start and end.
    envelope_fs : float, optional
        Resample envelopes to this rate in Hz before correlating them.
    filter : str
        ``"butterworth"``, or ``"fir"`` for MNE's finite impulse responses (:func:`fitting.signal.fir_taps`), of which a
        low-pass on envelopes is far slower here.
    low_pass_kind : str
        ``"butterworth"`` or ``"bessel"``, of recursive filters.

    Returns
    -------
    array (region, region)
        Correlations with a zero diagonal. Where an envelope does not vary (a silent region, a pair
        of identical signals) the entry and its gradient are zero.

    Raises
    ------
    InputError
        If the array is not (time, region) or holds NaN, a band or cut-off reaches the Nyquist
        frequency, or the signal is too short for the filters or the trim.

    References
    ----------
    Hipp, Hawellek, Corbetta, Siegel and Engel, Nature Neuroscience 15 (2012), 884-890, equations 1-3.

    Examples
    --------
    >>> import jax
    >>> from fitting.signal import envelope_fc
    >>> x = jax.random.normal(jax.random.key(0), (2000, 4))
    >>> fc = envelope_fc(x, fs=100.0, band=(8.0, 12.0), low_pass=1.0)
    >>> fc.shape, float(fc[0, 0])
    ((4, 4), 0.0)
    """
    check_signals(x)
    check_band(band, fs)
    check_orthogonalization(orthogonalize)
    samples, fs, band = x.shape[0], float(fs), (float(band[0]), float(band[1]))
    final_fs, resampled = fs, None
    if low_pass is not None:
        low_pass = float(check_cutoff(low_pass, fs))
    if envelope_fs is not None:
        check_rate(envelope_fs)
        resampled = round(samples * envelope_fs / fs)
        final_fs = envelope_fs
        if resampled < 2:
            raise InputError(f"{samples / fs:g} s of signal leave {resampled} envelope sample(s) at {envelope_fs:g} Hz")
    cut = round(trim * final_fs)
    left = (resampled or samples) - 2 * cut
    if trim < 0 or left < 2:
        raise InputError(f"trimming {trim:g} s from both ends of {samples / fs:g} s leaves {max(left, 0)} samples")
    smooth = _Smoothing(fs, low_pass, order, "fir" if filter == "fir" else low_pass_kind, log, resampled, cut)
    z = _band_limited(jnp.asarray(x, jnp.result_type(x, float)), fs, band, order, filter, standardize)
    if orthogonalize == "symmetric":
        z = hilbert(symmetric_orthogonalization(z.real), axis=0)
    return _fc_of_envelopes(z, smooth, orthogonalize in (True, "pairwise"), absolute, symmetrize)


@partial(jax.jit, static_argnums=range(1, 6))
def _band_limited(x, fs, band, order, filter, standardize):
    return analytic_signal(zscore(x) if standardize else _sized(x), fs, band, order, filter)


@partial(jax.jit, static_argnums=range(1, 5))
def _fc_of_envelopes(z, smooth, pairwise, absolute, symmetrize):
    fc = orthogonalized_envelope_fc(z, smooth) if pairwise else fc_matrix(smooth(modulus(z).T).T)
    fc = jnp.abs(fc) if absolute else fc
    if symmetrize:
        fc = (fc + fc.T) / 2
    return fc * (1 - jnp.eye(fc.shape[0], dtype=fc.dtype))


def fc_matrix(x: Float[Array, "time region"]) -> Float[Array, "region region"]:
    """Pearson correlation of every pair of columns; zero where a column is constant, and on the diagonal.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fitting.signal import fc_matrix
    >>> x = jnp.array([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]])
    >>> round(float(fc_matrix(x)[0, 1]), 4)
    1.0
    """
    check_signals(x)
    return _fc_matrix(jnp.asarray(x, jnp.result_type(x, float)))


@jax.jit
def _fc_matrix(x):
    x = _sized(x)
    floor = _rounding(x.T)
    x = _demean(x.T)
    covariance = jnp.matmul(x, x.T, precision=lax.Precision.HIGHEST)
    variance = jnp.diagonal(covariance)
    fc = _correlation(covariance, variance[:, None], variance[None, :], floor[:, None], floor[None, :])
    return fc * (1 - jnp.eye(len(x), dtype=x.dtype))


def fc_correlation(
    a: Float[Array, "region region"],
    b: Float[Array, "region region"],
    pairs: Bool[np.ndarray, "region region"] | None = None,
) -> Float[Array, ""]:
    """Pearson correlation of the upper triangles of two connectivity matrices, diagonals left out.

    Parameters
    ----------
    a, b : array (region, region)
        Symmetric matrices with the same regions in the same order.
    pairs : array of bool, optional
        Compare only the pairs that are true in the upper triangle.

    Returns
    -------
    array ()
        Between -1 and 1; zero (with gradient zero) if a triangle is constant.

    Raises
    ------
    InputError
        If shapes differ, a matrix is not square, or there are fewer than three pairs.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fitting.signal import fc_correlation
    >>> a = jnp.array([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]])
    >>> round(float(fc_correlation(a, 1 - 2 * a)), 4)
    -1.0
    """
    if a.shape != b.shape or a.ndim != 2 or a.shape[0] != a.shape[1]:
        raise InputError(f"fc_correlation compares two square matrices of one size; got {a.shape} and {b.shape}")
    if a.shape[0] < 3:
        raise InputError(f"fc_correlation needs at least 3 regions (3 pairs); got {a.shape[0]}")
    upper = upper_pairs(a.shape[0], pairs)
    return pearson(a[upper], b[upper])


def upper_pairs(
    regions: int, pairs: Bool[np.ndarray, "region region"] | None = None
) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]:
    """Indices of the upper triangle, or of those of its pairs that are chosen."""
    if pairs is None:
        return np.triu_indices(regions, 1)
    if pairs.shape != (regions, regions):
        raise InputError(f"the choice of pairs is {pairs.shape}, the matrices are {(regions, regions)}")
    rows, columns = np.nonzero(np.triu(pairs, 1))
    if len(rows) < 3:
        raise InputError(f"at least 3 pairs of regions are needed for a correlation; got {len(rows)}")
    return rows, columns


def pearson(a: Float[Array, " n"], b: Float[Array, " n"]) -> Float[Array, ""]:
    """Pearson correlation of two vectors; zero (with gradient zero) where one is constant."""
    return _pearson(jnp.asarray(a), jnp.asarray(b))


@jax.jit
def _pearson(a, b):
    # A mean is rounded, and so is what it leaves of a constant; the mean of that is taken off as well.
    floors = _rounding(a, 8), _rounding(b, 8)
    a, b = _demean(_demean(a)), _demean(_demean(b))
    return _correlation((a * b).sum(), (a**2).sum(), (b**2).sum(), *floors)


def phase_locking(z: Complex[Array, "time region"]) -> Float[Array, "region region"]:
    """Phase-locking value of every pair: modulus of the mean phase difference, zero diagonal.

    Parameters
    ----------
    z : complex array (time, region)
        Analytic signals, see :func:`analytic_signal`.

    Returns
    -------
    array (region, region)

    References
    ----------
    Lachaux, Rodriguez, Martinerie and Varela, Human Brain Mapping 8 (1999), 194-208.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fitting.signal import phase_locking
    >>> z = jnp.exp(1j * jnp.arange(100.0))[:, None] * jnp.array([1.0, 2.0j])
    >>> round(float(phase_locking(z)[0, 1]), 4)
    1.0
    """
    return _phase_locking(jnp.asarray(z))


@jax.jit
def _phase_locking(z):
    unit = _phase(z, _negligible((z.real**2 + z.imag**2).T)[:, 0])
    mean = jnp.matmul(unit.T, unit.conj(), precision=lax.Precision.HIGHEST) / z.shape[0]
    return modulus(mean) * (1 - jnp.eye(z.shape[1], dtype=z.real.dtype))


def fc_dynamics(
    x: Float[Array, "time region"], fs: float, window: float, step: float
) -> tuple[Float[Array, "window region region"], Float[Array, "window window"]]:
    """Connectivity in sliding windows, and how similar the windows' connectivities are.

    Parameters
    ----------
    x : array (time, region)
        Signals or envelopes.
    fs : float
        Sampling rate in Hz.
    window, step : float
        Length and shift of the windows in seconds.

    Returns
    -------
    fc : array (window, region, region)
    fcd : array (window, window)
        Correlation of the windows' upper triangles.

    References
    ----------
    Hansen, Battaglia, Spiegler, Deco and Jirsa, NeuroImage 105 (2015), 525-535.

    Examples
    --------
    >>> import jax
    >>> from fitting.signal import fc_dynamics
    >>> fc, fcd = fc_dynamics(jax.random.normal(jax.random.key(0), (1000, 4)), 100.0, 2.0, 1.0)
    >>> fc.shape, fcd.shape
    ((9, 4, 4), (9, 9))
    """
    check_signals(x)
    check_rate(fs)
    length, shift = round(window * fs), round(step * fs)
    if not 2 <= length <= x.shape[0] or shift < 1:
        raise InputError(
            f"windows of {length} samples shifted by {shift} do not fit {x.shape[0]} samples; "
            f"a window needs at least 2 samples and a shift at least 1"
        )
    return _fc_dynamics(jnp.asarray(x), length, shift)


@partial(jax.jit, static_argnums=(1, 2))
def _fc_dynamics(x, length, shift):
    starts = np.arange(0, x.shape[0] - length + 1, shift)
    fc = lax.map(lambda start: fc_matrix(lax.dynamic_slice_in_dim(x, start, length)), jnp.asarray(starts))
    upper = np.triu_indices(x.shape[1], 1)
    triangles = _demean(fc[:, upper[0], upper[1]])
    covariance = jnp.matmul(triangles, triangles.T, precision=lax.Precision.HIGHEST)
    variance = jnp.diagonal(covariance)
    return fc, _correlation(covariance, variance[:, None], variance[None, :])
