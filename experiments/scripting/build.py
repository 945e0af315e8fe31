"""Turn a Hydra config into the library's objects."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import jax
import numpy as np
import xarray as xr
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from fitting import InputError
from fitting.data import (
    PUBLISHED,
    cubnm_maps,
    divide,
    good_pieces,
    hcp_aal2,
    isolated,
    kaggle_connectome,
    kaggle_recording,
    match,
    read_connectome,
    read_fc,
    read_maps,
    read_mixing,
    read_recordings,
    scale_weights,
    with_maps,
)
from fitting.evaluate import EvaluationSettings, View, expect, orthogonalization_views
from fitting.network import Network, simulated_recording
from fitting.objective import Objective, Target
from fitting.optimize import (
    Descent,
    Fit,
    GaussNewton,
    GradientCheck,
    Parameter,
    Parameters,
    Polish,
    Problem,
    Race,
    Refine,
    Search,
    StableStart,
    Stage,
    adam,
    solve,
    stage_key,
)
from fitting.predict import LinearResponse, Predictor, Simulation, simulation_cost
from fitting.progress import Reporter, silent
from fitting.report.signals import region_index
from fitting.signal import Observation
from fitting.units import magnitude
from scripting.schema import NetworkSchema

#: Of what a share may be held out from a fit.
HELD_OUT_BY = ("pairs", "regions", "hemisphere", "time", "runs", "subjects")

#: Where data come from.
SOURCES = ("demo", "fc_matrix", "recording", "meg")

#: What to lower where a part of the work does not fit into memory.
MEMORY = {
    "recording": "data.duration",
    "search": "search.batch or simulation.duration",
    "evaluation": "evaluation.duration",
}


class Setup(NamedTuple):
    """A problem, how it is solved and verified, and what is known about its data.

    ``verifier`` simulates what was fitted, ``recordings`` are those that the target is made of, ``views`` what else the
    fit is scored on, ``split`` what of the data it does not see, ``true`` known parameters, ``dropped`` regions of the
    data that the connectome does not have, and ``notes`` what a reader must know.
    """

    problem: Problem
    stages: list[Stage]
    verifier: Simulation
    evaluation: EvaluationSettings
    recordings: list[xr.DataArray]
    views: dict[str, View]
    split: str
    true: dict[str, float]
    dropped: list[str]
    notes: list[str]

    def fit(self, problem: Problem, seed: int, **how: Any) -> Fit:
        """Fit a problem as the config has it."""
        return solve(problem, self.stages, key=fit_key(seed), **how)

    def refit(self, problem: Problem, seed: int) -> dict[str, Any]:
        """The point that a problem of the evaluation is fitted to; Ctrl-C ends the evaluation, not this fit alone."""
        fit = self.fit(problem, seed)
        if fit.status == "interrupted":
            raise KeyboardInterrupt
        return fit.point


def fit_key(seed: int):
    """The key of a fit."""
    return stage_key(jax.random.key(seed), "fit")


def evaluation_key(seed: int):
    """The key of its evaluation, which a fit must not use."""
    return stage_key(jax.random.key(seed), "evaluation")


def plain(config) -> dict[str, Any]:
    """A config section as plain Python values."""
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


@contextmanager
def setting(name: str):
    """Say whose arguments are meant, where the library refuses one."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def keep_compiled(folder: str | None):
    """Keep compiled programs in ``folder`` from run to run, unless JAX's own setting names another."""
    if folder and jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(Path(folder).expanduser()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def connectome_of(config: DictConfig) -> xr.Dataset:
    """The connectome that a config names."""
    name = str(config.data.connectome)
    if name in PUBLISHED:
        with setting(f"data.{name}"):
            connectome = PUBLISHED[name](**plain(config.data[name]))
    elif name in ("hcp_aal2", "kaggle"):
        connectome = hcp_aal2() if name == "hcp_aal2" else kaggle_connectome()
    else:
        connectome = read_connectome(
            name,
            units=config.data.length_units,
            atlas=config.data.connectome_atlas,
            lengths=config.data.lengths,
            round_off=config.data.round_off,
        )
    count, regions = config.data.regions, connectome.sizes["target"]
    if count is not None:
        if isinstance(count, bool) or not 2 <= count <= regions:
            raise InputError(f"data.regions must be a whole number from 2 to {regions}; got {count}")
        connectome = connectome.isel(target=slice(count), source=slice(count))
    with setting("data.weights"):
        connectome = scale_weights(connectome, config.data.weights)
    names = [name for p in plain(config.parameters).values() for name in p["maps"]]
    with setting("data.maps"):
        return with_maps(connectome, maps_of(config), list(dict.fromkeys(names))) if names else connectome


def maps_of(config: DictConfig) -> xr.DataArray | None:
    """Maps of the cortex that a config names."""
    if config.data.maps == "cubnm":
        return cubnm_maps(config.data.cubnm.folder)
    return None if config.data.maps is None else read_maps(config.data.maps, atlas=config.data.connectome_atlas)


def network_of(config: DictConfig, connectome: xr.Dataset) -> Network:
    """The network that a config describes."""
    settings = plain(config.network)
    delays = settings.pop("delays")
    for name, value in settings["parameters"].items():
        unit = "m/s" if name == "signal_speed" else "1"
        settings["parameters"][name] = magnitude(value, unit, f"network.parameters.{name}")
    with setting("network"):
        return Network(connectome, **settings).of_delays(delays)


def parameters_of(config: DictConfig) -> list[Parameter]:
    """The parameters that a config declares."""
    return [Parameter(name, **settings) for name, settings in plain(config.parameters).items()]


def observation_of(config: DictConfig, network: Network) -> Observation:
    """The observation that a config describes, of a network's regions."""
    settings = plain(config.observation)
    with setting("observation"):
        if settings["mixing"] is not None:
            known = str(network.connectome.attrs.get("atlas", ""))
            settings["mixing"] = match(network.labels, read_mixing(settings["mixing"]), known)[0]
        return Observation(**settings)


def simulation_of(config: DictConfig, network: Network, observation: Observation, **other: Any) -> Simulation:
    """The simulations that a config describes."""
    settings = plain(config.simulation) | other
    settings.pop("seeds")
    with setting("simulation" if not other else "evaluation"):
        return Simulation(network, observation, **settings)


def predictor_of(config: DictConfig, network: Network, observation: Observation) -> Predictor:
    """What is fitted: simulations, or linear response to the same steps."""
    simulation = simulation_of(config, network, observation)
    if config.solver.predictor == "simulation":
        return simulation
    if config.solver.predictor != "response":
        raise InputError(f"solver.predictor must be simulation or response; got {config.solver.predictor!r}")
    settings = plain(config.response)
    settings.pop("seconds", None)
    with setting("response"):
        return LinearResponse(network, observation, simulation.dt, **settings)


def objective_of(config: DictConfig, observation: Observation) -> Objective:
    """The objective that a config describes."""
    seconds = config.response.seconds if config.solver.predictor == "response" else None
    if seconds is not None and not seconds > 0:
        raise InputError(f"response.seconds must be positive; got {seconds:g}")
    with setting("objective"):
        variance = 1 / observation.effective_samples(seconds) if seconds else 0.0
        return Objective(**plain(config.objective), sampling_variance=variance)


def stages_of(config: DictConfig, simulation: Simulation) -> list[Stage]:
    """The stages of a fit, those that have nothing to do left out."""
    optimizer, descent = None, None
    if config.fit.steps:
        optimizer = hydra.utils.instantiate(config.optimizer)
        with setting("fit"):
            descent = Descent(optimizer, **plain(config.fit))
    polish = plain(config.polish)

    def polishing():
        with setting("polish"):
            return Polish(adam(0, polish["learning_rate"]), polish["steps"], clip=config.fit.clip, predictor=simulation)

    makers = {
        "start": StableStart,
        "search": lambda: Search(**plain(config.search)) if config.search.generations else None,
        "gradients": lambda: GradientCheck(**plain(config.gradients)),
        "race": lambda: Race(optimizer, **plain(config.race)) if descent else None,
        "fit": lambda: descent,
        "gauss_newton": lambda: GaussNewton(**plain(config.gauss_newton)) if config.gauss_newton.rounds else None,
        "refine": lambda: Refine(**plain(config.refine)) if config.refine.rounds else None,
        "polish": lambda: polishing() if polish["steps"] else None,
    }
    by_region = [name for name, p in plain(config.parameters).items() if p.get("per_region") and p.get("free", True)]
    if by_region and "gauss_newton" in config.solver.stages:
        raise InputError(f"{', '.join(by_region)}: a value for each region: take solver=descend or solver=response")
    stages = []
    for name in config.solver.stages:
        if name not in makers:
            raise InputError(f"solver.stages: there is no stage {name!r}; choose from {', '.join(makers)}")
        with setting(name):
            stages.append(makers[name]())
    return [stage for stage in stages if stage is not None]


def use_device(kind: str | None):
    """Compute on devices of this kind, unless it is the one that JAX prefers anyway."""
    if kind is None or kind == jax.default_backend():
        return
    try:
        jax.config.update("jax_default_device", jax.local_devices(backend=kind)[0])
    except RuntimeError:
        raise InputError(
            f"device={kind}: JAX sees none; it sees {', '.join(sorted({d.platform for d in jax.devices()}))}. "
            "(NVIDIA GPUs need the extra cuda.)"
        ) from None


class Measured(NamedTuple):
    """What is to be reproduced, as it was loaded and matched to the connectome's regions.

    ``recordings`` is empty where the data are a matrix, ``matrix`` None where they are recordings.
    """

    recordings: list[xr.DataArray]
    matrix: xr.DataArray | None
    dropped: list[str]
    true: dict[str, float]


def measured(config: DictConfig, network: Network) -> Measured | None:
    """The recordings or the connectivity matrix that a config names; none where a recording is to be simulated."""
    source, atlas = config.data.source, config.data.atlas
    if source not in SOURCES:
        raise InputError(f"unknown data.source {source!r}; choose {', '.join(SOURCES)}")
    if source in ("demo", "meg") and not OmegaConf.is_missing(config.data, "path"):
        raise InputError(
            f"data.path={config.data.path} would not be read, as data={source} has its own data; "
            "add data=fc_matrix (a connectivity matrix) or data=recording (signals)"
        )
    if source != "fc_matrix" and (config.data.seconds is not None or config.data.people != 1):
        raise InputError("data.seconds and data.people are for a connectivity matrix; recordings tell both themselves")
    if source == "demo":
        return None
    known = str(network.connectome.attrs.get("atlas", ""))
    if source == "fc_matrix":
        matched, dropped = match(network.labels, read_fc(config.data.path, atlas=atlas), known)
        return Measured([], matched, dropped, {})
    loaded = (
        [kaggle_recording()] if source == "meg" else read_recordings(config.data.path, fs=config.data.fs, atlas=atlas)
    )
    pairs = [match(network.labels, recording, known) for recording in loaded]
    dropped = list(dict.fromkeys(label for _, names in pairs for label in names))
    return Measured([matched for matched, _ in pairs], None, dropped, {})


def simulated(
    config: DictConfig, network: Network, observation: Observation, dt: float, progress: Reporter = silent
) -> Measured:
    """The recording that a config has simulated."""
    truth: Mapping[str, Any] = plain(config.data.truth)
    units = {"signal_speed": "m/s"} | {n: p.get("unit", "1") for n, p in plain(config.parameters).items()}
    true = {name: float(magnitude(v, units.get(name, "1"), f"data.truth.{name}")) for name, v in truth.items()}
    if not config.data.network:
        values = Parameters(tuple(parameters_of(config)), network).resolved(true)
    else:
        # Another model than the one that is fitted; its parameters mean something else.
        values, other = true, OmegaConf.create({"network": OmegaConf.merge(NetworkSchema, config.data.network)})
        network = network_of(other, network.connectome).for_speeds(*network.bounds.speed)
    low, high = network.bounds.speed
    speed = true.get("signal_speed", low)
    network = network.for_speeds(min(low, speed), max(high, speed))
    recording = simulated_recording(
        network,
        values,
        duration=magnitude(config.data.duration, "ms", "data.duration"),
        dt=dt,
        key=jax.random.key(config.data.seed),
        observation=observation,
        progress=progress,
    )
    return Measured([recording], None, [], {} if config.data.network else true)


def setup(
    config: DictConfig, announce=lambda expectation: None, fit: bool = True, progress: Reporter = silent
) -> Setup:
    """Everything that a config describes, all settings checked before anything is loaded or compiled.

    ``announce`` is told what to expect, before it is refused if it cannot fit into memory; ``fit`` tells whether
    anything is to be fitted; ``progress`` follows a recording that is simulated.
    """
    if config.precision not in (32, 64):
        raise InputError(f"precision must be 32 or 64 bits; got {config.precision}")
    jax.config.update("jax_enable_x64", config.precision == 64)
    use_device(config.device)
    keep_compiled(config.compilation_cache)
    evaluation = evaluation_of(config)
    network = network_of(config, connectome_of(config))
    with setting("figures"):
        for name in ("region", "reference"):
            region_index(network.labels, config.figures[name], 0)
    observation = observation_of(config, network)
    data = measured(config, network)
    objective = objective_of(config, observation)
    predictor = predictor_of(config, network, observation)
    draft = Problem(
        predictor, parameters_of(config), foreseen(config, data, network.labels), objective, config.simulation.seeds
    )
    simulation = simulation_of(config, draft.network, observation)
    if fit:
        Fit.begin(draft)  # which refuses, before a recording is simulated, a problem that leaves nothing to fit
    stages = stages_of(config, simulation)
    other = {"horizon": None} | ({"duration": config.evaluation.duration} if config.evaluation.duration else {})
    verifier = simulation_of(config, draft.network, observation, **other)
    recording = None
    if config.data.source == "demo":
        length = magnitude(config.data.duration, "ms", "data.duration")
        recording = simulation_cost(draft.network, duration=length, dt=simulation.dt)
    expected = expect(draft, stages, evaluation, verifier, stored=not fit, recording=recording)
    announce(expected)
    with setting(f"lower {MEMORY.get(expected.largest, 'simulation.duration')} or raise simulation.dt"):
        expected.refuse()
    data = data or simulated(config, draft.network, observation, simulation.dt, progress)
    sides = network.connectome["hemisphere"].values
    target, recordings, views, split = target_of(
        config, data, observation, objective, predictor.stretch, sides, progress
    )
    problem = replace(draft, target=target)
    notes = left_out(data.recordings, observation)
    said = network.connectome.attrs
    told = {"weights": "Weights", "lengths": "Lengths", "diagonal": "Diagonal", "round_off": "Rounding errors"}
    notes += [f"{word} of the connectome: {said[name]}." for name, word in told.items() if name in said]
    notes += unused(config)
    alone = isolated(network.connectome)
    if alone:
        notes.append(f"Without any connection: {', '.join(alone)}. No parameter of the network reaches them.")
    if objective.spectrum > 0 and target.spectrum is None:
        notes.append("The target has no spectra in model units, so the loss is connectivity alone.")
    views |= orthogonalization_views(problem)
    return Setup(problem, stages, verifier, evaluation, recordings, views, split, data.true, data.dropped, notes)


def target_of(
    config: DictConfig,
    data: Measured,
    observation: Observation,
    objective: Objective,
    stretch: float,
    sides,
    progress: Reporter = silent,
) -> tuple[Target, list[xr.DataArray], dict[str, View], str]:
    """What is fitted, the recordings that it is made of, what else it is scored on, and what it does not see.

    ``sides`` are the hemispheres of the regions, ``"L"`` or ``"R"``.
    """
    share, by, seed = float(config.data.held_out), str(config.data.held_out_by), int(config.data.split_seed)
    if by not in HELD_OUT_BY:
        raise InputError(f"unknown data.held_out_by {by!r}; choose from {', '.join(HELD_OUT_BY)}")
    if not 0 <= share < 1:
        raise InputError(f"data.held_out is the share that a fit does not see, from 0 to less than 1; got {share}")
    bands, of_recordings = plain(config.evaluation.bands), by in ("time", "runs", "subjects")
    split = f"{100 * share:g} % of the {by}, seed {seed}" if share else ""
    if by == "hemisphere":
        split = f"all pairs but those within the {('left', 'right')[seed % 2]} hemisphere"

    def divided(target: Target) -> Target:
        if by == "hemisphere":
            with setting("data.held_out_by"):
                return target.among(sides == "LR"[seed % 2])
        return target.split(1 - share, seed, by) if share and not of_recordings else target

    if data.matrix is not None:
        if bands or (share and of_recordings):
            raise InputError(
                f"a connectivity matrix has one band and one recording; "
                f"{'evaluation.bands' if bands else f'data.held_out_by={by}'} needs recordings"
            )
        people, seconds = config.data.people, config.data.seconds
        if people != 1 and seconds is None:
            raise InputError(f"data.people={people} needs data.seconds, the length of each person's recording in s")
        if seconds is not None and not observation.shortest <= seconds < math.inf:
            raise InputError(
                f"data.seconds={seconds:g} is to be the length in s of each person's recording, at least "
                f"{observation.shortest:g} s with these filters and trims"
            )
        with setting("data.people"):
            target = replace(Target.of_matrix(data.matrix), people=people)
        return divided(replace(target, seconds=people * (seconds or math.inf))), [], {}, split
    seen, unseen = data.recordings, []
    if share and of_recordings:
        seen, unseen = divide(data.recordings, share, by, seed)
    target = divided(Target.of_recordings(seen, observation, objective.spectrum > 0, stretch, progress))
    views = {}
    if unseen:
        if by == "subjects":
            split += f": {', '.join(sorted({str(one.attrs.get('subject', '')) for one in unseen}))}"
        views[f"held out ({split})"] = View(
            observation, Target.of_recordings(unseen, observation, False, progress=progress).fc
        )
    for band in bands:
        if not isinstance(band, list) or len(band) != 2:
            raise InputError(f"evaluation.bands is a list of bands, such as [[4, 8], [13, 30]]; got {bands}")
        other = replace(observation, band=tuple(band))
        fc = Target.of_recordings(seen, other, False, progress=progress).fc
        views[f"{other.band[0]:g}-{other.band[1]:g} Hz"] = View(other, fc)
    return target, seen, views, split


def foreseen(config: DictConfig, data: Measured | None, labels: Sequence[str]) -> Target:
    """What a target's cost follows from before it is computed: its length, and whether pairs of it are held out."""
    people, length = max(1, config.data.people), config.data.seconds or math.inf
    if data is None:
        length = magnitude(config.data.duration, "ms", "data.duration") / 1000
    elif data.recordings:
        people = len({str(one.attrs.get("subject", "")) for one in data.recordings})
        length = sum(one.sizes["time"] / float(one.attrs["fs"]) for one in data.recordings) / people
    seconds = people * length if length > 0 else math.inf
    target = Target(np.zeros((len(labels), len(labels))), labels, seconds=seconds, people=people)
    by, held_out = config.data.held_out_by, config.data.held_out or config.data.held_out_by == "hemisphere"
    return target.split(0.5, 0) if held_out and by not in ("time", "runs", "subjects") else target


def left_out(recordings: Sequence[xr.DataArray], observation: Observation) -> list[str]:
    """A sentence for each recording of which a part is not used."""
    notes = []
    for recording in recordings:
        pieces, seconds = good_pieces(recording, observation.shortest)
        if seconds > 0:
            name = recording.attrs["provenance"]
            kept = sum(piece.sizes["time"] for piece in pieces) / recording.attrs["fs"]
            notes.append(
                f"{name}: {seconds:g} s in bad segments, or between them in stretches shorter than "
                f"{observation.shortest:g} s, are left out; {kept:g} s are used"
            )
    return notes


def unused(config: DictConfig) -> list[str]:
    """A sentence for each section that was changed on the command line, and that the solver does not use."""
    used = [config.solver.predictor, *config.solver.stages]
    sections = ("response", "search", "gradients", "gauss_newton", "refine", "race", "fit", "polish")
    # An experiment sets what any solver would use.
    given = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    changed = {re.split(r"[.=]", override.lstrip("+~"))[0] for override in given}
    notes = [f"The solver does not use the settings {n}.*" for n in sections if n in changed and n not in used]
    if "optimizer" in changed and not {"race", "fit"} & set(used):
        notes.append("The solver does not use the settings optimizer.*")
    if "data" in changed and config.data.held_out_by not in ("pairs", "hemisphere") and not config.data.held_out:
        notes.append(f"Nothing is held out: data.held_out_by={config.data.held_out_by} needs a share, data.held_out.")
    if config.data.maps is not None and not any(p.maps for p in parameters_of(config)):
        notes.append(f"data.maps={config.data.maps} is not read: no parameter follows maps (parameters.NAME.maps).")
    return notes


def evaluation_of(config: DictConfig) -> EvaluationSettings:
    """How much of an evaluation is done."""
    settings = plain(config.evaluation)
    with setting("evaluation"):
        return EvaluationSettings(**{name: v for name, v in settings.items() if name not in ("bands", "duration")})
