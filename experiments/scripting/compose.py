"""Configs and command lines without a command line: for a page, or a notebook."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

import scripting.schema  # noqa: F401  registers the types of all settings
from fitting import InputError
from fitting.data import read_fc, read_recordings
from scripting.command import CONF

#: What is explored where no data are named: a network just below its bifurcation, where linear response holds.
DEMO = ("data=demo", "data.duration=120 s", "network.parameters.drive=0.71")


def composed(settings: Sequence[str]) -> DictConfig:
    """The config that these settings of a command line describe."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(settings))


def data_settings(data: str | None, connectome: str | None) -> list[str]:
    """Settings for files: a matrix is told from recordings by what it holds.

    Raises
    ------
    InputError
        If the data are neither.
    """
    chosen = list(DEMO) if data is None else [f"data={_kind(data)}", f"data.path={data}"]
    return chosen + ([f"data.connectome={connectome}"] if connectome else [])


def _kind(path: str) -> str:
    if not Path(path).exists():
        raise InputError(f"there is no file or folder {path}")
    try:
        read_fc(path)
        return "fc_matrix"
    except InputError as no_matrix:
        try:
            read_recordings(path)
            return "recording"
        except InputError as no_recording:
            raise InputError(
                f"{path} is neither a connectivity matrix ({no_matrix}) nor a recording ({no_recording})"
            ) from None


def command_line(settings: Sequence[str]) -> str:
    """The fit that these settings describe, to be typed."""
    return " ".join(["python experiments/fit.py", *map(shlex.quote, settings)])
