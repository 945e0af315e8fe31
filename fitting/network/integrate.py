"""Step a delayed network forward, and walk it backwards for exact gradients.

:func:`integrate` advances a network by a fixed number of steps. Its reverse-mode derivative is
written by hand, because what automatic differentiation would store (every gathered window) is
hundreds of times larger than what is needed. The adjoint keeps the trajectory of the coupled
variable, the delayed input, and the state at each block's start: a few numbers per region and
step. It walks the blocks backwards, recomputes the states inside a block, and reads the delayed
cotangents from one array, by the same windows as the forward pass (the transpose of reading
``c(t - d)`` is reading the cotangent at ``t + d``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fitting.network.delays import Delays, correlate, gather, incoming_taps, outgoing_taps, split

#: Steps whose histories and cotangents are multiplied at once: more are faster, and need memory for each connection.
CORRELATED = 128


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
    def blocks(self) -> int:
        """Blocks of the longest kind, the last one perhaps partly beyond the end."""
        return -(-self.steps // self.delays.block)

    def advance(self, state, delayed, noise, parameters, t):
        """One step; beyond the last step the state stands still."""
        new, recorded = self.step(state, delayed, noise, parameters)
        if self.steps % self.delays.block:
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


def _parts(x, count):
    """Split the last axis into ``count`` parts along a new leading axis."""
    return jnp.moveaxis(x.reshape(*x.shape[:-1], count, -1), -2, 0)


def _forward(scheme: Scheme, start: Start, weights, delay, parameters, source, keep: bool):
    delays, block = scheme.delays, scheme.delays.block
    now = start.history.shape[1] - 1
    buffer = jnp.pad(start.history, ((0, 0), (0, scheme.blocks * block)))
    taps = [incoming_taps(delays, level, weights, delay) for level in delays.levels]

    def run(depth, buffer, state, t, delayed, noise):
        """Advance by one block of level ``depth``; ``delayed`` holds the input of longer levels."""
        size = delays.levels[depth].block
        delayed = delayed + gather(delays, taps[depth], buffer, now + t, size)
        if depth + 1 < len(delays.levels):
            inner = delays.levels[depth + 1].block

            def sub(carry, x):
                i, delayed, noise = x
                buffer, state = carry
                buffer, state, kept = run(depth + 1, buffer, state, t + i * inner, delayed, noise)
                return (buffer, state), kept

            count = size // inner
            noise = noise.reshape(count, inner, *noise.shape[1:])
            (buffer, state), (delayed, recorded) = lax.scan(
                sub,
                (buffer, state),
                (jnp.arange(count), _parts(delayed, count), noise),
                unroll=delays.unroll(count, inner),
            )
            return buffer, state, (delayed.reshape(size, -1), jax.tree.map(_flatten_time, recorded))

        def one(state, x):
            i, delayed, noise = x
            state, coupled, recorded = scheme.advance(state, delayed, noise, parameters, t + i)
            return state, (coupled, recorded)

        delayed = delayed.T
        state, (coupled, recorded) = lax.scan(
            one, state, (jnp.arange(size), delayed, noise), unroll=delays.unroll(size)
        )
        buffer = lax.dynamic_update_slice(buffer, coupled.T, (0, now + 1 + t))
        return buffer, state, (delayed, recorded)

    def outer(carry, i):
        buffer, state = carry
        t = i * block
        noise = scheme.draw(source, start.clock + t, block)
        delayed = jnp.zeros((buffer.shape[0], block), buffer.dtype)
        new_buffer, new_state, (delayed, recorded) = run(0, buffer, state, t, delayed, noise)
        return (new_buffer, new_state), (recorded, (state, delayed) if keep else ())

    (buffer, state), (recorded, kept) = lax.scan(outer, (buffer, start.state), jnp.arange(scheme.blocks))
    recorded = jax.tree.map(lambda x: _flatten_time(x)[: scheme.steps], recorded)
    path = Path(lax.slice_in_dim(buffer, now + 1, now + 1 + scheme.steps, axis=1), recorded, state)
    return path, (buffer, kept)


def _flatten_time(x):
    return x.reshape(-1, *x.shape[2:])


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
    path, (buffer, kept) = _forward(scheme, start, weights, delay, parameters, source, keep=True)
    return path, (start, weights, delay, parameters, source, buffer, kept)


def _backward(scheme: Scheme, memory, cotangent: Path):
    start, weights, delay, parameters, source, buffer, (block_states, block_inputs) = memory
    delays, block, blocks = scheme.delays, scheme.delays.block, scheme.blocks
    regions, length = start.history.shape
    now = length - 1
    beyond = blocks * block - scheme.steps
    coupled_bar = jnp.pad(cotangent.coupled, ((0, 0), (0, beyond)))
    recorded_bar = jax.tree.map(lambda x: jnp.pad(x, ((0, beyond),) + ((0, 0),) * (x.ndim - 1)), cotangent.recorded)
    # Cotangent of the delayed input at step t, column `zero + t`; zero before the first step and
    # after the last, where nothing was computed.
    zero = length + block
    inputs_bar = jnp.zeros((regions, zero + blocks * block + length + block), buffer.dtype)
    taps = [outgoing_taps(delays, level, weights, delay) for level in delays.levels]
    whole, fraction = split(delays, delays.every.take(delay, float(block)))

    def run(depth, inputs_bar, state_bar, parameters_bar, t, coupled_bar, steps):
        """Walk one block of level ``depth`` backwards; ``steps`` holds what each step needs."""
        size = delays.levels[depth].block
        coupled_bar = coupled_bar + gather(delays, taps[depth], inputs_bar, zero + t + 1, size)
        if depth + 1 < len(delays.levels):
            inner = delays.levels[depth + 1].block
            count = size // inner

            def sub(carry, x):
                i, coupled_bar, steps = x
                inputs_bar, state_bar, parameters_bar = carry
                carry = run(depth + 1, inputs_bar, state_bar, parameters_bar, t + i * inner, coupled_bar, steps)
                return carry, None

            steps = jax.tree.map(lambda x: x.reshape(count, inner, *x.shape[1:]), steps)
            carry, _ = lax.scan(
                sub,
                (inputs_bar, state_bar, parameters_bar),
                (jnp.arange(count), _parts(coupled_bar, count), steps),
                reverse=True,
                unroll=delays.unroll(count, inner),
            )
            return carry

        def one(carry, x):
            state_bar, parameters_bar = carry
            i, coupled_bar, (state, delayed, noise, recorded_bar) = x
            _, pull = jax.vjp(lambda s, d, p: scheme.advance(s, d, noise, p, t + i), state, delayed, parameters)
            state_bar, delayed_bar, extra = pull((state_bar, coupled_bar, recorded_bar))
            return (state_bar, jax.tree.map(jnp.add, parameters_bar, extra)), delayed_bar

        (state_bar, parameters_bar), delayed_bar = lax.scan(
            one,
            (state_bar, parameters_bar),
            (jnp.arange(size), coupled_bar.T, steps),
            reverse=True,
            unroll=delays.unroll(size),
        )
        inputs_bar = lax.dynamic_update_slice(inputs_bar, delayed_bar.T, (0, zero + t))
        return inputs_bar, state_bar, parameters_bar

    def outer(carry, x):
        inputs_bar, state_bar, parameters_bar = carry
        i, state, delayed, recorded_bar = x
        t = i * block
        noise = scheme.draw(source, start.clock + t, block)

        def again(state, x):
            j, delayed, noise = x
            return scheme.advance(state, delayed, noise, parameters, t + j)[0], state

        _, states = lax.scan(again, state, (jnp.arange(block), delayed, noise), unroll=delays.unroll(block))
        coupled = lax.dynamic_slice_in_dim(coupled_bar, t, block, axis=1)
        steps = (states, delayed, noise, recorded_bar)
        return run(0, inputs_bar, state_bar, parameters_bar, t, coupled, steps), None

    carry = (inputs_bar, cotangent.state, jax.tree.map(jnp.zeros_like, parameters))
    by_block = jax.tree.map(lambda x: x.reshape(blocks, block, *x.shape[1:]), recorded_bar)
    (inputs_bar, state_bar, parameters_bar), _ = lax.scan(
        outer, carry, (jnp.arange(blocks), block_states, block_inputs, by_block), reverse=True
    )

    def earlier(i):
        """Cotangent of the history in the ``i``-th block of columns, counted from its start."""
        column = zero - now + i * block
        return sum(gather(delays, tap, inputs_bar, column, block) for tap in taps)

    pieces = lax.map(earlier, jnp.arange(-(-length // block)))
    history_bar = jnp.moveaxis(pieces, 0, 1).reshape(regions, -1)[:, :length]

    count = min(CORRELATED, blocks * block)

    def correlated(pairs, start):
        """Add what the derivatives of weights and delays are made of, over ``count`` steps."""
        # The last ones reach no further than the walk; what they share with those before is counted there.
        t = jnp.minimum(start, blocks * block - count)
        delayed_bar = lax.dynamic_slice_in_dim(inputs_bar, zero + t, count, axis=1)
        delayed_bar = jnp.where(t + jnp.arange(count) >= start, delayed_bar, 0.0)
        return pairs + correlate(delays, buffer, now + t, delayed_bar, whole), None

    pairs = jnp.zeros((*delays.every.target.shape, 2), buffer.dtype)
    pairs, _ = lax.scan(correlated, pairs, jnp.arange(0, blocks * block, count))

    real = delays.every.real
    ends = (delays.every.target, delays.every.source)
    weight = delays.every.take(weights, 0.0)
    by_weight = jnp.where(real, fraction * pairs[..., 0] + (1 - fraction) * pairs[..., 1], 0.0)
    weights_bar = jnp.zeros_like(weights).at[ends].add(by_weight)
    by_delay = jnp.where(real, weight * (pairs[..., 0] - pairs[..., 1]), 0.0)
    delay_bar = jnp.zeros_like(delay).at[ends].add(jnp.zeros_like(by_delay) if delays.nearest else by_delay)
    return Start(history_bar, state_bar, None), weights_bar, delay_bar, parameters_bar, None


integrate_with_adjoint.defvjp(_remember, _backward)
