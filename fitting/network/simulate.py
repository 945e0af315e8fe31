"""A network of neural masses on a connectome, and the pure function that simulates it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from fitting import devices
from fitting.errors import InputError
from fitting.network import noise as noises
from fitting.network.coupling import COUPLING_PARAMETERS, COUPLINGS
from fitting.network.delays import LARGEST_BLOCK, Delays, plan
from fitting.network.integrate import Scheme, Start, integrate, integrate_with_adjoint
from fitting.network.nodes import NODES

ADJOINTS = ("block", "forward", "checkpoint")
INTERPOLATIONS = ("linear", "nearest")
DELAYS = ("measured", "mean", "zero")


@dataclass(frozen=True, eq=False)
class Network:
    """Neural-mass nodes on a connectome with delays and noise. Holds no state.

    Parameters
    ----------
    weights : array, (target, source)
        Connection weights; ``weights[target, source]``, so directed connectomes work. The diagonal
        is ignored (a region's own recurrence belongs to the node).
    lengths : array, (target, source)
        Fibre lengths in mm.
    node : Node or str
        The node of every region, or the name of a preset in :data:`fitting.network.NODES`.
    coupling : str
        ``"diffusive"``, ``"additive"`` or ``"sigmoidal"``.
    noise : str
        ``"ornstein_uhlenbeck"`` or ``"white"``.
    speed_bounds : (float, float)
        Lowest and highest signal speed in m/s (equal to mm/ms) that will ever be simulated. The
        lowest fixes how much history is kept, the highest how long a block may be; changing the
        speed within them compiles nothing.
    interpolation : str
        ``"linear"`` reads the history between samples, which gives a gradient with respect to
        speed; ``"nearest"`` rounds delays to whole steps, as brainmass does.
    drive : float
        Background input to each node, in units of the node's input.
    parameters : mapping
        Other default values than those of coupling, noise and drive.
    length_bounds : (array, array), optional
        Shortest and longest length in mm that each connection will ever have; ``lengths`` unless
        given. For networks whose ``lengths`` are simulated as a parameter: see :meth:`of_subjects`.

    Raises
    ------
    InputError
        If shapes do not match, values are not finite, lengths are negative, or a name is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from fitting.network import Network
    >>> network = Network(np.ones((3, 3)), np.full((3, 3), 50.0), node="wilson_cowan_alpha", drive=0.6)
    >>> network.regions
    3
    """

    weights: np.ndarray
    lengths: np.ndarray
    node: Any = "wilson_cowan_alpha"
    coupling: str = "diffusive"
    noise: str = "ornstein_uhlenbeck"
    speed_bounds: tuple[float, float] = (1.0, 20.0)
    interpolation: str = "linear"
    drive: float = 0.0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    largest_block: int = LARGEST_BLOCK
    length_bounds: Any = None

    def __post_init__(self):
        weights, lengths = (np.array(x, dtype=float) for x in (self.weights, self.lengths))
        _check_matrix("weights", weights)
        _check_matrix("lengths", lengths)
        if weights.shape != lengths.shape:
            raise InputError(f"weights are {weights.shape} but lengths are {lengths.shape}; both need the same regions")
        if (lengths < 0).any():
            raise InputError(f"lengths must not be negative; the smallest is {lengths.min():g} mm")
        np.fill_diagonal(weights, 0.0)
        low, high = self.speed_bounds
        if not 0 < low <= high < math.inf:
            raise InputError(f"speed_bounds must be two positive speeds, lowest first; got {self.speed_bounds}")
        for value, known, what in (
            (self.coupling, COUPLINGS, "coupling"),
            (self.noise, noises.NOISES, "noise"),
            (self.interpolation, INTERPOLATIONS, "interpolation"),
        ):
            if value not in known:
                raise InputError(f"unknown {what} {value!r}; choose from {', '.join(known)}")
        node = self.node
        if isinstance(node, str):
            if node not in NODES:
                raise InputError(f"unknown node {node!r}; choose from {', '.join(NODES)}")
            node = NODES[node]()
        object.__setattr__(self, "node", node)
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "lengths", lengths)
        object.__setattr__(self, "speed_bounds", (float(low), float(high)))
        bounds = (lengths, lengths) if self.length_bounds is None else self.length_bounds
        shortest, longest = (np.array(x, dtype=float) for x in bounds)
        if shortest.shape != lengths.shape or longest.shape != lengths.shape:
            raise InputError(f"length_bounds are {shortest.shape} and {longest.shape}, lengths are {lengths.shape}")
        if not ((shortest >= 0) & (shortest <= lengths) & (lengths <= longest) & (longest < np.inf)).all():
            raise InputError("length_bounds must be two matrices with 0 <= shortest <= lengths <= longest")
        object.__setattr__(self, "length_bounds", (shortest, longest))
        for name in self.parameters:
            self.check_name(name)

    @classmethod
    def of_subjects(
        cls,
        weights: Float[np.ndarray, "subject target source"],
        lengths: Float[np.ndarray, "subject target source"],
        **settings: Any,
    ) -> Network:
        """A network that can be simulated with the connectome of each of many subjects, also of all at once.

        It has the mean of their weights and lengths (of those subjects that have a connection), and
        plans for every length that occurs.

        Examples
        --------
        >>> import jax, numpy as np
        >>> from fitting.network import Network, simulate
        >>> weights, lengths = np.ones((2, 3, 3)), np.stack([np.full((3, 3), 50.0), np.full((3, 3), 60.0)])
        >>> network = Network.of_subjects(weights, lengths, drive=0.6)
        >>> def rates(weights, lengths):
        ...     return simulate(network, {"weights": weights, "lengths": lengths}, duration=10.0, dt=0.5).rates
        >>> jax.vmap(rates)(weights, lengths).shape
        (2, 20, 3)
        """
        weights, lengths = np.asarray(weights, dtype=float), np.asarray(lengths, dtype=float)
        if weights.ndim != 3 or weights.shape != lengths.shape or len(weights) == 0:
            raise InputError(
                f"weights and lengths of subjects must both be (subject, target, source); got {weights.shape} and "
                f"{lengths.shape}"
            )
        has = weights != 0
        count = np.maximum(has.sum(0), 1)
        mean = np.where(has, lengths, 0.0).sum(0) / count
        shortest = np.minimum(np.where(has, lengths, np.inf).min(0), mean)
        longest = np.maximum(np.where(has, lengths, 0.0).max(0), mean)
        return cls(weights.mean(0), mean, length_bounds=(shortest, longest), **settings)

    def of_delays(self, kind: str) -> Network:
        """The same network with other fibre lengths, and so delays.

        Parameters
        ----------
        kind : str
            ``"measured"``: this network. ``"mean"``: all connections have the mean length. ``"zero"``: no delays.

        Returns
        -------
        Network

        Examples
        --------
        >>> import numpy as np
        >>> from fitting.network import Network
        >>> network = Network(np.ones((2, 2)), np.array([[0.0, 10.0], [30.0, 0.0]]))
        >>> network.of_delays("mean").lengths.tolist()
        [[0.0, 20.0], [20.0, 0.0]]
        """
        if kind not in DELAYS:
            raise InputError(f"unknown delays {kind!r}; choose from {', '.join(DELAYS)}")
        if kind == "measured":
            return self
        connected = self.weights != 0
        length = float(self.lengths[connected].mean()) if kind == "mean" and connected.any() else 0.0
        return replace(self, lengths=np.where(connected, length, 0.0), length_bounds=None)

    @property
    def regions(self) -> int:
        """Number of regions."""
        return len(self.weights)

    @property
    def network_parameters(self) -> dict[str, float]:
        """Parameters of coupling, delays, noise and drive, with their defaults."""
        low, high = self.speed_bounds
        return {
            **COUPLING_PARAMETERS[self.coupling],
            "signal_speed": math.sqrt(low * high),
            **noises.NOISE_PARAMETERS[self.noise],
            "drive": self.drive,
        }

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Every name that ``parameters`` of :func:`simulate` may hold."""
        return (*self.network_parameters, *self.node.parameter_names, "weights", "lengths")

    def check_name(self, name: str):
        """Refuse a name that is no parameter of this network."""
        if name not in self.parameter_names:
            raise InputError(f"unknown parameter {name!r}; this network has {', '.join(self.parameter_names)}")

    def default(self, name: str) -> Any:
        """Value that the parameter ``name`` has unless it is given."""
        self.check_name(name)
        if name in self.parameters:
            return self.parameters[name]
        if name in self.network_parameters:
            return self.network_parameters[name]
        if name in ("weights", "lengths"):
            return getattr(self, name)
        return self.node.default(name)

    def delays(self, dt: float, gpu: bool = False) -> Delays:
        """How delays are processed with steps of ``dt`` milliseconds, on a CPU or a GPU."""
        low, high = self.speed_bounds
        connected = self.weights != 0
        shortest, longest = self.length_bounds
        most = float((longest[connected] / (low * dt)).max(initial=0.0))
        return plan(connected, shortest / (high * dt), most, self.interpolation == "nearest", self.largest_block, gpu)


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


class Simulation(NamedTuple):
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
    noise: Float[Array, "steps ports regions"] | None = None,
    state: NetworkState | None = None,
    record: Sequence[str] = (),
    adjoint: str = "block",
    horizon: float | None = None,
) -> Simulation:
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
        Key of the noise; without one (and without ``noise``) the network runs without noise.
    noise : array (steps, ports, regions), optional
        Standard normal numbers to use instead of drawing them.
    state : NetworkState, optional
        Where to continue from; by default :func:`initial_state`.
    record : sequence of str
        State variables to return beside the coupled one.
    adjoint : str
        How reverse-mode derivatives are computed: ``"block"`` (hand-written, stores a few numbers
        per region and step), ``"checkpoint"`` (automatic, checkpointed: slow, for comparison), or
        ``"forward"`` (leaves the program open to ``jax.jvp`` and ``jax.jacfwd``, for few parameters).
    horizon : float, optional
        Cut the gradient that flows through the state every ``horizon`` ms. Bounds the gradient of
        unstable networks, at the price of a bias.

    Returns
    -------
    Simulation

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
    >>> import jax, numpy as np
    >>> from fitting.network import Network, simulate
    >>> network = Network(np.ones((3, 3)), np.full((3, 3), 50.0), drive=0.6)
    >>> run = simulate(network, {"k": 0.5}, duration=100.0, dt=0.25, key=jax.random.key(0))
    >>> run.rates.shape
    (400, 3)
    """
    steps = steps_of(duration, dt)
    if adjoint not in ADJOINTS:
        raise InputError(f"unknown adjoint {adjoint!r}; choose from {', '.join(ADJOINTS)}")
    for name in record:
        if name not in network.node.variables:
            raise InputError(f"cannot record {name!r}; {network.node.model} has {', '.join(network.node.variables)}")
    _check_parameters(network, parameters)
    if noise is not None and noise.shape != (steps, network.node.ports, network.regions):
        raise InputError(
            f"noise has shape {noise.shape}; it must be (steps, ports, regions) = "
            f"{(steps, network.node.ports, network.regions)}"
        )
    segment = steps if horizon is None else min(steps, steps_of(horizon, dt))
    dtype = jnp.result_type(float)
    parameters = {name: jnp.asarray(value, dtype) for name, value in parameters.items()}
    return _simulate(
        network, steps, float(dt), tuple(record), adjoint, segment, devices.on_gpu(), parameters, key, noise,
        initial_state(network, dt, dtype) if state is None else state,
    )  # fmt: skip


def resolve(network: Network, parameters: Mapping[str, Any], dtype):
    """Weights, travel times in ms, and everything else by region, from a network's defaults and ``parameters``."""
    values = {name: jnp.asarray(network.default(name), dtype) for name in network.network_parameters}
    values |= {"weights": jnp.asarray(network.weights, dtype), "lengths": jnp.asarray(network.lengths, dtype)}
    values |= {name: jnp.asarray(value, dtype) for name, value in network.parameters.items()}
    values |= parameters
    weights, speed = values.pop("weights"), values.pop("signal_speed")
    lengths = values.pop("lengths")
    weights = jnp.where(jnp.asarray(network.weights != 0), weights, 0.0)
    (low, high), (shortest, longest) = network.speed_bounds, network.length_bounds
    # A delay outside the bounds would read history that is not there: NaN instead of a wrong number.
    inside = (speed >= low * (1 - 1e-6)) & (speed <= high * (1 + 1e-6))
    inside &= (lengths >= shortest * (1 - 1e-6)) & (lengths <= longest * (1 + 1e-6))
    weights = jnp.where(inside | (weights == 0), weights, jnp.nan)
    travel = jnp.where(inside, lengths / speed, jnp.asarray(longest / low, dtype))
    by_region = {name: jnp.broadcast_to(value, (network.regions,)) for name, value in values.items()}
    by_region["row_sum"] = weights.sum(1)
    return weights, travel, by_region


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5, 6))
def _simulate(network, steps, dt, record, adjoint, segment, gpu, parameters, key, noise, state):
    regions, ports, dtype = network.regions, network.node.ports, state.history.dtype
    weights, travel, by_region = resolve(network, parameters, dtype)
    delay = travel / dt
    node_names = network.node.parameter_names

    coupling, process = COUPLINGS[network.coupling], noises.NOISES[network.noise]
    quiet = key is None and noise is None

    def step(state, delayed, normal, parameters):
        node, fluctuation = state
        own = node[network.node.coupled]
        current = coupling(delayed, own, parameters["row_sum"], parameters) + parameters["drive"]
        if quiet:
            injected = fluctuation
        else:
            fluctuation, injected = process(fluctuation, normal, parameters, dt)
        node_parameters = {name: value for name, value in parameters.items() if name in node_names}
        node = network.node.step(node, current, injected, node_parameters, dt)
        return (node, fluctuation), {name: node[name] for name in record}

    def draw(source, start, count):
        key, noise, zero = source
        if key is not None:
            return noises.draw(key, start, count, (ports, regions), dtype)
        if noise is not None:
            # Padded by a block, so that the part of a block beyond the last step reads zeros.
            return lax.dynamic_slice_in_dim(noise, start - zero, count, axis=0)
        return jnp.zeros((count, ports, regions), dtype)

    delays = network.delays(dt, gpu)
    if noise is not None:
        noise = jnp.pad(noise.astype(dtype), ((0, delays.block), (0, 0), (0, 0)))
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
    return Simulation(rates, recorded, NetworkState(node_state, noise_state, start.history, start.clock))


