"""A network of neural masses on a connectome: what it is, and the one equation that it obeys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float

from fitting.errors import InputError
from fitting.network.balance import PACE, balanced
from fitting.network.coupling import COUPLING_PARAMETERS, COUPLINGS
from fitting.network.delays import LARGEST_BLOCK, Delays, plan
from fitting.network.nodes import NODES
from fitting.network.noise import NOISE_PARAMETERS, NOISES

INTERPOLATIONS = ("linear", "nearest")
DELAYS = ("measured", "mean", "zero")

#: Signal speed in m/s that a network has unless another is given.
SIGNAL_SPEED = 6.0

#: What rounding may move a speed or a length beyond its bounds.
ROUNDING = 1e-6

#: Most common inputs, and how strongly regions receive one unless it is said.
MOST_COMMON, COMMON = 2, 0.5

#: Activity at rest of a network that is balanced, unless it is said.
EXCITATION = 0.05


@dataclass(frozen=True, eq=False)
class DelayBounds:
    """The delays that compiled programs of a network have room for; they do not change the network.

    Parameters
    ----------
    speed : (float, float)
        Lowest and highest signal speed in m/s (equal to mm/ms). The lowest fixes how much history is kept, the highest
        how long a block may be; changing the speed within them compiles nothing. :class:`fitting.optimize.Problem`
        sets them to the bounds of the fitted speed.
    shortest, longest : array (target, source), optional
        Shortest and longest length in mm that each connection will have; the connectome's own unless given. For
        networks whose ``lengths`` are simulated as a parameter: see :meth:`Network.for_connectomes`.
    largest_block : int
        Steps that are processed at once, at most.
    """

    speed: tuple[float, float] = (1.0, 20.0)
    shortest: Any = None
    longest: Any = None
    largest_block: int = LARGEST_BLOCK

    def __post_init__(self):
        low, high = self.speed
        if not 0 < low <= high < math.inf:
            raise InputError(f"speed must be two positive speeds, lowest first; got {self.speed}")
        object.__setattr__(self, "speed", (float(low), float(high)))


@dataclass(frozen=True, eq=False)
class Network:
    """Neural-mass nodes on a connectome with delays and noise. Holds no state.

    Parameters
    ----------
    connectome : Dataset
        See :func:`fitting.data.connectome`: ``weights[target, source]``, so directed connectomes work, ``lengths`` in
        mm, and the labels of the regions. The diagonal is ignored (a region's own recurrence belongs to the node).
    node : Node or str
        The node of every region, or the name of a preset in :data:`fitting.network.NODES`.
    coupling : str
        ``"diffusive"``, ``"additive"`` or ``"sigmoidal"``.
    noise : str
        ``"ornstein_uhlenbeck"`` or ``"white"``.
    interpolation : str
        ``"linear"`` reads the history between samples, which gives a gradient with respect to
        speed; ``"nearest"`` rounds delays to whole steps, as brainmass does.
    parameters : mapping
        Values that differ from the defaults of coupling, noise and node: ``k``, ``signal_speed`` (m/s), ``sigma``,
        ``drive`` (background input to each node, in units of the node's input), and the node's own.
    common_inputs : int
        Sources of noise that all regions share, such as the thalamus: 0, 1 or 2. The parameter ``common_1`` says how
        strongly each region receives the first, in units of its own noise; it may be negative.
    balance : str
        Name of the node's weight of inhibition (``"wIE"`` of Wilson-Cowan nodes) that is set in every region so that
        its activity at rest is the parameter ``excitation``; see :func:`fitting.network.balance.balanced`. Weights stay
        as they are unless one is named.
    bounds : DelayBounds
        What compiled programs have room for.

    Raises
    ------
    InputError
        If shapes do not match, values are not finite, lengths are negative, or a name is unknown.

    Examples
    --------
    >>> from fitting.data import hcp_aal2
    >>> from fitting.network import Network
    >>> network = Network(hcp_aal2(regions=3), parameters={"drive": 0.6})
    >>> network.regions, network.labels
    (3, ('PreCG.L', 'PreCG.R', 'SFG.L'))
    """

    connectome: xr.Dataset
    node: Any = "wilson_cowan_alpha"
    coupling: str = "diffusive"
    noise: str = "ornstein_uhlenbeck"
    interpolation: str = "linear"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    common_inputs: int = 0
    balance: str = ""
    bounds: DelayBounds = field(default_factory=DelayBounds)
    weights: np.ndarray = field(init=False, repr=False)
    lengths: np.ndarray = field(init=False, repr=False)
    length_bounds: tuple[np.ndarray, np.ndarray] = field(init=False, repr=False)

    def __post_init__(self):
        weights, lengths = (np.array(self.connectome[name].values, dtype=float) for name in ("weights", "lengths"))
        _check_matrix("weights", weights)
        _check_matrix("lengths", lengths)
        if weights.shape != lengths.shape:
            raise InputError(f"weights are {weights.shape} but lengths are {lengths.shape}; both need the same regions")
        if (lengths < 0).any():
            raise InputError(f"lengths must not be negative; the smallest is {lengths.min():g} mm")
        np.fill_diagonal(weights, 0.0)
        for value, known, what in (
            (self.coupling, COUPLINGS, "coupling"),
            (self.noise, NOISES, "noise"),
            (self.interpolation, INTERPOLATIONS, "interpolation"),
        ):
            if value not in known:
                raise InputError(f"unknown {what} {value!r}; choose from {', '.join(known)}")
        if self.common_inputs not in range(MOST_COMMON + 1):
            raise InputError(f"common_inputs must be 0 to {MOST_COMMON}; got {self.common_inputs}")
        if isinstance(self.node, str):
            if self.node not in NODES:
                raise InputError(f"unknown node {self.node!r}; choose from {', '.join(NODES)}")
            object.__setattr__(self, "node", NODES[self.node]())
        if self.balance and self.balance not in self.node.parameter_names:
            raise InputError(
                f"balance: {self.node.model} has no weight {self.balance!r}; it has "
                f"{', '.join(self.node.parameter_names)}"
            )
        bounds = self.bounds
        shortest, longest = (
            lengths if bound is None else np.array(bound, dtype=float) for bound in (bounds.shortest, bounds.longest)
        )
        if shortest.shape != lengths.shape or longest.shape != lengths.shape:
            raise InputError(f"bounds of lengths are {shortest.shape} and {longest.shape}, lengths are {lengths.shape}")
        if not ((shortest >= 0) & (shortest <= lengths) & (lengths <= longest) & (longest < np.inf)).all():
            raise InputError("bounds of lengths must be two matrices with 0 <= shortest <= lengths <= longest")
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "lengths", lengths)
        object.__setattr__(self, "length_bounds", (shortest, longest))
        for name in self.parameters:
            self.check_name(name)

    @property
    def regions(self) -> int:
        """Number of regions."""
        return len(self.weights)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the regions."""
        return tuple(str(label) for label in self.connectome["target"].values)

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """Maps of the regions that parameters may follow, by name: see :func:`fitting.data.with_maps`."""
        if "maps" not in self.connectome:
            return {}
        maps = self.connectome["maps"]
        return {str(name): maps.sel(map=name).values for name in maps["map"].values}

    def for_speeds(self, low: float, high: float) -> Network:
        """The same network, whose programs have room for these signal speeds in m/s."""
        return replace(self, bounds=replace(self.bounds, speed=(low, high)))

    def for_connectomes(
        self, weights: Float[np.ndarray, "subject target source"], lengths: Float[np.ndarray, "subject target source"]
    ) -> Network:
        """A network like this one that can be simulated with each of many connectomes, also with all of them at once.

        It has the mean of their weights and lengths (of those that have a connection), and room for every length that
        occurs.

        Examples
        --------
        >>> import jax, numpy as np
        >>> from fitting.data import hcp_aal2
        >>> from fitting.network import Network, simulate
        >>> weights, lengths = np.ones((2, 3, 3)), np.stack([np.full((3, 3), 50.0), np.full((3, 3), 60.0)])
        >>> network = Network(hcp_aal2(regions=3)).for_connectomes(weights, lengths)
        >>> def rates(weights, lengths):
        ...     return simulate(network, {"weights": weights, "lengths": lengths}, duration=10.0, dt=0.5).rates
        >>> jax.vmap(rates)(weights, lengths).shape
        (2, 20, 3)
        """
        weights, lengths = np.asarray(weights, dtype=float), np.asarray(lengths, dtype=float)
        if weights.shape != lengths.shape or weights.shape[1:] != self.weights.shape or len(weights) == 0:
            raise InputError(
                f"weights and lengths of subjects must both be (subject, target, source), with {self.regions} regions; "
                f"got {weights.shape} and {lengths.shape}"
            )
        has = weights != 0
        mean = np.where(has, lengths, 0.0).sum(0) / np.maximum(has.sum(0), 1)
        shortest = np.minimum(np.where(has, lengths, np.inf).min(0), mean)
        longest = np.maximum(np.where(has, lengths, 0.0).max(0), mean)
        return replace(
            self,
            connectome=_with(self.connectome, weights.mean(0), mean),
            bounds=replace(self.bounds, shortest=shortest, longest=longest),
        )

    def of_delays(self, kind: str) -> Network:
        """The same network with other fibre lengths, and so delays.

        Parameters
        ----------
        kind : str
            ``"measured"``: this network. ``"mean"``: all connections have the mean length, each counted by its weight.
            ``"zero"``: no delays.

        Returns
        -------
        Network

        Examples
        --------
        >>> from fitting.data import connectome
        >>> from fitting.network import Network
        >>> c = connectome([[0, 1], [3, 0]], [[0, 10.0], [30.0, 0]], ["A.L", "A.R"])
        >>> Network(c).of_delays("mean").lengths.tolist()
        [[0.0, 25.0], [25.0, 0.0]]
        """
        if kind not in DELAYS:
            raise InputError(f"unknown delays {kind!r}; choose from {', '.join(DELAYS)}")
        if kind == "measured":
            return self
        total = np.abs(self.weights).sum()
        length = float((np.abs(self.weights) * self.lengths).sum() / total) if kind == "mean" and total else 0.0
        lengths = np.where(self.weights != 0, length, 0.0)
        bounds = replace(self.bounds, shortest=None, longest=None)
        return replace(self, connectome=_with(self.connectome, self.weights, lengths), bounds=bounds)

    @property
    def network_parameters(self) -> dict[str, float]:
        """Parameters of coupling, delays, noise and drive, with their defaults."""
        return {
            **COUPLING_PARAMETERS[self.coupling],
            "signal_speed": SIGNAL_SPEED,
            **NOISE_PARAMETERS[self.noise],
            **dict.fromkeys(self.common_names, COMMON),
            **({"excitation": EXCITATION} if self.balance else {}),
            "drive": 0.0,
        }

    @property
    def common_names(self) -> tuple[str, ...]:
        """Parameters that say how strongly regions receive each common input."""
        return tuple(f"common_{number + 1}" for number in range(self.common_inputs))

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Standard normal numbers of a step, (port, region): those of common inputs come after the regions."""
        return self.node.ports, self.regions + self.common_inputs

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Every name that ``parameters`` of :func:`simulate` may hold."""
        return (*self.network_parameters, *self.node.parameter_names, "weights", "lengths")

    def check_name(self, name: str):
        """Refuse a name that is no parameter of this network, or that balance sets."""
        if name == self.balance:
            raise InputError(
                f"{name} is set in every region by balance; give excitation, the activity that it leads to"
            )
        if name not in self.parameter_names:
            raise InputError(f"unknown parameter {name!r}; this network has {', '.join(self.parameter_names)}")

    def default(self, name: str) -> Any:
        """Value that the parameter ``name`` has unless it is given."""
        self.check_name(name)
        if name in ("weights", "lengths"):
            return getattr(self, name)
        own = self.network_parameters | dict(self.parameters)
        return own[name] if name in own else self.node.default(name)

    def check_parameters(self, parameters: Mapping[str, Any]):
        """Refuse parameters of unknown names or wrong shapes, and known speeds and lengths outside the bounds."""
        square = (self.regions, self.regions)
        for name, value in parameters.items():
            self.check_name(name)
            shape = jnp.shape(value)
            allowed: tuple[tuple[int, ...], ...] = ((), (self.regions,))
            if name in ("weights", "lengths"):
                allowed = (square,)
            elif name == "signal_speed":
                allowed = ((), square)
            if shape not in allowed:
                wanted = " or ".join(str(a) if a else "one number" for a in allowed)
                raise InputError(f"parameter {name!r} has shape {shape}; it must be {wanted}")
        speed, lengths = (parameters.get(name, self.default(name)) for name in ("signal_speed", "lengths"))
        low, high = self.bounds.speed
        if not isinstance(speed, jax.core.Tracer):
            outside = np.asarray(speed)
            if not ((outside >= low * (1 - ROUNDING)) & (outside <= high * (1 + ROUNDING))).all():
                raise InputError(
                    f"signal_speed {outside} m/s is outside the network's bounds, {low:g} to {high:g} m/s, which its "
                    f"delays have room for; use network.for_speeds(low, high)"
                )
        if not isinstance(lengths, jax.core.Tracer):
            shortest, longest = self.length_bounds
            wrong = (lengths < shortest * (1 - ROUNDING)) | (lengths > longest * (1 + ROUNDING))
            weights = parameters.get("weights", self.weights)
            # Which of traced weights are zero is not known: those without a length should be.
            present = lengths != 0 if isinstance(weights, jax.core.Tracer) else weights != 0
            linked = (self.weights != 0) & present
            wrong = np.argwhere(wrong & linked)
            if len(wrong):
                i, j = wrong[0]
                raise InputError(
                    f"the length of connection {j} -> {i}, {np.asarray(lengths)[i, j]:g} mm, is outside the network's "
                    f"bounds, {shortest[i, j]:g} to {longest[i, j]:g} mm; use network.for_connectomes"
                )

    def resolve(self, parameters: Mapping[str, Any], dtype):
        """Weights, travel times in ms, and everything else by region, from the defaults and ``parameters``.

        Where a traced speed or length lies outside the bounds, weights are NaN: a wrong delay would read history that
        is not there.
        """
        values = {name: jnp.asarray(value, dtype) for name, value in self.network_parameters.items()}
        values |= {name: jnp.asarray(getattr(self, name), dtype) for name in ("weights", "lengths")}
        values |= {name: jnp.asarray(value, dtype) for name, value in self.parameters.items()}
        values |= {name: jnp.asarray(value, dtype) for name, value in parameters.items()}
        weights, speed, lengths = (values.pop(name) for name in ("weights", "signal_speed", "lengths"))
        weights = jnp.where(jnp.asarray(self.weights != 0), weights, 0.0)
        (low, high), (shortest, longest) = self.bounds.speed, self.length_bounds
        inside = (speed >= low * (1 - ROUNDING)) & (speed <= high * (1 + ROUNDING))
        inside &= (lengths >= shortest * (1 - ROUNDING)) & (lengths <= longest * (1 + ROUNDING))
        weights = jnp.where(inside | (weights == 0), weights, jnp.nan)
        travel = jnp.where(inside, lengths / speed, jnp.asarray(longest / low, dtype))
        by_region = {name: jnp.broadcast_to(value, (self.regions,)) for name, value in values.items()}
        by_region["row_sum"] = weights.sum(1)
        return weights, travel, self._balanced(weights, by_region, dtype) if self.balance else by_region

    def _balanced(self, weights, by_region, dtype):
        """Parameters with the weight of inhibition that balances every region."""
        start = by_region | {self.balance: jnp.full(self.regions, self.node.default(self.balance), dtype)}
        excitation, node = start["excitation"], self.node
        current = self.current(weights @ excitation, excitation, start)
        silence = jnp.zeros((node.ports, self.regions), dtype)

        def move(state, current, parameters):
            return self.move(state, current, silence, parameters, PACE)

        initial = node.initial_state(self.regions, dtype)
        weight = balanced(move, tuple(node.variables), node.coupled, self.balance, start, current, initial)
        return by_region | {self.balance: weight}

    def current(self, delayed, own, parameters):
        """Input to every node: coupling, from the delayed sum and the region's own coupled variable, and drive."""
        coupling = COUPLINGS[self.coupling]
        return coupling(delayed, own, parameters["row_sum"], parameters) + parameters["drive"]

    def fluctuate(self, fluctuation, normal, parameters, dt: float):
        """Next state of the noise, from standard normal numbers (see :attr:`noise_shape`), and what it injects."""
        own = normal[:, : self.regions]
        for number, name in enumerate(self.common_names, self.regions):
            own = own + parameters[name] * normal[:, number : number + 1]
        return NOISES[self.noise](fluctuation, own, parameters, dt)

    def move(self, node, current, injected, parameters, dt: float):
        """Next state of the nodes."""
        own = {name: value for name, value in parameters.items() if name in self.node.parameter_names}
        return self.node.step(node, current, injected, own, dt)

    def step(self, state, delayed, normal, parameters, dt: float):
        r"""One step of the network: what :func:`simulate` iterates, and :func:`fitting.response.linearize` linearises.

        With :math:`c` the coupled variable, the nodes move by brainmass's step F under the current
        :math:`I_i = f(\sum_j W_{ij} c_j(t - d_{ij}), c_i(t)) + \mathrm{drive}_i` and the noise, which moves first and
        is held over the step.

        Parameters
        ----------
        state : (dict of (region,), (port, region))
            Of the nodes, and of the noise.
        delayed : (region,)
            Weighted sum of the delayed input.
        normal : (port, region) or None
            Standard normal numbers, of :attr:`noise_shape`; without them the noise stands still.
        parameters : mapping of (region,)
            See :meth:`resolve`.
        dt : float
            In ms.

        Returns
        -------
        The next state.
        """
        node, fluctuation = state
        current = self.current(delayed, node[self.node.coupled], parameters)
        injected = fluctuation
        if normal is not None:
            fluctuation, injected = self.fluctuate(fluctuation, normal, parameters, dt)
        return self.move(node, current, injected, parameters, dt), fluctuation

    def delays(self, dt: float, gpu: bool = False) -> Delays:
        """How delays are processed with steps of ``dt`` milliseconds, on a CPU or a GPU."""
        low, high = self.bounds.speed
        connected = self.weights != 0
        shortest, longest = self.length_bounds
        most = float((longest[connected] / (low * dt)).max(initial=0.0))
        block = self.bounds.largest_block
        return plan(connected, shortest / (high * dt), most, self.interpolation == "nearest", block, gpu)


def _with(connectome: xr.Dataset, weights, lengths) -> xr.Dataset:
    dims = connectome["weights"].dims
    return connectome.assign(weights=(dims, weights), lengths=(dims, lengths, {"units": "mm"}))


def _check_matrix(name: str, matrix: np.ndarray):
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(f"{name} must be a square matrix (target, source); got shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        bad = np.argwhere(~np.isfinite(matrix))[0]
        raise InputError(f"{name} has a value that is not finite at row {bad[0]}, column {bad[1]}")
