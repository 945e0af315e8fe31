"""Recordings from files and folders of subjects."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fitting.data.arrays import existing, needed_of, one_of, read_arrays, text_of, texts
from fitting.data.connectomes import HEMISPHERES, LABELS, UNITS, hemispheres_in, hemispheres_of
from fitting.data.netcdf import read_dataset
from fitting.data.objects import recording
from fitting.data.tables import field, is_number, numbers_of, read_columns, read_json, read_text, rows_of
from fitting.errors import InputError

#: Names under which people store signals, sampling rates and bad segments.
SIGNALS = ("signals", "data", "timeseries")
RATES = ("fs", "sfreq", "sampling_rate")
BAD = ("bad",)

#: Seconds in a unit of time.
SECONDS = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "millisecond": 1e-3, "milliseconds": 1e-3}

#: Endings of files that may hold a recording.
ENDINGS = (".nc", ".nc4", ".npz", ".mat", ".h5", ".hdf5", ".csv", ".tsv", ".fif")

_ENTITY = re.compile(r"(?:^|_)(sub|ses|run)-([A-Za-z0-9]+)")

#: What a name says that is not whose recording it is.
_NOT_SUBJECT = re.compile(r"(^|[_/])((ses|run|task)-[A-Za-z0-9]+|timeseries$|ts$)")

#: Tables of BIDS that lie beside recordings.
_BESIDE = re.compile(
    r"participants|samples|.*_(events|channels|electrodes|scans|sessions|labels|nodes|weights|distances|dseg)"
)


def read_recording(path: str | Path, *, fs: float | None = None, atlas: str = "") -> xr.DataArray:
    """A recording of source activity from a file.

    Parameters
    ----------
    path : path
        - ``.nc``: one variable with the dimensions ``time`` and ``region`` (or another name) and their coordinates;
          the unit of time is in the coordinate's attribute ``units`` (``s`` if it has none); a variable ``good (time)``
          or ``bad (time)`` marks segments;
        - ``.npz``, ``.mat``, ``.h5``: the arrays ``signals`` (time, region), ``fs``, ``labels``, and ``bad``: rows of
          (from, to) in s, or one value per sample; ``hemispheres``, ``atlas``, ``subject``, ``run`` and ``units``
          where they are stored;
        - ``.csv``, ``.tsv``: one column per region below its label, and a column ``time`` in s, or a JSON file of the
          same name with ``SamplingFrequency``, as in BIDS derivatives;
        - ``.fif``: MNE's raw format with source time courses as channels of type ``misc``; annotations that begin
          with "bad" mark bad segments. Needs the package ``mne``.

        An ``*_events.tsv`` beside it whose name has no other entities than the recording's (``sub-01_task-rest``)
        marks bad segments by a ``trial_type`` that begins with "bad".
    fs : float, optional
        Sampling rate in Hz, where the file does not say.
    atlas : str
        See :func:`fitting.data.connectome`.

    Returns
    -------
    DataArray (time, region)

    Raises
    ------
    InputError
        If the file is missing, cannot be read, has no labels, its time is not evenly spaced, or it holds sensors.
    """
    path = Path(path).expanduser()
    return _read(path, fs, atlas, Path(path.name))


def _read(path: Path, fs: float | None, atlas: str, name: Path) -> xr.DataArray:
    """A recording, whose subject and run are those in ``name``, its path from where it was looked for."""
    suffix = path.suffix.lower()
    if suffix not in ENDINGS and path.is_file():
        raise InputError(
            f"cannot read a recording from {suffix or 'a file without extension'}; use {', '.join(ENDINGS)}"
        )
    existing(path)
    if fs is not None and (isinstance(fs, bool) or not isinstance(fs, int | float)):
        raise InputError(f"the sampling rate must be a number of Hz (data.fs=RATE); got {fs!r:.60}")
    if suffix in (".nc", ".nc4"):
        parts = _netcdf(path)
    elif suffix == ".fif":
        parts = _fif(path)
    elif suffix in (".csv", ".tsv"):
        parts = _table(path)
    else:
        parts = _arrays(path)
    own = parts.pop("fs", None)
    if own is not None and fs is not None and abs(own - fs) > 1e-6 * fs:
        raise InputError(f"{path} says that it is sampled at {own:g} Hz, not at {fs:g} Hz")
    if own is None and fs is None:
        raise InputError(f"{path} does not say its sampling rate; name it (data.fs=RATE in Hz)")
    rate = float(own or fs or 0)
    marked = parts.pop("marked", None)
    if marked is not None and rate > 0:
        parts["bad"] = _intervals(marked, rate)
    # Events of BIDS count from the first sample, whatever the clock says there.
    start = float(parts.get("start", 0.0))
    events = [(start + a, start + b) for file in _events(path) for a, b in _bad_events(file)]
    parts["bad"] = [*parts.get("bad", ()), *events]
    parts = _whose(name, path) | parts
    parts["atlas"] = atlas or parts.get("atlas", "")
    try:
        return recording(parts.pop("signals"), rate, parts.pop("labels"), provenance=path.name, **parts)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _whose(name: Path, path: Path) -> dict[str, str]:
    """Subject and run by the entities of BIDS in a path; the run includes the session if there is one."""
    told: dict[str, str] = {}
    for part in name.with_suffix("").parts:
        for key, value in _ENTITY.findall(part):
            if told.setdefault(key, value) != value:
                raise InputError(f"{path}: the path says both {key}-{told[key]} and {key}-{value}; rename one of them")
    run = [told["run"]] if "run" in told else []
    if "ses" in told:
        run = [f"ses-{told['ses']}", *(f"run-{number}" for number in run)]
    return {key: value for key, value in (("subject", told.get("sub", "")), ("run", "_".join(run))) if value}


def read_recordings(path: str | Path, *, fs: float | None = None, atlas: str = "") -> list[xr.DataArray]:
    """The recordings of a folder: of several runs, of several subjects.

    Parameters
    ----------
    path : path
        A file, or a folder. Subject, session and run are those in the names of folders and files, such as
        ``sub-01/run-2.npz`` or ``sub-01_ses-1_run-2_timeseries.tsv``; without a subject in them, the path is its
        name, apart from session, task and run. Hidden files and BIDS' tables of other kinds are not read. A FIF
        recording that was split over several files is one.
    fs, atlas
        See :func:`read_recording`.

    Returns
    -------
    list of DataArray (time, region)
        Sorted by name.

    Raises
    ------
    InputError
        If there is none, one cannot be read, a link leads out of the folder, or ``*_timeseries.*`` or ``*_ts.*``
        (BIDS) are mixed with other recordings.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        return [read_recording(path, fs=fs, atlas=atlas)]
    names = sorted(
        name
        for name in (file.relative_to(path) for file in path.rglob("*") if file.is_file())
        if name.suffix.lower() in ENDINGS
        and not any(part.startswith(".") for part in name.parts)
        and not (name.suffix.lower() in (".csv", ".tsv") and _BESIDE.fullmatch(name.stem))
    )
    if not names:
        raise InputError(f"{path} holds no recording; recordings end in {', '.join(ENDINGS)}")
    series = [name for name in names if name.stem.endswith(("_timeseries", "_ts"))]
    others = [str(name) for name in names if name not in series]
    if series and others:
        raise InputError(
            f"{path} holds {series[0]} and {', '.join(others[:3])}{', ...' if len(others) > 3 else ''}; whether all of "
            f"them are recordings cannot be told: name a folder that holds nothing else, or one file"
        )
    recordings = []
    later = _later_parts([path / name for name in names])
    for name in names:
        file = path / name
        if file.resolve() in later:
            continue
        if not file.resolve().is_relative_to(path.resolve()):
            raise InputError(f"{file} is a link to a file outside {path}")
        one = _read(file, fs, atlas, Path(path.resolve().name, name))
        stem = _NOT_SUBJECT.sub("", name.with_suffix("").as_posix()).strip("_/").replace("/", "_")
        one.attrs |= {"subject": one.attrs["subject"] or stem, "provenance": name.as_posix()}
        recordings.append(one)
    return recordings


