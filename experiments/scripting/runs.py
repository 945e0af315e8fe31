"""Runs and their folders: what is recorded of one, and how it is repeated or goes on."""

from __future__ import annotations

import datetime
import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from fitting import InputError
from fitting.devices import first_process
from fitting.optimize.storage import difference
from fitting.report import Summary, versions
from scripting.command import in_sweep

#: Written when a run begins; ``run=FOLDER`` reads it.
RUN_FILE = "run.json"


class Run(NamedTuple):
    """A run that has begun: its whole config, folder and console, when that was, and its score if it was finished."""

    config: DictConfig
    folder: Path
    console: Console
    began: float
    score: float | None


def begin(config: DictConfig) -> Run:
    """Begin the run that a command line describes, or names by ``run=FOLDER``, in Hydra's folder.

    It is recorded there (:func:`claimed`) when its settings have been found good. Of several processes
    (``jax.distributed``), the first one writes and prints.
    """
    began = time.perf_counter()
    folder, console = Path(HydraConfig.get().runtime.output_dir), Console(quiet=not first_process(), markup=False)
    config = stored(config)
    if config.resume is False and int(os.environ.get("SLURM_RESTART_COUNT", "0")):
        # SLURM has put this job back, after a preemption, a kill or the end of its time.
        config.resume = "auto"
    score = finished(config, folder)
    if score is not None:
        console.print(f"Done before: {folder}", soft_wrap=True)
    elif first_process() and (folder / RUN_FILE).exists() and not config.resume:
        raise InputError(
            f"{folder} already holds a run; go on with resume=auto, or name another folder with hydra.run.dir=FOLDER"
        )
    run = Run(config, folder, console, began, score)
    if score is None and in_sweep():
        # A job of a sweep is compared with the others by its settings, whatever becomes of it.
        record_run(run)
    return run