def _check_matrix(name: str, matrix: np.ndarray):
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(f"{name} must be a square matrix (target, source); got shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        bad = np.argwhere(~np.isfinite(matrix))[0]
        raise InputError(f"{name} has a value that is not finite at row {bad[0]}, column {bad[1]}")


def _check_parameters(network: Network, parameters: Mapping[str, Any]):
    regions = network.regions
    for name, value in parameters.items():
        network.check_name(name)
        shape = jnp.shape(value)
        square = (regions, regions)
        allowed: tuple[tuple[int, ...], ...] = ((), (regions,))
        if name in ("weights", "lengths"):
            allowed = (square,)
        elif name == "signal_speed":
            allowed = ((), square)
        if shape not in allowed:
            wanted = " or ".join(str(a) if a else "one number" for a in allowed)
            raise InputError(f"parameter {name!r} has shape {shape}; it must be {wanted}")
    speed, lengths = parameters.get("signal_speed"), parameters.get("lengths")
    low, high = network.speed_bounds
    if speed is not None and not isinstance(speed, jax.core.Tracer):
        outside = np.asarray(speed)
        if (outside < low * (1 - 1e-6)).any() or (outside > high * (1 + 1e-6)).any():
            raise InputError(f"signal_speed {outside} m/s is outside the network's speed_bounds {low} to {high} m/s")
    if lengths is not None and not isinstance(lengths, jax.core.Tracer):
        shortest, longest = network.length_bounds
        wrong = (lengths < shortest * (1 - 1e-6)) | (lengths > longest * (1 + 1e-6))
        wrong = np.argwhere(wrong & (np.asarray(network.weights) != 0))
        if len(wrong):
            i, j = wrong[0]
            raise InputError(
                f"the length of connection {j} -> {i}, {np.asarray(lengths)[i, j]:g} mm, is outside the network's "
                f"length_bounds {shortest[i, j]:g} to {longest[i, j]:g} mm; give the network wider ones"
            )