def _raw_fif(path: Path):
    """MNE's object of a FIF file, which goes on in the files that it was split over."""
    try:
        import mne
    except ImportError:
        raise InputError(f"reading {path} needs the package mne: python -m pip install mne") from None
    try:
        return mne.io.read_raw_fif(path, preload=False, verbose="error")
    except Exception as error:  # MNE raises many types for damaged files
        raise InputError(f"{path} is not a readable raw FIF file: {str(error).strip().splitlines()[:1]}") from None


def _later_parts(files: list[Path]) -> set[Path]:
    """Files that others, which were split, go on in."""
    fif = [file for file in files if file.suffix.lower() == ".fif"]
    return {Path(part).resolve() for file in fif if len(fif) > 1 for part in _raw_fif(file).filenames[1:]}


def _rate(time: np.ndarray, path: Path) -> float:
    """The sampling rate of an evenly spaced clock in seconds."""
    if time.ndim != 1 or time.dtype.kind not in "fiu" or not np.isfinite(time).all():
        raise InputError(f"{path}: time must be numbers of seconds, one per sample")
    step = np.diff(time.astype(float))
    if len(time) < 2 or not (step > 0).all():
        raise InputError(f"{path}: time must increase from sample to sample")
    if np.ptp(step) > 0.01 * step.mean():
        raise InputError(f"{path}: samples are {step.min():g} to {step.max():g} s apart; they must be evenly spaced")
    # The mean over the whole recording: single differences of a rounded time axis are off.
    fs = float((len(time) - 1) / (float(time[-1]) - float(time[0])))
    return float(round(fs)) if abs(fs - round(fs)) < 1e-6 * fs else fs


