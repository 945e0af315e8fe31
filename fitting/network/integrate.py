"""Step a delayed network forward, and walk it backwards for exact gradients.

:func:`integrate` advances a network by a fixed number of steps. Its reverse-mode derivative is
written by hand, because what automatic differentiation would store (every gathered window) is
hundreds of times larger than what is needed. The adjoint keeps the trajectory of the coupled
variable, the delayed input, and the state at the start of each stretch of blocks: two numbers per region
and step. It walks the stretches backwards, recomputes the states inside one, and reads the delayed
cotangents from one array, by the same windows as the forward pass (the transpose of reading
``c(t - d)`` is reading the cotangent at ``t + d``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fitting.network.delays import Delays, correlate, gather, incoming_taps, outgoing_taps, split


@dataclass(frozen=True, eq=False)
class Scheme:
    """What is fixed before compiling.

    Attributes
    ----------
    delays : Delays
    steps : int
        Steps to advance.
    step : callable
        ``step(state, delayed, noise, parameters) -> (state, recorded)`` for all regions, one step.
    coupled : callable
        ``coupled(state) -> (regions,)``: the variable that other regions see.
    draw : callable
        ``draw(source, start, count) -> (count, ports, regions)``: noise of absolute steps.
    """

    delays: Delays
    steps: int
    step: Callable
    coupled: Callable
    draw: Callable

    @property
    def stretches(self) -> tuple[int, int]:
        """Number of stretches, and of longest blocks in each. The last one may reach beyond the end."""
        blocks = -(-self.steps // self.delays.block)
        count = -(-blocks * self.delays.block // self.delays.stretch)
        return count, -(-blocks // count)

    def advance(self, state, delayed, noise, parameters, t):
        """One step; beyond the last step the state stands still."""
        new, recorded = self.step(state, delayed, noise, parameters)
        if self.steps < math.prod(self.stretches) * self.delays.block:
            live = t < self.steps
            new = jax.tree.map(lambda a, b: jnp.where(live, a, b), new, state)
        return new, self.coupled(new), recorded


class Start(NamedTuple):
    """Where an integration begins.

    ``history`` holds the coupled variable up to and including now, ``(regions, longest + 1)``;
    ``state`` is a tree of ``(regions,)`` arrays; ``clock`` counts the steps since time zero.
    """

    history: jax.Array
    state: Any
    clock: Any


class Path(NamedTuple):
    """What an integration produces: coupled variable ``(regions, steps)``, recorded variables, last state."""

    coupled: jax.Array
    recorded: Any
    state: Any


def _forward(scheme: Scheme, start: Start, weights, delay, parameters, source, keep: bool):
    delays, block = scheme.delays, scheme.delays.block
    count, blocks = scheme.stretches
    steps = blocks * block
    now = start.history.shape[1] - 1
    taps = [incoming_taps(delays, level, weights, delay) for level in delays.levels]
    shapes = jax.eval_shape(
        lambda state: scheme.advance(state, start.history[:, 0], scheme.draw(source, 0, 1)[0], parameters, 0)[2],
        start.state,
    )

    def stretch(carry, i):
        """Advance by some blocks; columns and rows are counted from the first step of the stretch."""
        history, state = carry
        origin = i * steps
        noise = scheme.draw(source, start.clock + origin, steps)

        def run(depth, carry, t, delayed):
            """Advance by one block of level ``depth``; ``delayed`` holds the input of longer levels."""
            size = delays.levels[depth].block
            buffer, state, inputs, recorded = carry
            delayed = _summed(delays, delayed + gather(delays, taps[depth], buffer, now + t, size))
            if depth + 1 < len(delays.levels):
                inner = delays.levels[depth + 1].block

                def sub(i, carry):
                    part = lax.dynamic_slice_in_dim(delayed, i * inner, inner, axis=1)
                    return run(depth + 1, carry, t + i * inner, part)

                return lax.fori_loop(0, size // inner, sub, carry, unroll=delays.unroll(size // inner, inner))
            if keep:
                inputs = lax.dynamic_update_slice(inputs, delayed, (0, t))

            def one(i, state):
                row = lax.dynamic_index_in_dim(delayed, i, axis=1, keepdims=False)
                normal = lax.dynamic_index_in_dim(noise, t + i, keepdims=False)
                state, *columns = scheme.advance(state, row, normal, parameters, origin + t + i)
                return state, columns

            state, (buffer, recorded) = _steps(delays, size, one, state, (buffer, recorded), (now + 1 + t, t))
            return buffer, state, inputs, recorded

        silence = jnp.zeros((len(history), block), history.dtype)
        buffer = jnp.pad(history, ((0, 0), (0, steps)))
        inputs = jnp.zeros_like(buffer[:, :steps]) if keep else ()
        recorded = jax.tree.map(lambda x: jnp.zeros((*x.shape, steps), x.dtype), shapes)
        buffer, new_state, inputs, recorded = lax.fori_loop(
            0, blocks, lambda i, carry: run(0, carry, i * block, silence), (buffer, state, inputs, recorded)
        )
        return (buffer[:, steps:], new_state), (buffer[:, now + 1 :], recorded, (state, inputs) if keep else ())

    (_, state), (coupled, recorded, kept) = lax.scan(stretch, (start.history, start.state), jnp.arange(count))
    coupled, recorded = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1), (coupled, recorded))
    recorded = jax.tree.map(lambda x: x[:, : scheme.steps].T, recorded)
    return Path(coupled[:, : scheme.steps], recorded, state), (coupled, kept)


def _parts(x, count):
    """Split the last axis into ``count`` parts along a new leading axis."""
    return jnp.moveaxis(x.reshape(*x.shape[:-1], count, -1), -2, 0)


def _summed(delays, x):
    """Sums over a buffer, made before it changes: XLA for a GPU would make them later, from a copy of it."""
    return lax.optimization_barrier(x) if delays.gpu else x


def _steps(delays, size, one, state, arrays, columns, reverse=False):
    """Take ``size`` steps, ``one(i, state) -> (state, results)``; put results into ``arrays``, from ``columns`` on."""
    if delays.gpu:
        # All at once: each would be a kernel of its own.
        state, results = lax.scan(
            lambda state, i: one(i, state), state, jnp.arange(size), reverse=reverse, unroll=delays.unroll(size)
        )
        return state, _put(arrays, results, columns)

    def step(i, carry):
        i = size - 1 - i if reverse else i
        state, results = one(i, carry[0])
        return state, _put(carry[1], results, [column + i for column in columns])

    return lax.fori_loop(0, size, step, (state, list(arrays)))


def _put(arrays, results, columns):
    """Arrays (regions, time) with results of a step, or of several, from each one's column on."""
    return [
        jax.tree.map(lambda a, x, start=(0, column): lax.dynamic_update_slice(a, jnp.atleast_2d(x).T, start), array, x)
        for array, x, column in zip(arrays, results, columns, strict=True)
    ]


