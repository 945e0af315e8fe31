"""Named arrays from NPZ, MAT, HDF5 and netCDF files, never unpickled, and never larger than announced."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from fitting.errors import InputError

#: Largest array that is read, in bytes: an hour of 400 regions at 250 Hz is 3 GB.
LARGEST = 4 * 2**30

#: Exit status of a program beside this file where a file is sound, but not what is needed.
REFUSED = 3

#: Slowest disk that is waited for, in bytes per second.
SLOWEST = 2**21


def existing(path: str | Path) -> Path:
    """``path`` if there is such a file; refuses it otherwise, naming the folder's files."""
    path = Path(path).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it")
    near = sorted(p.name for p in path.parent.glob(f"*{path.suffix}"))[:8] if path.parent.is_dir() else []
    hint = f"; {path.parent} holds {', '.join(near)}" if near else ""
    raise InputError(f"there is no file {path}{hint}")


def texts(values, what: str) -> list[str]:
    """Labels as str, bytes as UTF-8."""
    try:
        return [v.decode("utf-8") if isinstance(v, bytes) else str(v) for v in np.ravel(values).tolist()]
    except UnicodeDecodeError as error:
        raise InputError(f"{what}: {error.object!r:.60} is not text in UTF-8; store labels as text") from None


def text_of(arrays: Mapping[str, np.ndarray], names: Iterable[str], what: str) -> str:
    """The one text that a file holds under any of some names; empty if there is none."""
    told = {name: texts(arrays[name], f"{what}: {name}") for name in names if name in arrays and arrays[name].size}
    for name, values in told.items():
        if len(values) != 1:
            raise InputError(f"{what}: {name} must be one text; it holds {len(values)} values")
    if len({values[0] for values in told.values()}) > 1:
        some = " and ".join(f"{name} {values[0]!r}" for name, values in told.items())
        raise InputError(f"{what} says {some}; which is meant cannot be told")
    return next((values[0].strip() for values in told.values()), "")


def one_of(arrays: Mapping[str, np.ndarray], names: Iterable[str], path: Path) -> np.ndarray | None:
    """What a file holds under one of some names, None if nothing; refuses a file in which several of them are."""
    held = [name for name in names if name in arrays]
    if len(held) > 1:
        raise InputError(f"{path} holds {' and '.join(held)}; which of them is meant cannot be told")
    return arrays[held[0]] if held else None


def needed_of(arrays: Mapping[str, np.ndarray], names: Iterable[str], path: Path, present: Iterable[str]) -> np.ndarray:
    """The same; refuses a file that holds nothing under any of the names, saying what is present."""
    array = one_of(arrays, names, path)
    if array is None:
        raise InputError(f"{path} holds {', '.join(present) or 'nothing'}; one of {', '.join(names)} is needed")
    return array


def check_size(size: int | float, what: str):
    """Refuse an array of ``size`` bytes that is too large to be meant."""
    if size > LARGEST:
        raise InputError(f"{what} would take {size / 2**30:,.0f} GB; at most {LARGEST / 2**30:g} GB are read")


def read_arrays(path: str | Path, names: Iterable[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Those of the named arrays that a file holds, and the names of all that it holds.

    Parameters
    ----------
    path : path
        ``.npz``, ``.mat`` (of any version), ``.h5``, ``.hdf5`` or ``.nc``. Text becomes arrays of str.
    names : iterable of str
        In groups of HDF5, the last part of the name counts; all must lie in one group. The attribute ``units`` of an
        HDF5 dataset becomes an array ``NAME.units``.

    Raises
    ------
    InputError
        If the file is missing, damaged, of another format, or an array is too large.
    """
    path = existing(path)
    readers: dict[str, Callable] = {".npz": _npz, ".mat": _mat, ".h5": _hdf5, ".hdf5": _hdf5}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"cannot read arrays from {path.suffix or 'a file without extension'}")
    with _damage_is_refused(path):
        return reader(path, set(names))


@contextmanager
def _damage_is_refused(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the libraries raise whatever they stumble over in a damaged file
        line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        kind = f"{path.suffix[1:].upper()} file of plain arrays"
        raise InputError(f"{path} is not a readable {kind}: {line}") from None


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of an NPZ file; refuses object arrays, which would need unpickling."""
    path = existing(path)
    with _damage_is_refused(path):
        return _npz(path, None)[0]


def _npz(path: Path, names: set[str] | None) -> tuple[dict[str, np.ndarray], list[str]]:
    arrays, present = {}, []
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if name in present:
                raise InputError(f"{path} holds two arrays called {name}; which is meant cannot be told")
            present.append(name)
            if names is not None and name not in names:
                continue
            check_size(entry.file_size, f"{path}: {name}")
            with archive.open(entry) as stream:
                version = np.lib.format.read_magic(stream)
                header = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = header(stream)
                if dtype.hasobject:
                    raise InputError(f"{path} is not a readable NPZ file of plain arrays: {name} holds pickled objects")
                # In Python's integers, which do not overflow.
                size = int(np.prod([int(n) for n in shape], dtype=object)) * dtype.itemsize
                rest = entry.file_size - stream.tell()
                if size != rest:
                    raise InputError(f"{path}: {name} is announced with {size:,} bytes, but {rest:,} are there")
            with archive.open(entry) as stream:
                value = np.lib.format.read_array(stream, allow_pickle=False)
            if value.dtype.names:
                raise InputError(f"{path}: {name} is a table of records; store plain arrays")
            arrays[name] = np.char.decode(value, "utf-8") if value.dtype.kind == "S" else value
    return arrays, present


def _mat(path: Path, names: set[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    with path.open("rb") as stream:
        if b"MATLAB 7.3" in stream.read(128) or h5py.is_hdf5(path):
            # MATLAB stores columns first.
            arrays, present = _hdf5(path, names)
            return {name: value.T for name, value in arrays.items()}, present
    return _apart("mat", path, names)


def _hdf5(path: Path, names: set[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    return _apart("hdf5", path, names)


def _apart(program: str, path: Path, names: set[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Arrays that a program beside this file reads, in a process of its own, for the reason that it gives."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "arrays.npz"
        run_apart(program, path, out, names)
        arrays, _ = _npz(out, None)
    return arrays, arrays.pop("__names__").tolist()


def run_apart(program: str, path: Path, out: Path, names: Iterable[str] = ()):
    """Run a reader as a process of its own; refuses a file on which it fails, crashes or does not end."""
    kind = f"{path} is not a readable {path.suffix[1:].upper()} file of plain arrays"
    script = str(Path(__file__).with_name(f"{program}.py"))
    # What a reader's own libraries warn of is no part of its sentence.
    command = [sys.executable, "-W", "ignore", script, str(path.resolve()), str(out), str(LARGEST), *sorted(names)]
    longest = 20 + path.stat().st_size / SLOWEST
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=longest)
    except subprocess.TimeoutExpired:
        raise InputError(f"{kind}: it is damaged so that reading it does not end within {longest:.0f} s") from None
    if done.returncode < 0:
        raise InputError(f"{kind}: it is damaged so that reading it crashes")
    if done.returncode == REFUSED:
        raise InputError(f"{path}: {done.stderr.strip()}")
    if done.returncode:
        raise InputError(f"{kind}: {done.stderr.strip()}")
