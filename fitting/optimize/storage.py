"""What a stage has done, kept in one file, and what identifies it, so that nothing else goes on from there."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import types
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from fitting.devices import first_process
from fitting.errors import InputError


def identity(thing: Any, within: tuple = ()) -> Any:
    """What a thing is, as nested dictionaries, lists and text: every field of every dataclass in it.

    Arrays are told apart by their shape and two sums, to five digits: the last digits of what was computed may
    change from process to process. Functions are their name and whatever they hold on to, so that
    ``optax.adam(0.1)`` is not ``optax.adam(0.2)``: variables around them, defaults, the object that a method belongs
    to, and the attributes of an object that can be called, but for those that begin with an underscore and properties
    that are cached, which are no settings. What they compute is not looked at.

    Parameters
    ----------
    thing
    within : tuple
        Things that hold this one, which may hold them.

    Examples
    --------
    >>> import optax
    >>> from fitting.optimize import Parameter
    >>> from fitting.optimize.storage import identity
    >>> identity(Parameter("k", 1.0, 0.1, 5.0))["upper"]
    5.0
    >>> identity(optax.sgd(0.1)) == identity(optax.sgd(0.2))
    False
    """
    if any(thing is holder for holder in within):
        return "a thing that holds this one"
    of = functools.partial(identity, within=(*within, thing))
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        fields = {f.name: of(getattr(thing, f.name)) for f in dataclasses.fields(thing) if f.init and f.compare}
        return {"class": type(thing).__name__} | fields
    if isinstance(thing, xr.DataArray):
        return of(thing.to_dataset(name="values"))
    if isinstance(thing, xr.Dataset):
        return {str(name): of(thing[name].values) for name in thing.variables}
    if isinstance(thing, Mapping):
        return {str(name): of(value) for name, value in sorted(thing.items())}
    if isinstance(thing, list | tuple):
        return [of(value) for value in thing]
    if isinstance(thing, set | frozenset):
        # Their order is another one in the next process.
        return sorted((of(value) for value in thing), key=json.dumps)
    if thing is None or isinstance(thing, str | bool | int):
        return thing
    if isinstance(thing, float | np.ndarray | np.generic | jax.Array):
        return _numbers(thing)
    if isinstance(thing, functools.partial):
        return [of(part) for part in (thing.func, thing.args, thing.keywords)]
    if not callable(thing):
        # An address would be another one in the next process.
        told = not re.search(r"\bat 0x[0-9a-fA-F]+", text := str(thing))
        return text if told else [type(thing).__qualname__, of(getattr(thing, "__dict__", None))]
    name, held = getattr(thing, "__qualname__", type(thing).__qualname__), _held(thing)
    return [name, *map(of, held)] if held else f"{getattr(thing, '__module__', '')}.{name}"


def _held(thing: Callable) -> list[Any]:
    """What a callable holds on to."""
    if isinstance(thing, type | types.BuiltinFunctionType):
        return []
    if isinstance(thing, types.MethodType):
        return [thing.__func__, thing.__self__]
    if isinstance(thing, types.FunctionType):
        cells = [cell.cell_contents for cell in thing.__closure__ or ()]
        return [*cells, *filter(None, (thing.__defaults__, thing.__kwdefaults__))]
    if hasattr(thing, "__wrapped__"):
        # A compiled function knows the file and line that it came from, which may move.
        return [thing.__wrapped__]
    settings = {
        name: value
        for name, value in getattr(thing, "__dict__", {}).items()
        if not (name.startswith("_") or isinstance(getattr(type(thing), name, None), functools.cached_property))
    }
    return [settings] if settings else []


def _numbers(thing) -> Any:
    values = np.asarray(thing)
    if values.dtype.kind not in "fiub":
        return [str(value) for value in values.ravel()]
    if values.ndim == 0:
        return float(f"{float(values):.9e}")
    flat = values.astype(float).ravel()
    # The second sum tells elements that have changed places.
    sums = (np.abs(flat).sum(), (flat * np.cos(np.arange(len(flat)))).sum())
    return f"{values.shape} of sums {sums[0]:.5e} and {sums[1]:.5e}"


def difference(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """Sentences that say where two identities differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from difference(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, pair in enumerate(zip(old, new, strict=True)):
            yield from difference(*pair, f"{name}[{number}]")
    elif old != new:
        yield f"{name} was {old}, is now {new}"


class Record:
    """The file of one stage: arrays by name, written so that a kill leaves the old file or the new one.

    Parameters
    ----------
    file : Path
    identity : dict
        What identifies the stage; a file with another one is refused.
    resume : bool
        Go on from the file, if it is there.

    Attributes
    ----------
    arrays : dict of arrays
        What was saved before; empty if there is nothing to go on from.

    Raises
    ------
    InputError
        If the file is there and is not to be gone on from, is damaged, or belongs to another fit.
    """

    def __init__(self, file: Path, identity: Mapping[str, Any], resume: bool):
        self.file, self.identity = file, json.loads(json.dumps(identity))
        self.arrays: dict[str, np.ndarray] = {}
        if not file.is_file():
            return
        if not resume:
            raise InputError(f"{file.parent} already holds a fit; go on with it (resume), or choose another folder")
        try:
            with np.load(file, allow_pickle=False) as saved:
                arrays = {name: saved[name] for name in saved.files}
            known = json.loads(str(arrays.pop("identity")))
        except Exception as error:  # zipfile, numpy and json raise many types for damaged files
            raise InputError(
                f"{file} is damaged ({type(error).__name__}); delete it to do this stage from its beginning"
            ) from None
        different = list(difference(known, self.identity))
        if different:
            more = f"; and {len(different) - 3} more" if len(different) > 3 else ""
            raise InputError(f"{file} belongs to another fit: {'; '.join(different[:3])}{more}")
        self.arrays = arrays

    def save(self, arrays: Mapping[str, Any]):
        """Write all arrays; of several processes the first one does."""
        if not first_process():
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(".new")
        with temporary.open("wb") as stream:
            np.savez(stream, identity=np.array(json.dumps(self.identity)), **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(self.file)


@dataclasses.dataclass(frozen=True)
class Store:
    """The folder in which the stages of a fit keep what they have done.

    Parameters
    ----------
    folder : Path, optional
        Nothing is kept unless given.
    resume : bool
        Go on from what is there.
    """

    folder: Path | None = None
    resume: bool = False

    def __post_init__(self):
        if self.resume and (self.folder is None or not self.folder.is_dir()):
            where = self.folder or "no folder was named, so it"
            raise InputError(f"there is nothing to resume: {where} holds no fit; begin it without resume")

    def record(self, stage: str, identity: Mapping[str, Any]) -> Record:
        """The record of a stage."""
        if self.folder is None:
            return _Nowhere()
        identity = {"x64": bool(jax.config.read("jax_enable_x64"))} | dict(identity)
        return Record(self.folder / f"{stage.replace(' ', '_')}.npz", identity, self.resume)

    def kept(
        self, function: Callable[[Any], Mapping[str, Any]], name: str, settings: Any = None
    ) -> Callable[[Any], Mapping[str, Any]]:
        """The same function, each result of which is kept in a file: what was done before is read.

        Parameters
        ----------
        function : callable
            Returns arrays by name.
        name : str
            Begins the names of the files; they end with a number that follows from what the function is given.
        settings
            Whatever else its results depend on; what was done with others is done anew.
        """
        done: dict[str, Mapping[str, Any]] = {}

        def again(thing):
            known = {"of": identity(thing), "settings": identity(settings)}
            stage = f"{name} {zlib.crc32(json.dumps(known).encode()):08x}"
            if stage not in done:
                record = self.record(stage, known)
                done[stage] = record.arrays or function(thing)
                if not record.arrays:
                    record.save(done[stage])
            return done[stage]

        return again


class _Nowhere(Record):
    """Keeps nothing."""

    def __init__(self):
        self.arrays = {}

    def save(self, arrays: Mapping[str, Any]):
        pass
