"""Simulate a network: a pure, differentiable function of its parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from fitting import devices
from fitting.errors import InputError
from fitting.network import noise as noises
from fitting.network.integrate import Scheme, Start, integrate, integrate_with_adjoint
from fitting.network.network import Network

ADJOINTS = ("block", "forward", "checkpoint")


@dataclass(frozen=True)
class Adjoint:
    """How derivatives of a simulation are computed.

    Parameters
    ----------
    kind : str
        ``"block"`` (hand-written reverse mode, stores a few numbers per region and step), ``"checkpoint"`` (automatic,
        checkpointed: slow, for comparison), or ``"forward"`` (leaves the program open to ``jax.jvp`` and
        ``jax.jacfwd``, for few parameters).
    horizon : float, optional
        Cut the gradient that flows through the state every ``horizon`` ms. Bounds the gradient of
        unstable networks, at the price of a bias.
    """

    kind: str = "block"
    horizon: float | None = None

    def __post_init__(self):
        if self.kind not in ADJOINTS:
            raise InputError(f"unknown adjoint {self.kind!r}; choose from {', '.join(ADJOINTS)}")


#: Reverse mode, written by hand.
BLOCK = Adjoint()


class NetworkState(NamedTuple):
    """Everything that a simulation needs to continue: see :func:`simulate`.

    Attributes
    ----------
    node : dict of (regions,)
        The node's state variables.
    noise : (ports, regions)
        State of the noise processes.
    history : (regions, steps)
        Recent values of the coupled variable; the last column is now.
    clock : int
        Steps since time zero; it chooses the noise.
    """

    node: dict[str, Float[Array, " regions"]]
    noise: Float[Array, "ports regions"]
    history: Float[Array, "regions steps"]
    clock: Any


class Trajectory(NamedTuple):
    """Result of :func:`simulate`.

    Attributes
    ----------
    rates : (time, region)
        The coupled variable at the end of every step.
    recorded : dict of (time, region)
        Other variables that were asked for.
    state : NetworkState
        Pass it on to continue.
    """

    rates: Float[Array, "time region"]
    recorded: dict[str, Float[Array, "time region"]]
    state: NetworkState


def initial_state(network: Network, dt: float, dtype=None, node: Mapping[str, Any] | None = None) -> NetworkState:
    """State at time zero: the node's initial values, silent noise, and a constant past.

    Parameters
    ----------
    network : Network
    dt : float
        Step in ms.
    dtype : dtype, optional
        JAX's default float unless given.
    node : mapping, optional
        Initial values of state variables, a number or one per region.

    Returns
    -------
    NetworkState
    """
    dtype = dtype or jnp.zeros(()).dtype
    state = network.node.initial_state(network.regions, dtype)
    for name, value in (node or {}).items():
        if name not in state:
            raise InputError(f"{network.node.model} has no variable {name!r}; it has {', '.join(state)}")
        state[name] = jnp.broadcast_to(jnp.asarray(value, dtype), (network.regions,))
    length = network.delays(dt).longest + 1
    return NetworkState(
        state,
        jnp.zeros((network.node.ports, network.regions), dtype),
        jnp.repeat(state[network.node.coupled][:, None], length, axis=1),
        jnp.zeros((), jnp.uint32),
    )


def steps_of(duration: float, dt: float) -> int:
    """Whole number of steps in ``duration``; refuses a duration that is not a multiple of ``dt``."""
    if not (0 < dt < math.inf and 0 < duration < math.inf):
        raise InputError(f"duration and dt must be positive; got {duration} ms and {dt} ms")
    steps = round(duration / dt)
    if steps < 1 or abs(steps * dt - duration) > 1e-6 * duration:
        raise InputError(f"duration {duration} ms is not a whole number of steps of {dt} ms")
    return steps


def simulate(
    network: Network,
    parameters: Mapping[str, Any],
    *,
    duration: float,
    dt: float,
    key: PRNGKeyArray | None = None,
    state: NetworkState | None = None,
    record: Sequence[str] = (),
    adjoint: Adjoint = BLOCK,
    dtype: Any = float,
) -> Trajectory:
    """Simulate a network. Pure, and differentiable with respect to every parameter.

    Parameters
    ----------
    network : Network
    parameters : mapping
        Values that differ from the network's defaults: ``k``, ``signal_speed`` (m/s), ``sigma``,
        ``drive``, any parameter of the node (time constants in ms), each a number or one per region
        (``signal_speed`` also one per connection), and ``weights`` or ``lengths``.
    duration, dt : float
        Simulated time and step, in ms.
    key : PRNG key, optional
        Key of the noise; without one the network runs without noise. See also :func:`simulate_noise`.
    state : NetworkState, optional
        Where to continue from; by default :func:`initial_state`.
    record : sequence of str
        State variables to return beside the coupled one.
    adjoint : Adjoint
        How derivatives are computed.
    dtype : dtype
        Of all numbers: JAX's default float unless given. Another one makes other noise of the same key.

    Returns
    -------
    Trajectory

    Raises
    ------
    InputError
        If a name is unknown, a shape does not fit, a concrete signal speed or length lies outside
        the network's bounds, or ``duration`` is not a multiple of ``dt``. A traced speed or length
        outside the bounds gives NaN, never a wrong number.

    References
    ----------
    Euler-Maruyama-like splitting: brainmass's exponential Euler step for the node, the exact
    Ornstein-Uhlenbeck update for the noise, which is then held over the step.

    Examples
    --------
    >>> import jax
    >>> from fitting.data import hcp_aal2
    >>> from fitting.network import Network, simulate
    >>> network = Network(hcp_aal2(regions=3), parameters={"drive": 0.6})
    >>> run = simulate(network, {"k": 0.5}, duration=100.0, dt=0.25, key=jax.random.key(0))
    >>> run.rates.shape
    (400, 3)
    """
    return _checked(network, parameters, steps_of(duration, dt), dt, (key, None), state, record, adjoint, dtype)


def simulate_noise(
    network: Network,
    parameters: Mapping[str, Any],
    noise: Float[Array, "steps ports regions"],
    *,
    dt: float,
    state: NetworkState | None = None,
    record: Sequence[str] = (),
    adjoint: Adjoint = BLOCK,
) -> Trajectory:
    """As :func:`simulate`, for as many steps as there is noise: standard normal numbers for each port and region.

    Parameters
    ----------
    network, parameters, dt, state, record, adjoint
        See :func:`simulate`.
    noise : array (steps, ports, regions)
        Standard normal numbers; those of common inputs come after the regions (:attr:`Network.noise_shape`).

    Returns
    -------
    Trajectory
    """
    if noise.ndim != 3 or noise.shape[1:] != network.noise_shape:
        raise InputError(
            f"noise has shape {noise.shape}; it must be (steps, ports, regions) with "
            f"{network.node.ports} ports and {network.regions} regions, and {network.common_inputs} common inputs"
        )
    return _checked(network, parameters, len(noise), dt, (None, noise), state, record, adjoint, float)


def _checked(network, parameters, steps, dt, source, state, record, adjoint, dtype) -> Trajectory:
    for name in record:
        if name not in network.node.variables:
            raise InputError(f"cannot record {name!r}; {network.node.model} has {', '.join(network.node.variables)}")
    network.check_parameters(parameters)
    segment = steps if adjoint.horizon is None else min(steps, steps_of(adjoint.horizon, dt))
    dtype = jnp.result_type(dtype)
    parameters = {name: jnp.asarray(value, dtype) for name, value in parameters.items()}
    plan = _Plan(steps, float(dt), tuple(record), adjoint.kind, segment, devices.on_gpu())
    state = initial_state(network, dt, dtype) if state is None else state
    needed = (network.regions, network.delays(dt).longest + 1)
    if state.history.shape != needed:
        raise InputError(
            f"the state holds the past of {state.history.shape[0]} regions over {state.history.shape[1]} steps, and "
            f"this network needs {needed[0]} and {needed[1]}: continue with the same dt and bounds on speeds and "
            "lengths"
        )
    node, fluctuation, history = jax.tree.map(lambda x: x.astype(dtype), state[:-1])
    state = NetworkState(node, fluctuation, history, state.clock)
    return _simulate(network, plan, network.resolve(parameters, dtype), source, state)


class _Plan(NamedTuple):
    """What is fixed before compiling, besides the network."""

    steps: int
    dt: float
    record: tuple[str, ...]
    adjoint: str
    segment: int
    gpu: bool


@partial(jax.jit, static_argnums=(0, 1))
def _simulate(network, plan, resolved, source, state):
    steps, dt, record, adjoint, segment, gpu = plan
    key, noise = source
    dtype = state.history.dtype
    weights, travel, by_region = resolved
    delay = travel / dt
    quiet = key is None and noise is None

    def step(state, delayed, normal, parameters):
        node, fluctuation = network.step(state, delayed, None if quiet else normal, parameters, dt)
        return (node, fluctuation), {name: node[name] for name in record}

    def draw(source, start, count):
        key, noise, zero = source
        if key is not None:
            return noises.draw(key, start, count, network.noise_shape, dtype)
        if noise is not None:
            # Padded, so that the part of a stretch beyond the last step reads zeros.
            return lax.dynamic_slice_in_dim(noise, start - zero, count, axis=0)
        return jnp.zeros((count, *network.noise_shape), dtype)

    delays = network.delays(dt, gpu)
    if noise is not None:
        noise = jnp.pad(noise.astype(dtype), ((0, delays.stretch), (0, 0), (0, 0)))
    source = (key, noise, state.clock)
    solve = integrate_with_adjoint if adjoint == "block" else integrate

    def run(start, count):
        scheme = Scheme(delays, count, step, lambda state: state[0][network.node.coupled], draw)
        path = solve(scheme, start, weights, delay, by_region, source)
        history = jnp.concatenate([start.history, path.coupled], axis=1)[:, -start.history.shape[1] :]
        return path, Start(history, path.state, start.clock + jnp.uint32(count))

    if adjoint == "checkpoint":
        run = jax.checkpoint(run, static_argnums=(1,))
    start = Start(state.history, (state.node, state.noise), state.clock)
    whole, rest = divmod(steps, segment)
    pieces = []
    if whole == 1:
        path, start = run(start, segment)
        pieces.append((path.coupled.T, path.recorded))
    elif whole > 1:

        def body(start, _):
            path, end = run(lax.stop_gradient(start), segment)
            return end, (path.coupled.T, path.recorded)

        start, stacked = lax.scan(body, start, None, length=whole)
        pieces.append(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), stacked))
    if rest:
        path, start = run(lax.stop_gradient(start) if whole else start, rest)
        pieces.append((path.coupled.T, path.recorded))
    rates, recorded = jax.tree.map(lambda *x: jnp.concatenate(x), *pieces)
    node_state, noise_state = start.state
    return Trajectory(rates, recorded, NetworkState(node_state, noise_state, start.history, start.clock))
