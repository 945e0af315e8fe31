"""Simulations too long to hold at every step: keep them at the rate of a recording."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PRNGKeyArray

from fitting.errors import InputError
from fitting.network.network import Network
from fitting.network.simulate import BLOCK, Adjoint, NetworkState, Trajectory, initial_state, simulate, steps_of
from fitting.signal import Decimator

#: Milliseconds that are simulated at a time.
PIECE = 1000.0


def simulate_decimated(
    network: Network,
    parameters: Mapping[str, Any],
    *,
    duration: float,
    dt: float,
    fs: float,
    key: PRNGKeyArray | None = None,
    state: NetworkState | None = None,
    adjoint: Adjoint = BLOCK,
) -> Trajectory:
    """As :func:`simulate`, with rates decimated on the fly.

    Memory is that of one piece at every step and of the whole at the lower rate; for a gradient too,
    which simulates each piece a second time.

    Parameters
    ----------
    network, parameters, key, state, adjoint
        See :func:`simulate`.
    duration, dt : float
        Simulated time and step, in ms.
    fs : float
        Sampling rate in Hz of the result; a step must fit a whole number of times into its period.

    Returns
    -------
    Trajectory
        ``rates`` (samples, region): sample n is centred on step ``n * factor``. Near both ends, over
        half the filter's length, the signal is extended by its first and last value.

    Raises
    ------
    InputError
        If samples, pieces and steps do not fit.

    Examples
    --------
    >>> import jax
    >>> from fitting.data import hcp_aal2
    >>> from fitting.network import Network, simulate_decimated
    >>> network = Network(hcp_aal2(regions=2), parameters={"drive": 0.6})
    >>> run = simulate_decimated(network, {}, duration=3000.0, dt=0.5, fs=100.0, key=jax.random.key(0))
    >>> run.rates.shape
    (300, 2)
    """
    factor = round(1000 / (fs * dt))
    if factor < 1 or abs(factor * fs * dt - 1000) > 1e-6:
        raise InputError(f"steps of {dt:g} ms do not fit a whole number of times into a period of {fs:g} Hz")
    steps = steps_of(duration, dt)
    samples, inside = divmod(steps, factor)
    if inside:
        raise InputError(f"{duration:g} ms are not a whole number of samples at {fs:g} Hz")
    each = min(max(1, round(PIECE / (factor * dt))), samples)
    decimator = Decimator(factor)

    def run(state, samples):
        return simulate(
            network, parameters, duration=samples * factor * dt, dt=dt, key=key, state=state, adjoint=adjoint
        )

    @jax.checkpoint
    def advance(carry, _):
        state, past = carry
        rates, _, state = run(state, each)
        past, kept = decimator(past, rates)
        return (state, past), kept

    # The first step alone tells what the signal is extended by.
    first = simulate(network, parameters, duration=dt, dt=dt, key=key, state=state, adjoint=adjoint).rates[0]
    carry = (initial_state(network, dt) if state is None else state, decimator.start(first))
    count, rest = divmod(samples, each)
    carry, kept = lax.scan(advance, carry, None, length=count)
    pieces = [kept.reshape(-1, network.regions)]
    if rest:
        rates, _, state = run(carry[0], rest)
        past, kept = decimator(carry[1], rates)
        carry = (state, past)
        pieces.append(kept)
    state, past = carry
    rates = jnp.concatenate([*pieces, decimator.finish(past)])[decimator.delay :]
    return Trajectory(rates, {}, state)