def integrate(scheme: Scheme, start: Start, weights, delay, parameters, source) -> Path:
    """Advance a network by ``scheme.steps`` steps; differentiable in forward and reverse mode.

    Parameters
    ----------
    scheme : Scheme
    start : Start
    weights, delay : array, (target, source)
        Connection weights, and delays in steps.
    parameters : tree of arrays
        Passed on to ``scheme.step``.
    source : tree
        Passed on to ``scheme.draw``; carries no gradient.

    Returns
    -------
    Path
    """
    return _forward(scheme, start, weights, delay, parameters, source, keep=False)[0]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def integrate_with_adjoint(scheme: Scheme, start: Start, weights, delay, parameters, source) -> Path:
    """As :func:`integrate`, with the lean hand-written adjoint for reverse mode."""
    return integrate(scheme, start, weights, delay, parameters, source)


def _remember(scheme, start, weights, delay, parameters, source):
    path, (coupled, kept) = _forward(scheme, start, weights, delay, parameters, source, keep=True)
    return path, (start, weights, delay, parameters, source, coupled, kept)


def _backward(scheme: Scheme, memory, cotangent: Path):
    start, weights, delay, parameters, source, coupled, kept = memory
    delays, block = scheme.delays, scheme.delays.block
    count, blocks = scheme.stretches
    steps = blocks * block
    regions, length = start.history.shape
    buffer = jnp.concatenate([start.history, coupled], axis=1)
    beyond = count * steps - scheme.steps
    coupled_bar = jnp.pad(cotangent.coupled, ((0, 0), (0, beyond)))
    recorded_bar = jax.tree.map(lambda x: jnp.pad(x, ((0, beyond),) + ((0, 0),) * (x.ndim - 1)), cotangent.recorded)
    taps = [outgoing_taps(delays, level, weights, delay) for level in delays.levels]
    whole, fraction = split(delays, delays.every.take(delay, float(block)))

    def stretch(carry, x):
        """Walk some blocks backwards; columns and rows are counted from the first step of the stretch."""
        later, state_bar, parameters_bar, pairs = carry
        i, (state, inputs), coupled_bar, recorded_bar = x
        origin = i * steps
        noise = scheme.draw(source, start.clock + origin, steps)

        def again(state, x):
            t, delayed, normal = x
            return scheme.advance(state, delayed, normal, parameters, origin + t)[0], state

        _, states = lax.scan(again, state, (jnp.arange(steps), inputs.T, noise), unroll=delays.unroll(steps))
        path = (states, inputs.T, noise, recorded_bar)

        def run(depth, carry, t, coupled_bar):
            """Walk one block of level ``depth`` backwards."""
            size = delays.levels[depth].block
            coupled_bar = _summed(delays, coupled_bar + gather(delays, taps[depth], carry[0], t + 1, size))
            if depth + 1 < len(delays.levels):
                inner = delays.levels[depth + 1].block
                last = size // inner - 1

                def sub(i, carry):
                    first = (last - i) * inner
                    part = lax.dynamic_slice_in_dim(coupled_bar, first, inner, axis=1)
                    return run(depth + 1, carry, t + first, part)

                return lax.fori_loop(0, last + 1, sub, carry, unroll=delays.unroll(last + 1, inner))

            def one(i, carry):
                state_bar, parameters_bar = carry
                state, delayed, normal, recorded_bar = jax.tree.map(
                    lambda x: lax.dynamic_index_in_dim(x, t + i, keepdims=False), path
                )
                _, pull = jax.vjp(
                    lambda s, d, p: scheme.advance(s, d, normal, p, origin + t + i), state, delayed, parameters
                )
                column = lax.dynamic_index_in_dim(coupled_bar, i, axis=1, keepdims=False)
                state_bar, delayed_bar, extra = pull((state_bar, column, recorded_bar))
                return (state_bar, jax.tree.map(jnp.add, parameters_bar, extra)), (delayed_bar,)

            inputs_bar, *carry = carry
            carry, (inputs_bar,) = _steps(delays, size, one, tuple(carry), (inputs_bar,), (t,), reverse=True)
            return inputs_bar, *carry

        def one_block(i, carry):
            t = (blocks - 1 - i) * block
            return run(0, carry, t, lax.dynamic_slice_in_dim(coupled_bar, t, block, axis=1))

        # Cotangents of the delayed inputs of this stretch, and of the steps after it.
        inputs_bar = jnp.pad(later, ((0, 0), (steps, 0)))
        inputs_bar, state_bar, parameters_bar = lax.fori_loop(
            0, blocks, one_block, (inputs_bar, state_bar, parameters_bar)
        )
        past = lax.dynamic_slice_in_dim(buffer, origin, length + steps, axis=1)
        pairs += correlate(delays, past, length - 1, inputs_bar[:, :steps], whole)
        return (inputs_bar[:, : length + block], state_bar, parameters_bar, pairs), None

    # Nothing was computed after the last step.
    after = jnp.zeros((regions, length + block), buffer.dtype)
    pairs = jnp.zeros((*delays.every.target.shape, 2), buffer.dtype)
    (later, state_bar, parameters_bar, pairs), _ = lax.scan(
        stretch,
        (after, cotangent.state, jax.tree.map(jnp.zeros_like, parameters), pairs),
        (
            jnp.arange(count),
            kept,
            _parts(coupled_bar, count),
            jax.tree.map(lambda x: x.reshape(count, steps, *x.shape[1:]), recorded_bar),
        ),
        reverse=True,
    )

    # What was read before the first step; no inputs were computed there.
    inputs_bar = jnp.pad(later, ((0, 0), (length, length + block)))

    def earlier(i):
        """Cotangent of the history in the ``i``-th block of columns, counted from its start."""
        return sum(gather(delays, tap, inputs_bar, 1 + i * block, block) for tap in taps)

    pieces = lax.map(earlier, jnp.arange(-(-length // block)))
    history_bar = jnp.moveaxis(pieces, 0, 1).reshape(regions, -1)[:, :length]

    real = delays.every.real
    ends = (delays.every.target, delays.every.source)
    weight = delays.every.take(weights, 0.0)
    by_weight = jnp.where(real, fraction * pairs[..., 0] + (1 - fraction) * pairs[..., 1], 0.0)
    weights_bar = jnp.zeros_like(weights).at[ends].add(by_weight)
    by_delay = jnp.where(real, weight * (pairs[..., 0] - pairs[..., 1]), 0.0)
    delay_bar = jnp.zeros_like(delay).at[ends].add(jnp.zeros_like(by_delay) if delays.nearest else by_delay)
    return Start(history_bar, state_bar, None), weights_bar, delay_bar, parameters_bar, None


integrate_with_adjoint.defvjp(_remember, _backward)
