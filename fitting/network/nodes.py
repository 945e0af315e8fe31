"""Neural-mass nodes from brainmass as pure step functions.

A :class:`Node` says which brainmass model sits in every region, which of its variables the other
regions see, and where coupling and noise enter. The equations and the integration scheme are
brainmass's own: the model is built inside the traced step from plain arrays, so a step has no
hidden state and every parameter of the model can be a traced value.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import brainunit as u
import jax.numpy as jnp
from jaxtyping import Array, Float

from fitting.errors import InputError
from fitting.packages import brainmass, brainstate


class _Given(brainmass.Noise):
    """A brainmass noise port that passes on a value computed outside."""

    def __init__(self, value):
        super().__init__(value.shape)
        self.value = value

    def update(self):
        return self.value


class _Exact(brainstate.nn.Param):
    """A brainmass parameter that keeps the precision it is given (brainstate would cast to 32 bits)."""

    def __init__(self, value):
        super().__init__(0.0, fit=False)
        self.val = value


@dataclass(frozen=True, eq=False)
class Node:
    """A brainmass model as the node of a network.

    Parameters
    ----------
    model : str
        Class name in brainmass, such as ``"WilsonCowanStep"``.
    coupled : str
        State variable that other regions see, such as ``"rE"``.
    input : str
        Argument of the model's ``update`` that receives coupling and drive.
    noise : sequence of str
        Constructor arguments that take a noise process, such as ``("noise_E", "noise_I")``. Each
        gets noise of its own.
    input_unit : brainunit.Unit, optional
        Unit of ``input``; dimensionless by default.
    noise_units : sequence of brainunit.Unit, optional
        Unit of each noise port; dimensionless by default.
    parameters : mapping
        Values of the model's own parameters where they differ from brainmass's defaults, as plain
        numbers in the unit of brainmass's default (time constants in ms).
    initial : mapping
        Initial values of state variables; zero where not named (or brainmass's constant default).
    method : str
        Integration scheme of brainmass: ``"exp_euler"``, ``"euler"``, ``"rk2"`` or ``"rk4"``.

    Examples
    --------
    >>> from fitting.network import Node
    >>> node = Node("WilsonCowanStep", coupled="rE", input="rE_inp", noise=("noise_E", "noise_I"))
    >>> sorted(node.variables)
    ['rE', 'rI']
    >>> node.unit("tau_E")
    Unit("ms")
    """

    model: str
    coupled: str
    input: str
    noise: tuple[str, ...] = ()
    input_unit: Any = u.UNITLESS
    noise_units: tuple[Any, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    initial: Mapping[str, Any] = field(default_factory=dict)
    method: str = "exp_euler"

    def __post_init__(self):
        object.__setattr__(self, "noise", tuple(self.noise))
        object.__setattr__(self, "noise_units", tuple(self.noise_units) or (u.UNITLESS,) * len(self.noise))
        if not inspect.isclass(getattr(brainmass, self.model, None)):
            raise InputError(f"brainmass {brainmass.__version__} has no model {self.model!r}")
        if self.coupled not in self.variables:
            raise InputError(f"{self.model} has no variable {self.coupled!r}; it has {', '.join(self.variables)}")
        for port in self.noise:
            if port not in self._arguments:
                raise InputError(f"{self.model} has no noise port {port!r}")
        for name in self.parameters:
            self.unit(name)

    @cached_property
    def _class(self):
        return getattr(brainmass, self.model)

    @cached_property
    def _arguments(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self._class.__init__).parameters

    @cached_property
    def _states(self):
        with brainstate.environ.context(dt=1.0 * u.ms):
            model = self._class(1)
            model.init_state()
        return {path[-1]: state.value for path, state in model.states(brainstate.HiddenState).items()}

    @property
    def variables(self) -> dict[str, Any]:
        """Names and units of the state variables."""
        return {name: u.get_unit(value) for name, value in self._states.items()}

    @property
    def ports(self) -> int:
        """Number of independent noise inputs per region."""
        return len(self.noise)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the model's own numeric parameters."""
        return tuple(
            name
            for name, argument in self._arguments.items()
            if name not in ("self", "in_size", "method")
            and not name.startswith("noise")
            and argument.default is not None
            and not callable(argument.default)
        )

    def unit(self, name: str) -> Any:
        """Unit in which the model's parameter ``name`` is given as a plain number."""
        if name not in self.parameter_names:
            raise InputError(f"{self.model} has no parameter {name!r}; it has {', '.join(self.parameter_names)}")
        return u.get_unit(self._arguments[name].default)

    def default(self, name: str) -> Any:
        """Plain value of the parameter ``name`` in this node."""
        if name in self.parameters:
            return self.parameters[name]
        return u.get_magnitude(self._arguments[name].default)

    def initial_state(self, regions: int, dtype) -> dict[str, Float[Array, " regions"]]:
        """Initial state: one ``(regions,)`` array per variable."""
        unknown = set(self.initial) - set(self.variables)
        if unknown:
            raise InputError(f"{self.model} has no variable {', '.join(sorted(unknown))}")
        return {
            name: jnp.broadcast_to(jnp.asarray(self.initial.get(name, 0.0), dtype), (regions,))
            for name in self.variables
        }

    def step(
        self,
        state: Mapping[str, Float[Array, " regions"]],
        current: Float[Array, " regions"],
        noise: Float[Array, "ports regions"],
        parameters: Mapping[str, Float[Array, " regions"]],
        dt: float,
        method: str | None = None,
    ) -> dict[str, Float[Array, " regions"]]:
        """State after one step of ``dt`` milliseconds.

        Parameters
        ----------
        state : mapping of (regions,)
        current : (regions,)
            Coupling plus drive, in ``input_unit``.
        noise : (ports, regions)
            Noise for each port.
        parameters : mapping
            The model's own parameters that differ from brainmass's defaults.
        dt : float
            Step in ms.
        method : str, optional
            Another integration scheme than the node's own.

        Returns
        -------
        dict of (regions,)
        """
        values: dict[str, Any] = {
            name: _Exact(jnp.asarray(parameters.get(name, self.default(name)), current.dtype) * self.unit(name))
            for name in self.parameter_names
        }
        ports = {
            name: _Given(value * unit) for name, value, unit in zip(self.noise, noise, self.noise_units, strict=True)
        }
        if "method" in self._arguments:
            values["method"] = method or self.method
        with brainstate.environ.context(dt=dt * u.ms):
            model = self._class(current.shape, **values, **ports)
            for name, unit in self.variables.items():
                setattr(model, name, brainstate.HiddenState(state[name] * unit))
            model.update(**{self.input: current * self.input_unit})
            return {name: _plain(getattr(model, name).value, unit) for name, unit in self.variables.items()}


def _plain(value, unit):
    """Magnitude of a state in ``unit``; brainmass keeps dimensionless states as bare arrays."""
    return value.to_decimal(unit) if isinstance(value, u.Quantity) else value


def wilson_cowan_notebook() -> Node:
    """Wilson-Cowan nodes with brainmass's default parameters, as in brainmass's MEG notebook.

    A silent fixed point: both eigenvalues of an isolated node are real, so what it shows is
    low-passed noise without a rhythm.
    """
    return Node("WilsonCowanStep", "rE", "rE_inp", ("noise_E", "noise_I"))


def wilson_cowan_alpha() -> Node:
    """Wilson-Cowan nodes that resonate in the alpha band.

    With a drive to E below about 0.73 an isolated node is damped and rings at about 10 Hz when
    noise kicks it; above, it oscillates by itself (a Hopf bifurcation). brainmass calls the weight
    from I to E ``wIE`` and the weight from E to I ``wEI``.
    """
    return Node(
        "WilsonCowanStep",
        "rE",
        "rE_inp",
        ("noise_E", "noise_I"),
        parameters={
            "wEE": 16.0,
            "wIE": 12.0,
            "wEI": 15.0,
            "wII": 3.0,
            "a_E": 1.5,
            "a_I": 1.5,
            "theta_E": 3.0,
            "theta_I": 3.0,
            "tau_E": 9.5,
            "tau_I": 14.25,
        },
    )


def hopf() -> Node:
    """Hopf normal form (Stuart-Landau with a nonlinear saturation), damped, at 10 Hz."""
    return Node(
        "HopfStep", "x", "x_inp", ("noise_x", "noise_y"), parameters={"a": -0.02, "w": 2 * 3.141592653589793 * 0.01}
    )


def stuart_landau() -> Node:
    """Stuart-Landau oscillator, damped, at 10 Hz."""
    return Node(
        "StuartLandauStep",
        "x",
        "x_inp",
        ("noise_x", "noise_y"),
        parameters={"a": -0.02, "w": 2 * 3.141592653589793 * 0.01},
    )


def jansen_rit() -> Node:
    """Jansen-Rit column; the pyramidal potential couples into the excitatory interneurons' input."""
    return Node(
        "JansenRitStep",
        "M",
        "E_inp",
        ("noise_E",),
        input_unit=u.Hz,
        noise_units=(u.Hz,),
    )


def montbrio_pazo_roxin() -> Node:
    """Exact mean field of quadratic integrate-and-fire neurons (Montbrio, Pazo and Roxin, 2015)."""
    return Node("MontbrioPazoRoxinStep", "r", "v_inp", ("noise_v",))


def wong_wang() -> Node:
    """Reduced Wong-Wang model with excitatory and inhibitory gating (Deco et al., 2014)."""
    return Node("WongWangExcInhStep", "S_e", "coupling", ("noise_e",), initial={"S_e": 0.1, "S_i": 0.1})


#: Node presets by name, as configurations refer to them.
NODES = {
    f.__name__: f
    for f in (
        wilson_cowan_notebook,
        wilson_cowan_alpha,
        hopf,
        stuart_landau,
        jansen_rit,
        montbrio_pazo_roxin,
        wong_wang,
    )
}
