"""Delayed input to every region, read from the history of the coupled variable in blocks.

A connection of delay ``d`` steps reads ``c(t - d)``. As long as a block of steps is no longer than
the shortest delay, everything that the block reads is known when the block starts, so its whole
delayed input is one weighted sum of contiguous windows, instead of one gather a step. Long connections
allow long blocks: connections are sorted into levels, each with the largest block that its shortest
possible delay allows.

Between samples the history is interpolated linearly,

    c(t - d) = (1 - f) c[t - n] + f c[t - n - 1],    n = floor(d),  f = d - n,

so that the derivative with respect to the delay exists (at a whole number of steps it is the
derivative from the right, towards longer delays).

The same windows serve the adjoint: the cotangent of ``c[s]`` collects the cotangents of the inputs
at ``s + n`` and ``s + n + 1``, which a backward walk over the same blocks has already computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

#: Largest block in steps on a CPU and on a GPU. Longer blocks save nothing once the gather is vectorised, and a level
#: of its own costs something; a GPU takes long for every operation, however short.
LARGEST_CPU_BLOCK, LARGEST_BLOCK = 15, 128

#: Most steps of a stretch on a CPU and on a GPU, unless a block is longer. Noise, and what derivatives of weights and
#: delays are made of, are computed faster for many steps at once. But XLA for a CPU splits an operation among threads,
#: and waits for them, where its arrays have more than half a megabyte together, however little of them is read; so the
#: past that a step looks into, and windows of it, are kept smaller than that.
CPU_STRETCH, GPU_STRETCH = 256, 1024

#: Connections that are summed at once on a GPU. Sums shorter than a warp of 32 threads become one kernel with what they
#: add up, in which windows are read where they lie; before longer sums, or matrix products, XLA copies all windows.
SERIAL = 31

#: Steps that a program for a GPU writes out one after the other. XLA makes a few kernels of all, where a loop starts a
#: few for each; more save little and compile for longer. On a CPU a loop is faster.
UNROLLED = 16


@dataclass(frozen=True, eq=False)
class Edges:
    """Connections grouped by the region at one end, padded to the same number for each region.

    Attributes
    ----------
    target, source : ndarray of int, (regions, degree)
        Indices of each connection's two ends; padding points at a valid region.
    real : ndarray of bool, (regions, degree)
        False where an entry is padding.
    """

    target: np.ndarray
    source: np.ndarray
    real: np.ndarray

    def take(self, matrix, fill):
        """Entries of a ``(target, source)`` matrix, with ``fill`` in the padding."""
        return jnp.where(self.real, matrix[self.target, self.source], fill)


@dataclass(frozen=True, eq=False)
class Level:
    """All connections whose delay always allows blocks of ``block`` steps."""

    block: int
    incoming: Edges
    outgoing: Edges


@dataclass(frozen=True, eq=False)
class Delays:
    """How the delays of a connectome are processed: fixed before compiling.

    Attributes
    ----------
    levels : tuple of Level
        From the longest block to the shortest; each block is a multiple of the next.
    every : Edges
        All connections by target, whatever their level.
    longest : int
        Whole steps of history that are kept.
    nearest : bool
        Round delays to whole steps instead of interpolating.
    gpu : bool
        Process them in few large operations, for a device on which starting one costs as much as computing for
        thousands of regions.
    """

    levels: tuple[Level, ...]
    every: Edges
    longest: int
    nearest: bool
    gpu: bool = False

    @property
    def block(self) -> int:
        """Steps in the longest block."""
        return self.levels[0].block

    @property
    def stretch(self) -> int:
        """Most steps of a stretch: a whole number of longest blocks, between which the past moves on."""
        return max(1, (GPU_STRETCH if self.gpu else CPU_STRETCH) // self.block) * self.block

    def unroll(self, count: int, steps: int = 1) -> int:
        """How many iterations of a loop over ``count`` times ``steps`` steps are written out at a time."""
        return min(count, max(1, UNROLLED // steps)) if self.gpu else 1


class Taps(NamedTuple):
    """Connections of one level with their weights and delays, ready for :func:`gather`.

    ``first`` is the sample of a window that a connection's two-point stencil starts from, relative
    to the block; ``earlier`` multiplies that sample and ``later`` the next one. All are (regions, degree).
    """

    rows: jax.Array
    first: jax.Array
    earlier: jax.Array
    later: jax.Array


def _group(connected: np.ndarray, by_source: bool) -> Edges:
    """Edges of a boolean ``(target, source)`` matrix, listed by target, or by source."""
    table = connected.T if by_source else connected
    degree = max(1, int(table.sum(1).max(initial=0)))
    other = np.zeros((len(table), degree), np.int32)
    real = np.zeros((len(table), degree), bool)
    for row, flags in enumerate(table):
        ends = np.flatnonzero(flags)
        other[row, : len(ends)] = ends
        real[row, : len(ends)] = True
    own = np.repeat(np.arange(len(table), dtype=np.int32)[:, None], degree, axis=1)
    return Edges(other, own, real) if by_source else Edges(own, other, real)


def plan(
    connected: np.ndarray,
    shortest: np.ndarray,
    longest: float,
    nearest: bool = False,
    largest_block: int = LARGEST_BLOCK,
    gpu: bool = False,
) -> Delays:
    """Sort connections into levels by the shortest delay that each can have.

    Parameters
    ----------
    connected : ndarray of bool, (regions, regions)
        ``connected[target, source]``: whether there is a connection.
    shortest : ndarray, (regions, regions)
        Shortest delay of each connection in steps (at the highest speed allowed).
    longest : float
        Longest delay of any connection in steps (at the lowest speed allowed).
    nearest : bool
        Round delays to whole steps.
    largest_block : int
        Upper bound on the block of the longest connections, in steps.
    gpu : bool
        For a GPU: see :class:`Delays`.

    Returns
    -------
    Delays
    """
    # A block of K steps that starts at step t knows the history up to and including t, so it needs
    # whole delays of at least K - 1 steps. The margin covers rounding of length / speed / dt.
    whole = (np.rint if nearest else np.floor)(shortest * (1 - 1e-5))
    allowed = np.where(connected, whole + 1, np.inf)
    largest = largest_block if gpu else min(largest_block, LARGEST_CPU_BLOCK)
    smallest = max(1, int(min(allowed.min(initial=np.inf), largest)))
    blocks = [smallest]
    # Measured: what a step costs in blocks of one to four falls so fast that levels between are not worth their price.
    while (longer := blocks[-1] * (4 if gpu or blocks[-1] < 4 else 2)) <= largest:
        blocks.append(longer)
    levels: list[Level] = []
    upper = np.inf
    for block in reversed(blocks):
        members = connected & (allowed >= block) & (allowed < upper)
        upper = block
        if members.any() or (block == smallest and not levels):
            levels.append(Level(block, _group(members, False), _group(members, True)))
    return Delays(tuple(levels), _group(connected, False), int(np.floor(longest)) + 2, nearest, gpu)


def split(delays: Delays, delay):
    """Whole steps ``n`` and fraction ``f`` of a delay in steps."""
    whole = jnp.round(delay) if delays.nearest else jnp.floor(delay)
    fraction = jnp.zeros_like(delay) if delays.nearest else delay - lax.stop_gradient(whole)
    return lax.stop_gradient(whole).astype(jnp.int32), fraction


def incoming_taps(delays: Delays, level: Level, weights, delay) -> Taps:
    """Taps that read delayed input from the history: ``c[t - n - 1]`` and ``c[t - n]``."""
    edges = level.incoming
    weight = edges.take(weights, 0.0)
    whole, fraction = split(delays, edges.take(delay, float(level.block)))
    return Taps(jnp.asarray(edges.source), -whole - 1, weight * fraction, weight * (1 - fraction))


def outgoing_taps(delays: Delays, level: Level, weights, delay) -> Taps:
    """Taps that collect, for a source, the cotangents of the inputs it reached: ``s + n``, ``s + n + 1``."""
    edges = level.outgoing
    weight = edges.take(weights, 0.0)
    whole, fraction = split(delays, edges.take(delay, float(level.block)))
    return Taps(jnp.asarray(edges.target), whole, weight * (1 - fraction), weight * fraction)


def windows(buffer, rows, starts, length: int):
    """Contiguous windows of ``buffer``: ``(regions, degree, length)`` from ``(regions, time)``."""
    dimensions = lax.GatherDimensionNumbers(offset_dims=(2,), collapsed_slice_dims=(0,), start_index_map=(0, 1))
    return lax.gather(
        buffer,
        jnp.stack([rows, starts], axis=-1),
        dimensions,
        slice_sizes=(1, length),
        mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )


@partial(jax.custom_jvp, nondiff_argnums=(0, 4))
def gather(delays: Delays, taps: Taps, buffer, column, block: int):
    """Weighted sum over connections for ``block`` steps from ``column`` on: ``(regions, block)``."""
    window = windows(buffer, taps.rows, taps.first + column, block + 1)
    if delays.gpu:
        terms = taps.earlier[..., None] * window[:, :, :-1] + taps.later[..., None] * window[:, :, 1:]
        return sum(terms[:, d : d + SERIAL].sum(1) for d in range(0, terms.shape[1], SERIAL))
    # Term by term: XLA fuses the gather into the sum, which is faster on a CPU than a product of matrices that small.
    terms = [
        taps.earlier[:, d, None] * window[:, d, :-1] + taps.later[:, d, None] * window[:, d, 1:]
        for d in range(window.shape[1])
    ]
    while len(terms) > 1:
        pairs = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[len(pairs) * 2 :]
    return terms[0]


def _gather_tangent(delays, block, primals, tangents):
    """By the product rule, as two sums: of other windows, and by other weights."""
    (taps, buffer, column), (moved, buffer_moved, _) = primals, tangents

    def still(tangent):
        return isinstance(tangent, SymbolicZero)

    tangent = jnp.zeros((len(taps.rows), block), buffer.dtype)
    if not still(buffer_moved):
        tangent = gather(delays, taps, buffer_moved, column, block)
    if not (still(moved.earlier) and still(moved.later)):
        weights = {
            name: jnp.zeros_like(getattr(taps, name)) if still(getattr(moved, name)) else getattr(moved, name)
            for name in ("earlier", "later")
        }

        def by_weights():
            return gather(delays, taps._replace(**weights), buffer, column, block)

        # A branch that is always taken. Without it XLA makes one kernel of both sums on a CPU, and derivatives by three
        # parameters take 43 instead of 24 microseconds a step (80 regions).
        none = jnp.zeros_like(tangent)
        tangent += by_weights() if delays.gpu else lax.cond(column >= 0, by_weights, lambda: none)
    return gather(delays, taps, buffer, column, block), tangent


gather.defjvp(_gather_tangent, symbolic_zeros=True)


def correlate(delays: Delays, history, column, cotangent, whole):
    """Sum over a block of ``cotangent[i, t] c_j[t - n - 1]`` and of ``cotangent[i, t] c_j[t - n]``.

    Returns ``(regions, degree, 2)`` for the connections of ``delays.every``: what the derivatives
    with respect to weights and delays are made of.
    """
    block = cotangent.shape[1]
    window = windows(history, jnp.asarray(delays.every.source), column - whole - 1, block + 1)
    if delays.gpu:
        each = cotangent[:, None, :]
        return jnp.stack([(each * window[:, :, :-1]).sum(-1), (each * window[:, :, 1:]).sum(-1)], axis=-1)
    zero = jnp.zeros_like(cotangent[:, :1])
    shifted = jnp.stack([jnp.concatenate([cotangent, zero], 1), jnp.concatenate([zero, cotangent], 1)], axis=-1)
    return jnp.einsum("rdt,rtc->rdc", window, shifted, precision=lax.Precision.HIGHEST)
