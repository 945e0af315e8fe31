r"""Inner products of low-pass filtered envelopes, taken without filtering every pair's envelope.

Orthogonalised connectivity needs, for each ordered pair of regions, the variance of a smoothed
envelope and its covariance with another: inner products :math:`\langle F x, F y \rangle`, where
:math:`F` extends a signal at both ends, filters it forwards and backwards, and drops the extension
(exactly :func:`fitting.signal.sosfiltfilt`). All :math:`N^2` filtered envelopes would be a large
array, walked many times. Only the products are wanted, so each block of samples is reduced at once
to a short code :math:`v_b`, by one matrix product with the samples and a small state, such that

.. math:: \langle F x, F y \rangle = \sum_b v_b(x)^T J \, v_b(y).

How it follows. Let the forward filter have the state :math:`s_b` at the start of block b, and the
backward filter the state :math:`r_b` at its end, one number per pole each. The filtered block is
linear in its samples and both states, and smooth, so that a few coefficients in an orthonormal basis
hold it to rounding: :math:`y_b = U (a_b + N r_b)` with :math:`a_b` known when block b is reached. The
state :math:`r_b = \sum_{b' > b} K^{b'-b-1} w_{b'}` comes from later blocks. Summing the energy over
the *later* block instead leaves only what is known when that block is reached,

.. math::

    \sum_b |y_b|^2 = \sum_b |a_b|^2 + w_b^T g_b, \quad g_b = Q_b w_b + 2 h_b,

    h_{b+1} = K^T h_b + N^T a_b + K^T Q_b w_b, \quad Q_{b+1} = K^T Q_b K + N^T N.

So the code is :math:`v = (a, w, g)`, its metric J pairs a with a, and w with g by halves, and one pass
over the samples with the state :math:`(s, h)` suffices. Extension, settled start and end, and
trimming change the matrices of the first and last blocks only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Complex, Float, Int

from fitting.signal.filters import check_longer_than_padding, filter_blocks, padding_length

#: Samples in a block.
BLOCK = 64


@dataclass(frozen=True, eq=False)
class SmoothedProducts:
    """Codes of blocks of samples whose inner products are those of the smoothed signals; see the module."""

    matrices: np.ndarray  # (kind, rows, block + states + 3): (samples, state, ends, level) -> (code, sum, next state)
    kind: np.ndarray  # (blocks,): which of the matrices a block takes
    order: np.ndarray  # (blocks, block): which sample stands where in the extended signal
    ones: np.ndarray  # (blocks, code): codes of the constant one
    rank: int  # numbers in a
    poles: int  # numbers in w, in g, in s and in h
    samples: int  # of the smoothed signal

    @property
    def code(self) -> int:
        """Length of a block's code."""
        return self.rank + 2 * self.poles

    def dual(self, v):
        """``J v``, with codes along the last axis but one."""
        return _dual(v, self.rank, jnp)

    def state_bytes(self, signals: int, dtype) -> int:
        """Bytes of the states at all blocks, which a gradient keeps."""
        return len(self.kind) * 2 * self.poles * signals * np.dtype(dtype).itemsize

    def step(self, kind, samples, ends, state):
        """Code of one block, below it the sum of its smoothed samples, and the next state.

        ``ends`` are the signal's first and last sample and a level that is subtracted from all.
        """
        matrix = jnp.asarray(self.matrices, samples.dtype)[kind]
        v = jnp.matmul(matrix, jnp.concatenate([samples, state, ends]), precision=lax.Precision.HIGHEST)
        return v[: self.code + 1], v[self.code + 1 :]

    def codes(self, x: Float[Array, "time signal"]) -> Float[Array, "block code signal"]:
        """Codes of signals, with the mean of each smoothed signal taken out."""
        ends = jnp.stack([x[0], x[-1], lax.stop_gradient(x.mean(0))])

        def one(state, block):
            kind, samples = block
            v, state = self.step(kind, samples, ends, state)
            return state, v

        state = jnp.zeros((2 * self.poles, x.shape[1]), x.dtype)
        _, v = lax.scan(one, state, (self.kind, x[self.order]))
        mean = v[:, -1].sum(0) / self.samples
        return v[:, :-1] - mean * jnp.asarray(self.ones, x.dtype)[..., None]


def _dual(v, rank, xp=np):
    poles = (v.shape[-2] - rank) // 2
    a, w, g = v[..., :rank, :], v[..., rank : rank + poles, :], v[..., rank + poles :, :]
    return xp.concatenate([a, g / 2, w / 2], axis=-2)