def _intervals(marked: np.ndarray, fs: float, start: float = 0.0) -> list[tuple[float, float]]:
    """Intervals of time, from and to in s, in which samples are marked."""
    edges = np.flatnonzero(np.diff(np.r_[False, np.asarray(marked, bool), False]))
    return [(start + a / fs, start + b / fs) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _netcdf(path: Path) -> dict[str, Any]:
    dataset = read_dataset(path)
    candidates = [v for v in dataset.data_vars.values() if {"time"} < set(v.dims) and v.ndim == 2]
    if len(candidates) != 1:
        raise InputError(
            f"{path} must hold one variable of dimensions time and region; it holds "
            f"{', '.join(f'{n} {v.dims}' for n, v in dataset.data_vars.items()) or 'none'}"
        )
    array = candidates[0].transpose("time", ...)
    regions = array.dims[1]
    if regions not in array.coords:
        raise InputError(f"{path}: dimension {regions!r} has no labels; regions are matched by label")
    if "time" not in array.coords:
        raise InputError(f"{path}: there is no time coordinate, so the sampling rate is unknown")
    unit = str(array["time"].attrs.get("units", "s")).partition(" since ")[0]
    if unit not in SECONDS:
        raise InputError(f"{path}: unknown unit of time {unit!r}; known are {', '.join(SECONDS)}")
    time = array["time"].values
    time = time.astype(float) * SECONDS[unit] if time.dtype.kind in "fiu" else time
    parts: dict[str, Any] = {"fs": _rate(time, path), "start": float(time[0])}
    for name in ("good", "bad"):
        if name in array.coords or name in dataset:
            marks = (array.coords if name in array.coords else dataset)[name]
            if marks.dims != ("time",):
                raise InputError(f"{path}: {name} must have one value per sample; it has the dimensions {marks.dims}")
            marked = _intervals((marks.values != 0) == (name == "bad"), parts["fs"], parts["start"])
            parts["bad"] = [*parts.get("bad", ()), *marked]
    parts |= hemispheres_in(dataset, array.dims, path)
    told = {"units": array.attrs.get("unit", array.attrs.get("units", ""))}
    told |= {name: array.attrs[name] for name in ("subject", "run", "atlas") if array.attrs.get(name)}
    return parts | {key: str(value) for key, value in told.items()} | {
        "signals": array.values,
        "labels": texts(array[regions].values, f"{path}: {regions}"),
    }  # fmt: skip


def _arrays(path: Path) -> dict[str, Any]:
    words = ("subject", "run", "atlas")
    arrays, present = read_arrays(path, (*SIGNALS, *RATES, *LABELS, *BAD, *HEMISPHERES, "units", *words))

    signals, labels = (needed_of(arrays, names, path, present) for names in (SIGNALS, LABELS))
    fs, bad, sides = (one_of(arrays, names, path) for names in (RATES, BAD, HEMISPHERES))
    parts: dict[str, Any] = {"signals": signals, "labels": texts(labels, f"{path}: labels")}
    if sides is not None:
        parts["hemispheres"] = hemispheres_of(sides, f"{path}: hemispheres")
    if fs is not None:
        if fs.size != 1 or fs.dtype.kind not in "fiu":
            raise InputError(f"{path}: the sampling rate must be one number of Hz; got {fs!r:.60}")
        parts["fs"] = float(fs.item())
    if bad is not None and bad.size:
        segments = bad.dtype.kind != "b" and bad.ndim == 2 and bad.shape[1] == 2
        marks = bad.size == len(np.atleast_1d(signals)) and np.isin(bad, (0, 1)).all()
        if bad.dtype.kind not in "fiub" or not (segments or marks):
            raise InputError(
                f"{path}: bad must hold rows of (from, to) in s, or one value per sample, true where it is bad; got "
                f"{bad.dtype} of shape {bad.shape} for {len(np.atleast_1d(signals))} samples"
            )
        parts |= {"bad": bad.tolist()} if segments else {"marked": bad.ravel() != 0}
    said = {name: text_of(arrays, (name,), str(path)) for name in words}
    said["units"] = text_of(arrays, ("units", *(f"{name}.units" for name in SIGNALS)), str(path))
    return parts | {name: value for name, value in said.items() if value}


def _table(path: Path) -> dict[str, Any]:
    values, names = read_columns(path)
    parts: dict[str, Any] = {}
    clock = [i for i, name in enumerate(names) if name.lower() in ("time", "times")]
    if clock:
        time = values[:, clock[0]]
        parts |= {"fs": _rate(time, path), "start": float(time[0])}
        values, names = np.delete(values, clock[0], axis=1), [n for i, n in enumerate(names) if i != clock[0]]
    sidecar = path.with_suffix(".json")
    if sidecar.is_file():
        fields = read_json(sidecar)
        rate = fields.get("SamplingFrequency")
        if rate is not None and (not isinstance(rate, int | float) or isinstance(rate, bool)):
            raise InputError(f"{sidecar}: SamplingFrequency must be a number of Hz; got {rate!r:.60}")
        if rate is not None and abs(rate - parts.get("fs", rate)) > 1e-3 * abs(rate):
            raise InputError(f"{sidecar} says {rate:g} Hz, the column of times {parts['fs']:g} Hz")
        parts |= {"fs": float(rate)} if rate is not None else {}
        parts["units"] = field(fields, UNITS[:1], sidecar)[1]
    return parts | {"signals": values, "labels": names}


def _events(path: Path) -> list[Path]:
    """The events tables beside a recording that are about it: their names have its entities, and no other ones."""
    own = path.stem.split("_")
    keys = {piece.partition("-")[0] for piece in own if "-" in piece}
    tables = []
    for file in sorted(path.parent.glob("*_events.[ct]sv")):
        pieces = [piece for piece in file.stem.split("_")[:-1] if piece not in own]
        if not pieces:
            tables.append(file)
        elif all("-" in piece and piece.partition("-")[0] not in keys for piece in pieces) and set(own) & set(
            file.stem.split("_")
        ):
            raise InputError(
                f"{file} is about {', '.join(pieces)}; whether {path.name} is that recording cannot be told: give both "
                f"names the same entities, or move the table elsewhere"
            )
    return tables


def _bad_events(path: Path) -> list[tuple[float, float]]:
    """Segments of an events table of BIDS whose type begins with "bad"."""
    header, *rows = rows_of(read_text(path), str(path)) or [[]]
    missing = [name for name in ("onset", "duration", "trial_type") if name not in header]
    if missing:
        raise InputError(f"{path} lacks the columns {', '.join(missing)}")
    ragged = next((i for i, row in enumerate(rows) if len(row) != len(header)), None)
    if ragged is not None:
        raise InputError(f"{path}: row {ragged} (from 0) has {len(rows[ragged])} cells, the header has {len(header)}")
    onset, duration, kind = (header.index(name) for name in ("onset", "duration", "trial_type"))
    bad = [row for row in rows if row[kind].lower().startswith("bad")]
    for row in bad:
        if not (is_number(row[onset]) and is_number(row[duration])):
            raise InputError(
                f"{path}: onset and duration must be numbers of seconds; got {row[onset]!r}, {row[duration]!r}"
            )
    times = numbers_of([[row[onset], row[duration]] for row in bad], str(path)) if bad else np.zeros((0, 2))
    return [(float(a), float(a + b)) for a, b in times]


def _fif(path: Path) -> dict[str, Any]:
    raw = _raw_fif(path)
    kinds = dict(zip(raw.ch_names, raw.get_channel_types(), strict=True))
    sensors = [name for name, kind in kinds.items() if kind in ("mag", "grad", "eeg", "ref_meg", "seeg", "ecog")]
    if sensors:
        raise InputError(
            f"{path} holds sensors ({', '.join(sensors[:3])}, ...), not regions: every sensor sees many regions. "
            f"Reconstruct sources first, for example with mne.beamformer or mne.minimum_norm and "
            f"mne.extract_label_time_course, and store them as channels of type misc"
        )
    names = [name for name, kind in kinds.items() if kind == "misc"]
    if not names:
        raise InputError(f"{path} has no channels of type misc, which source time courses are stored as")
    try:
        signals = raw.get_data(picks=names).T
    except Exception as error:
        raise InputError(f"{path} is not a readable raw FIF file: {str(error).strip().splitlines()[:1]}") from None
    since = raw.first_time if raw.annotations.orig_time is not None else 0.0
    bad = [
        (float(onset - since), float(onset - since + duration))
        for onset, duration, text in zip(
            raw.annotations.onset, raw.annotations.duration, raw.annotations.description, strict=True
        )
        if text.lower().startswith("bad") and duration > 0
    ]
    return {"signals": signals, "labels": names, "fs": float(raw.info["sfreq"]), "bad": bad}