def stored(config: DictConfig) -> DictConfig:
    """The config of the run that ``run=FOLDER`` names, with what the command line changes; without one, as it is."""
    if config.run is None:
        return config
    folder = Path(str(config.run)).expanduser()
    file = folder / RUN_FILE
    if not file.is_file():
        raise InputError(f"run={folder}: there is no {RUN_FILE}, which every run of fit.py writes when it begins")
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        config_of_run = OmegaConf.create(state.get("settings", state["config"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is damaged: {error}") from None
    job = HydraConfig.get()
    sources = [Path(source.path) for source in job.runtime.config_sources if source.schema == "file"]
    for override in OverridesParser.create().parse_overrides(job.overrides.task):
        name, value = override.key_or_group.replace("/", "."), override.value()
        groups = [group for group in (source / name.replace(".", "/") for source in sources) if group.is_dir()]
        files = [group / f"{value}.yaml" for group in groups if isinstance(value, str)]
        choice = [file.read_text(encoding="utf-8").partition("\n")[0] for file in files if file.is_file()]
        if any("@package _global_" in first for first in choice):
            raise InputError(
                f"run=FOLDER brings its own settings; {override.input_line} would change several sections of them as "
                "a whole: name the settings that are to change"
            )
        section, _, last = name.rpartition(".")
        if override.is_delete():
            (OmegaConf.select(config_of_run, section) if section else config_of_run).pop(last, None)
        else:
            # Another choice takes the place of the stored one. Of a dictionary, the whole section of this command holds
            # its defaults as well, so that only what it names is taken.
            for each in _named(name, value, config_of_run):
                OmegaConf.update(config_of_run, each, OmegaConf.select(config, each), merge=not choice, force_add=True)
    config_of_run.run, config_of_run.resume = None, config.resume
    return config_of_run


def _named(name: str, value: Any, config: DictConfig) -> Iterator[str]:
    """The settings that a command gives a value: those in a dictionary, where it is about a section that is there."""
    if isinstance(value, dict) and OmegaConf.select(config, name) is not None:
        for key, inner in value.items():
            yield from _named(f"{name}.{key}", inner, config)
    else:
        yield name


@contextmanager
def claimed(run: Run):
    """Record a run that begins; one that is refused before it kept anything leaves the corrected command its folder."""
    new = not (run.folder / RUN_FILE).exists()
    if new:
        record_run(run)
    try:
        yield
    except InputError:
        if new and first_process() and not (run.folder / "checkpoints").exists():
            (run.folder / RUN_FILE).unlink(missing_ok=True)
        raise


def record_run(run: Run):
    """Write what is needed to repeat a run: its config, seeds and command line, versions and the state of the code.

    Of a run that was gone on with it is the last command, which may have evaluated otherwise; ``began`` stays.
    """
    config, folder = run.config, run.folder
    if not first_process():
        return
    job, now = HydraConfig.get(), datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    try:
        before = _recorded(folder)
    except InputError:
        before = {}  # it is written anew
    # Whoever repeats the run begins it.
    overrides = [override for override in job.overrides.task if not override.startswith("resume=")]
    command = ["python", f"experiments/{job.job.name}.py", *map(shlex.quote, overrides)]
    state = {
        "command": " ".join(command),
        "config": OmegaConf.to_container(config, resolve=True),
        # What a repeated run begins from: a setting that follows another one still does when that is changed.
        "settings": OmegaConf.to_container(config, resolve=False),
        "versions": versions(),
        "git": git_state(),
        "began": before.get("began", now),
    }
    (folder / RUN_FILE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")


def _recorded(folder: Path) -> dict[str, Any]:
    """What a run has recorded in a folder; nothing if there is none."""
    file = folder / RUN_FILE
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise InputError(f"{file} is damaged: {error}") from None


def resuming(config: DictConfig, folder: Path) -> bool:
    """Whether a run goes on where one before it in the same folder was: with ``resume=auto``, if there was one."""
    if config.resume not in (True, False, "auto"):
        raise InputError(f"resume must be true, false or auto; got {config.resume!r}")
    return (folder / "checkpoints").is_dir() if config.resume == "auto" else bool(config.resume)


def finished(config: DictConfig, folder: Path) -> float | None:
    """Score of the run in a folder, where ``resume=auto`` finds it finished: a sweep begun again does the rest only.

    Raises
    ------
    InputError
        If it was run with other settings.
    """
    file = folder / "summary.json"
    if config.resume != "auto" or not file.is_file():
        return None
    try:
        done = "fc_correlation" in json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        done = False  # cut off by a kill
    if not done:
        return None  # a job that failed left a note
    same = {"run", "resume", "runs"}
    old, new = _recorded(folder).get("config", {}), OmegaConf.to_container(config, resolve=True)
    old, new = ({str(name): value for name, value in each.items() if name not in same} for each in (old, new))
    if old:
        _refuse_others(folder, old, new)
    summary = Summary.read(file)
    return None if summary.status == "interrupted" else summary.fc_correlation.mean_fc.r


def study_folder(config: DictConfig) -> Path:
    """Hydra's folder, in which a study keeps what it has done; only the same study goes on there.

    It may be of more draws, seeds or profiles.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    old, new = _recorded(folder).get("config", {}), OmegaConf.to_container(config, resolve=True)

    def identified(settings: dict[str, Any]) -> dict[str, Any]:
        study = {n: v for n, v in settings["study"].items() if n not in ("draws", "seeds", "profile", "aim")}
        return {n: v for n, v in settings.items() if n not in ("run", "resume", "runs")} | {"study": study}

    if old:
        _refuse_others(folder, identified(old), identified(new))
    record_run(Run(config, folder, Console(quiet=True), time.perf_counter(), None))
    return folder


def kept(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a file holds; made and written first where it is not there, as a whole or not at all."""
    if not file.is_file():
        temporary = file.with_suffix(".new")
        temporary.write_text(json.dumps(make(), indent=2) + "\n", encoding="utf-8")
        temporary.replace(file)
    return json.loads(file.read_text(encoding="utf-8"))


def _refuse_others(folder: Path, old: dict[str, Any], new: dict[str, Any]):
    changed = list(difference(old, new))
    if changed:
        more = f"; and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise InputError(
            f"{folder} holds a run with other settings: {'; '.join(changed[:3])}{more}. Name another folder with "
            "hydra.run.dir=FOLDER or hydra.sweep.dir=FOLDER"
        )


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