def smoothed_products(sos: np.ndarray, samples: int, trim: int, dtype) -> SmoothedProducts:
    """Plan the codes for signals of ``samples`` samples, ``trim`` of which are dropped at each end after filtering.

    Coefficients of a smoothed block below the square root of the dtype's rounding, relative to the
    largest, are left out; as what is dropped is orthogonal to what is kept, products are wrong by the
    square of it.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from fitting.signal import low_pass, sosfiltfilt
    >>> from fitting.signal.smoothed import smoothed_products
    >>> sos, x = low_pass(1.0, fs=100.0), jax.random.normal(jax.random.key(0), (1000, 2))
    >>> plan = smoothed_products(sos, samples=1000, trim=100, dtype=x.dtype)
    >>> v = plan.codes(x)
    >>> y = sosfiltfilt(sos, x)[100:900]
    >>> bool(jnp.allclose((v * plan.dual(v)).sum((0, 1)), 800 * y.var(0), rtol=1e-4))
    True
    """
    sos = np.ascontiguousarray(sos, dtype=float)
    check_longer_than_padding(sos, samples)
    return _plan(sos.tobytes(), samples, trim, float(np.finfo(dtype).eps) ** 0.5)


@lru_cache(maxsize=64)
def _plan(sos: bytes, samples: int, trim: int, tolerance: float) -> SmoothedProducts:
    sections = np.frombuffer(sos).reshape(-1, 6)
    block, forward = BLOCK, filter_blocks(sections, BLOCK)
    direct, read, write, carry = forward.direct.T, forward.read.T, forward.write.T, forward.carry.T
    direct_back, read_back, write_back = direct[::-1, ::-1], read[::-1], write[:, ::-1]
    whole = np.concatenate([direct_back @ direct, direct_back @ read, read_back], axis=1)
    sizes = np.linalg.svd(whole, compute_uv=False)
    rank = int((sizes > tolerance * sizes[0]).sum())
    poles, rest = len(carry), forward.rest[:, None]
    first, last = np.eye(block)[:1], np.eye(block)[-1:]
    edge = padding_length(sections)
    count = -(-(samples + 2 * edge) // block)
    # Whole blocks: a filter settled on the first sample stays settled while that sample is repeated.
    time = np.arange(count * block).reshape(count, block) - (count * block - samples - edge)
    head, tail = time < 0, time >= samples
    order = np.where(tail, 2 * (samples - 1) - time, np.abs(np.maximum(time, -edge)))
    inside = (time >= trim) & (time < samples - trim)

    past, state = np.zeros((poles, poles)), np.zeros(2 * poles)
    matrices, ones = [], []
    for b in range(count):
        filtered, enter, leave, next_read = direct, write, write_back, read_back
        backwards = direct_back
        if b == 0:  # settled on the first sample
            filtered, enter = direct + read @ rest @ first, write + carry @ rest @ first
        if b == count - 1:  # settled, backwards, on the last filtered sample
            backwards, leave = direct_back + read_back @ rest @ last, write_back + carry @ rest @ last
            next_read = np.zeros_like(read_back)
        smoothed = np.concatenate([backwards @ filtered, backwards @ read, next_read], axis=1) * inside[b][:, None]
        basis = np.linalg.svd(smoothed)[0][:, :rank]
        # Rows, for the columns samples, s, h.
        nothing = np.zeros((poles, poles))
        a = np.concatenate([basis.T @ smoothed[:, :-poles], np.zeros((rank, poles))], axis=1)
        w = np.concatenate([leave @ filtered, leave @ read, nothing], axis=1)
        h = np.concatenate([np.zeros((poles, block)), nothing, np.eye(poles)], axis=1)
        later = basis.T @ smoothed[:, -poles:]
        code = np.concatenate([a, w, past @ w + 2 * h])
        next_state = [
            np.concatenate([enter, carry, nothing], axis=1),
            carry.T @ h + later.T @ a + carry.T @ past @ w,
        ]
        past = carry.T @ past @ carry + later.T @ later
        # The sum of a smoothed signal is its product with the constant one.
        one = np.concatenate([np.ones(block), state])
        total = _dual((code @ one)[:, None], rank).T @ code
        rows = np.concatenate([code, total, *next_state])
        ones.append(code @ one)
        state = rows[-2 * poles :] @ one
        samplewise = rows[:, :block]
        ends = 2 * np.stack([samplewise @ head[b], samplewise @ tail[b]], axis=1)
        level = -samplewise.sum(1, keepdims=True)
        sign = np.where(head[b] | tail[b], -1.0, 1.0)
        matrices.append(np.concatenate([samplewise * sign, rows[:, block:], ends, level], axis=1))

    # Most blocks are alike.
    kinds, kind = np.unique(np.array(matrices), axis=0, return_inverse=True)
    return SmoothedProducts(
        kinds, kind.ravel().astype(np.int32), order.astype(np.int32), np.array(ones), rank, poles, samples - 2 * trim
    )


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _cross(ours, theirs, axis):
    """Imaginary part of ``ours * conj(theirs)`` for every pair of members, which are along an axis of two; complex."""
    ours, theirs = jnp.expand_dims(ours, axis + 1), jnp.expand_dims(theirs, axis)
    return ours.imag * theirs.real - ours.real * theirs.imag


@_cross.defjvp
def _(axis, primals, tangents):
    # Written as matrix products, because their transposes, sums over pairs, are then matrix products too.
    (ours, theirs), (d_ours, d_theirs) = primals, tangents
    pairs = "ktg,ktr->tgr" if axis else "kgt,krt->grt"

    def product(x, y):
        x, y = jnp.stack([x.imag, -x.real]), jnp.stack([y.real, y.imag])
        return jnp.einsum(pairs, x, y, precision=lax.Precision.HIGHEST)

    return _cross(ours, theirs, axis), product(d_ours, theirs) + product(ours, d_theirs)


def orthogonal_envelope(z, unit, axis: int = 1):
    """``|Im(z_i conj(unit_j))|`` of all i and j: Hipp et al., eq. 2.

    Regions are along ``axis``, samples along the other: (sample, i, j), or (i, j, sample).
    """
    return jnp.abs(_cross(z, unit, axis))


@jax.custom_jvp
def _row_products(x, y):
    """Sum of ``x * y`` over the first axis."""
    # Few rows, written out: elementwise work, where a reduction would stride through memory.
    return sum(x[k] * y[k] for k in range(len(x)))


@_row_products.defjvp
def _(primals, tangents):
    (x, y), (dx, dy) = primals, tangents
    return _row_products(x, y), (dx * y).sum(0) + (x * dy).sum(0)


@jax.custom_jvp
def _energy(v, dual):
    """``v^T J v`` of every signal, with ``dual`` the product J v."""
    return _row_products(v, dual)


@_energy.defjvp
def _(primals, tangents):
    # J is symmetric: both factors change alike.
    (v, dual), (dv, _) = primals, tangents
    return _energy(v, dual), 2 * (dv * dual).sum(0)


def pair_products(
    plan: SmoothedProducts,
    blocks: Complex[Array, "block sample region"],
    few: Complex[Array, "few region"],
    phase: Callable[[Complex[Array, "_ region"]], Complex[Array, "_ region"]],
    codes: Float[Array, "block code region"],
    members: Int[Array, " group"],
) -> tuple[Float[Array, "group region"], Float[Array, "group region"]]:
    """Covariance of smoothed orthogonal envelopes with the coded signals, and their variance, as sums over samples.

    ``blocks`` are analytic signals in the plan's order, ``few`` some of their samples, with the first
    and the last; ``phase`` gives ``z / |z|``; ``members`` are the regions made orthogonal to all.
    """
    some = orthogonal_envelope(few[:, members], phase(few))
    pairs = some.shape[1:]
    # Any level near the mean keeps rounding of the mean out of the variance; few samples tell it.
    ends = jnp.stack([some[0], some[-1], lax.stop_gradient(some.mean(0))]).reshape(3, -1)

    @jax.checkpoint
    def one(carry, block):
        state, energy, total, covariance = carry
        kind, z, dual = block
        samples = orthogonal_envelope(z[:, members], phase(z)).reshape(len(z), -1)
        v, state = plan.step(kind, samples, ends, state)
        code = v[:-1]
        covariance = covariance + _row_products(code.reshape(-1, *pairs), dual[:, None])
        return (state, energy + _energy(code, plan.dual(code)), total + v[-1], covariance), None

    zero = jnp.zeros_like(ends[0])
    carry = (jnp.zeros((2 * plan.poles, zero.size), zero.dtype), zero, zero, jnp.zeros(pairs, zero.dtype))
    (_, energy, total, covariance), _ = lax.scan(one, carry, (plan.kind, blocks, plan.dual(codes)))
    return covariance, (energy - total**2 / plan.samples).reshape(pairs)
