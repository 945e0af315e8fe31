"""Parameters of a fit: values with units and bounds, and the unconstrained space that Optax works in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fitting.errors import InputError
from fitting.network import Network
from fitting.packages import brainstate
from fitting.units import magnitude

SCALES = ("linear", "log")

#: Largest coefficient of a map: a region where the map is one standard deviation up goes from the middle of a
#: parameter's bounds to within 12 % of one of them.
STEEPEST = 2.0


@dataclass(frozen=True)
class Parameter:
    r"""One parameter of a network and how it is fitted.

    Parameters
    ----------
    name : str
        A name of :attr:`fitting.network.Network.parameter_names`.
    value : number, str, quantity or array
        Start of a free parameter, value of a fixed one; ``"2 m/s"`` and quantities are converted.
    lower, upper : number, str or quantity, optional
        Bounds, in the same unit; needed if the parameter is free.
    unit : str
        Unit of plain numbers, a key of :data:`fitting.units.UNITS`.
    free : bool
        Whether the parameter is fitted.
    per_region : bool
        One value per region instead of one for all.
    scale : str
        ``"linear"`` or ``"log"``: what steps of equal size mean.
    prior : number, str or quantity, optional
        Where the parameter is expected, inside its bounds.
    prior_weight : float
        The loss grows by so much times the squared distance from the prior in the unconstrained space, where 1
        is about a quarter of the way between the bounds (mean over regions).
    spread_weight : float
        The loss grows by so much times the variance over regions in the unconstrained space: what the data do not ask
        for stays alike in all regions.
    maps : sequence of str
        Maps of the network's connectome (:func:`fitting.data.with_maps`) that the parameter follows. In the
        unconstrained space its value in region i is :math:`a + \sum_m b_m map_m(i)`; ``value`` is that of :math:`a`,
        and every :math:`b_m` is another parameter that all regions share, called ``NAME.MAP``, which starts at zero.
    map_weight : float
        The loss grows by so much times the square of every :math:`b_m`, in its own unconstrained space.

    Raises
    ------
    InputError
        If the unit is wrong, bounds are missing or empty, or the start is not inside them.

    Examples
    --------
    >>> from fitting.optimize import Parameter
    >>> speed = Parameter("signal_speed", "3 m/s", lower=2, upper=12, unit="m/s")
    >>> speed.value, speed.upper
    (3.0, 12.0)
    """

    name: str
    value: Any
    lower: Any = None
    upper: Any = None
    unit: str = "1"
    free: bool = True
    per_region: bool = False
    scale: str = "linear"
    prior: Any = None
    prior_weight: float = 0.0
    spread_weight: float = 0.0
    maps: Sequence[str] = ()
    map_weight: float = 0.01

    def __post_init__(self):
        for name in ("value", "lower", "upper", "prior"):
            raw = getattr(self, name)
            if raw is not None:
                number = np.asarray(magnitude(raw, self.unit, f"{self.name} {name}"), dtype=float)
                object.__setattr__(self, name, number if number.ndim else float(number))
        object.__setattr__(self, "maps", tuple(self.maps))
        if not np.isfinite(self.value).all():
            raise InputError(f"parameter {self.name}: the value {self.value} is not finite")
        if self.scale not in SCALES:
            raise InputError(f"parameter {self.name}: unknown scale {self.scale!r}; choose from {', '.join(SCALES)}")
        if self.maps and (self.per_region or not self.free or not self.map_weight >= 0):
            raise InputError(
                f"parameter {self.name} follows maps, so it must be free, shared by all regions, and its map_weight "
                f"not negative; got free={self.free}, per_region={self.per_region}, map_weight={self.map_weight:g}"
            )
        if not self.free:
            return
        if self.lower is None or self.upper is None:
            raise InputError(f"parameter {self.name} is free, so it needs a lower and an upper bound")
        unit = "" if self.unit == "1" else f" {self.unit}"
        if not (np.isfinite(self.lower) and np.isfinite(self.upper)):
            raise InputError(
                f"parameter {self.name}: bounds must be finite; got {self.lower:g} to {self.upper:g}{unit}"
            )
        if not self.lower < self.upper:
            raise InputError(f"parameter {self.name}: bounds {self.lower:g} to {self.upper:g}{unit} are empty")
        if self.scale == "log" and self.lower <= 0:
            raise InputError(f"parameter {self.name}: a log scale needs a positive lower bound; got {self.lower:g}")
        if not self._inside(self.value):
            raise InputError(
                f"parameter {self.name}: the start {self.value}{unit} must lie inside its bounds "
                f"{self.lower:g} to {self.upper:g}{unit}"
            )
        if not self.spread_weight >= 0:
            raise InputError(f"parameter {self.name}: spread_weight must not be negative; got {self.spread_weight:g}")
        if self.prior_weight < 0 or (self.prior_weight > 0) != (self.prior is not None):
            raise InputError(
                f"parameter {self.name}: a prior needs a value and a positive prior_weight; "
                f"got {self.prior} and {self.prior_weight:g}"
            )
        if self.prior is not None and not self._inside(self.prior):
            raise InputError(
                f"parameter {self.name}: the prior {self.prior}{unit} must lie inside its bounds "
                f"{self.lower:g} to {self.upper:g}{unit}"
            )

    @property
    def coefficients(self) -> tuple[Parameter, ...]:
        """One for each map: by how much the parameter moves, in the unconstrained space, with a unit of the map."""
        prior = 0.0 if self.map_weight else None
        return tuple(
            Parameter(f"{self.name}.{name}", 0.0, -STEEPEST, STEEPEST, prior=prior, prior_weight=self.map_weight)
            for name in self.maps
        )

    def _inside(self, values) -> bool:
        """Whether values lie inside the bounds, by more than 32 bits round."""
        warp = np.log if self.scale == "log" else np.asarray
        with np.errstate(divide="ignore", invalid="ignore"):
            low, high, at = warp(self.lower), warp(self.upper), warp(values)
        margin = 4 * np.finfo(np.float32).eps * np.abs([low, high, high - low]).max()
        return bool(np.all((at - low > margin) & (high - at > margin)))

    @property
    def _transform(self):
        warp = np.log if self.scale == "log" else float
        return brainstate.nn.SigmoidT(float(warp(self.lower)), float(warp(self.upper)))

    def bounded(self, x):
        """Value that an unconstrained number stands for."""
        y = self._transform.forward(x)
        return jnp.exp(y) if self.scale == "log" else y

    def unbounded(self, value):
        """Unconstrained number that stands for a value inside the bounds."""
        value = jnp.asarray(value, dtype=jnp.result_type(float))
        return self._transform.inverse(jnp.log(value) if self.scale == "log" else value)


@dataclass(frozen=True)
class Parameters:
    """All parameters of a problem; where none is free, a model can be scored but not fitted.

    Parameters
    ----------
    parameters : sequence of Parameter
    network : Network
        Names and shapes are checked against it.

    Raises
    ------
    InputError
        If a name is unknown or occurs twice.

    Examples
    --------
    >>> from fitting.data import hcp_aal2
    >>> from fitting.network import Network
    >>> from fitting.optimize import Parameter, Parameters
    >>> parameters = Parameters([Parameter("k", 1.0, 0.1, 5.0)], Network(hcp_aal2(regions=3)))
    >>> round(float(parameters.values(parameters.start())["k"]), 4)
    1.0
    """

    parameters: Sequence[Parameter]
    # The problem has it, too: what identifies a fit names it once.
    network: Network = field(compare=False)

    def __post_init__(self):
        object.__setattr__(self, "parameters", tuple(self.parameters))
        names = [p.name for p in self.parameters]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise InputError(f"parameter(s) given twice: {', '.join(twice)}")
        regions, known = self.network.regions, self.network.maps
        for p in self.parameters:
            self.network.check_name(p.name)
            unknown = [name for name in p.maps if name not in known]
            if unknown:
                raise InputError(
                    f"parameter {p.name} follows the map {unknown[0]}, which the connectome does not have; it has "
                    f"{', '.join(known) or 'none'} (see fitting.data.with_maps)"
                )
            if p.maps and p.name in ("signal_speed", "weights", "lengths"):
                raise InputError(f"{p.name} cannot follow maps: it belongs to connections, not to regions")
            shape = np.shape(p.value)
            if shape not in ((), (regions,)) or (shape and not p.per_region and p.free):
                raise InputError(
                    f"parameter {p.name} has a value of shape {shape}; give one number"
                    f"{f', or {regions} numbers with per_region' if p.free else f', or {regions} numbers'}"
                )

    def __iter__(self):
        return iter(self.parameters)

    def __getitem__(self, name: str) -> Parameter:
        return next(p for p in (*self.parameters, *self.free) if p.name == name)

    @property
    def speeds(self) -> tuple[float, float]:
        """Lowest and highest signal speed in m/s that a fit can reach; the network's own bounds if it has none."""
        for p in self.parameters:
            if p.name == "signal_speed":
                return (p.lower, p.upper) if p.free else (float(np.min(p.value)), float(np.max(p.value)))
        return self.network.bounds.speed

    @cached_property
    def free(self) -> tuple[Parameter, ...]:
        """Parameters that are fitted; after each come the coefficients of the maps that it follows."""
        return tuple(one for p in self.parameters if p.free for one in (p, *p.coefficients))

    @property
    def shared(self) -> tuple[Parameter, ...]:
        """Parameters that are fitted and that all regions share."""
        return tuple(p for p in self.free if not p.per_region)

    def start(self) -> dict[str, Any]:
        """Unconstrained starting point: one array per free parameter."""
        regions = self.network.regions
        start = {}
        for p in self.free:
            value = np.broadcast_to(p.value, (regions,)) if p.per_region else p.value
            start[p.name] = p.unbounded(value)
        return start

    def values(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Values of all parameters of the network, free and fixed, at an unconstrained point."""
        return self._values(dict(point))

    @cached_property
    def _values(self):
        def values(point):
            fixed = {p.name: jnp.asarray(p.value, jnp.result_type(float)) for p in self.parameters if not p.free}
            return fixed | {p.name: p.bounded(self._by_region(p, point)) for p in self.parameters if p.free}

        return jax.jit(values)

    def reported(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """What a reader is told of every free parameter: its value, where all maps that it follows are zero."""
        return self._reported(dict(point))

    @cached_property
    def _reported(self):
        return jax.jit(lambda point: {p.name: p.bounded(point[p.name]) for p in self.free})

    def resolved(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values of the network's parameters, where ``values`` may name coefficients of maps, as :meth:`reported` does.

        Coefficients that are not named are zero; a parameter without any stays as it is, even outside its bounds.

        Raises
        ------
        InputError
            If a parameter that follows a map, or its coefficient, lies outside its bounds, or has no value.
        """
        given = dict(values)
        for p in self.parameters:
            if not any(one.name in given for one in p.coefficients):
                continue
            pairs = [(p, given.get(p.name, np.nan)), *((one, given.pop(one.name, 0.0)) for one in p.coefficients)]
            for one, value in pairs:
                if not one.lower < value < one.upper:
                    raise InputError(
                        f"{p.name} follows maps, so {one.name} must lie between {one.lower:g} and {one.upper:g}; "
                        f"got {value:g}"
                    )
            given[p.name] = p.bounded(self._by_region(p, {one.name: one.unbounded(value) for one, value in pairs}))
        return given

    def _by_region(self, p: Parameter, point: Mapping[str, Any]):
        """A parameter in the unconstrained space, with the maps that it follows."""
        slopes = zip(p.coefficients, p.maps, strict=True)
        follows = [one.bounded(point[one.name]) * jnp.asarray(self.network.maps[name]) for one, name in slopes]
        return sum(follows, jnp.asarray(point[p.name]))

    def penalty(self, point: Mapping[str, Any]) -> Float[Array, ""]:
        """What priors and spreads add to a loss at an unconstrained point."""
        distances = [
            p.prior_weight * ((point[p.name] - p.unbounded(p.prior)) ** 2).mean() for p in self.free if p.prior_weight
        ]
        distances += [p.spread_weight * jnp.var(point[p.name]) for p in self.free if p.per_region and p.spread_weight]
        return sum(distances, jnp.zeros(()))

    def point(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Unconstrained point at which free parameters have ``values``, in the form of :meth:`reported`."""
        return {p.name: p.unbounded(values[p.name]) for p in self.free}
