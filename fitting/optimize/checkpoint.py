"""Save each step of a fit atomically, and continue from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from fitting.devices import first_process
from fitting.errors import InputError


class Checkpoints:
    """A folder of checkpoints, written by Orbax: the last two steps are kept.

    Parameters
    ----------
    folder : Path
    fingerprint : dict
        What identifies the fit; a checkpoint with another one is refused.
    """

    def __init__(self, folder: Path, fingerprint: dict[str, Any]):
        self.folder = Path(folder).absolute()
        self.fingerprint = json.loads(json.dumps(fingerprint))
        self._manager: ocp.CheckpointManager | None = None

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            own, several = jax.process_index(), jax.process_count() > 1
            if several:
                self.folder.mkdir(parents=True, exist_ok=True)
            options = ocp.CheckpointManagerOptions(
                max_to_keep=2,
                create=not several,
                enable_async_checkpointing=False,
                # Of several processes each reads by itself, and the first one writes: nobody waits for anybody.
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    primary_host=own, active_processes={own}, barrier_sync_key_prefix=str(own)
                )
                if several
                else ocp.options.MultiprocessingOptions(),
            )
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        return self._manager

    def is_empty(self) -> bool:
        """Whether the folder is there, but no step has been saved in it."""
        return self.folder.is_dir() and self._open().latest_step() is None

    def refuse_used(self):
        """Refuse a folder that already holds a fit, which would be mixed up with this one."""
        if self.folder.is_dir() and not self.is_empty():
            raise InputError(
                f"{self.folder} already holds a fit; continue it (resume=true), or choose another folder for this one"
            )

    def save(self, point, memory, rows):
        """Save the state after the last of ``rows``."""
        if not first_process() or self._open().latest_step() == len(rows):
            return
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves((point, memory))]
        state = {"leaves": {str(i): leaf for i, leaf in enumerate(leaves)}, "rows": _pack(rows)}
        self._open().save(
            len(rows),
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), fingerprint=ocp.args.JsonSave(self.fingerprint)
            ),
            force=True,
        )

    def load(self, point, memory):
        """The saved state, in the structure of ``point`` and ``memory``.

        Raises
        ------
        InputError
            If there is none, it cannot be read, or it belongs to another fit.
        """
        if not self.folder.is_dir() or self.is_empty():
            raise InputError(f"there is nothing to resume: {self.folder} holds no checkpoint")
        step = self._open().latest_step()
        try:
            saved = self._open().restore(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardRestore(), fingerprint=ocp.args.JsonRestore()),
            )
            found = saved["fingerprint"]
            leaves = [saved["state"]["leaves"][str(i)] for i in range(len(saved["state"]["leaves"]))]
            rows = _unpack(saved["state"]["rows"])
        except Exception as error:  # Orbax raises many types for damaged files
            raise InputError(
                f"the checkpoint of step {step} in {self.folder} is damaged ({type(error).__name__}); "
                f"delete {self.folder / str(step)} to continue from the one before, if there is one"
            ) from None
        different = [name for name in self.fingerprint if found.get(name) != self.fingerprint[name]]
        if different:
            raise InputError(
                f"the checkpoint in {self.folder} belongs to another fit: "
                + "; ".join(f"{n} was {found.get(n)}, is now {self.fingerprint[n]}" for n in different)
            )
        structure = jax.tree.structure((point, memory))
        old = jax.tree.leaves((point, memory))
        if len(leaves) != len(old) or any(np.shape(a) != np.shape(b) for a, b in zip(leaves, old, strict=True)):
            raise InputError(f"the checkpoint in {self.folder} was written with another optimizer")
        typed = [jax.numpy.asarray(a, b.dtype) for a, b in zip(leaves, old, strict=True)]
        return (*jax.tree.unflatten(structure, typed), rows)


def _pack(rows) -> dict[str, Any]:
    """Rows of the history as arrays, in the order of the steps."""
    packed = {
        name: np.array([row[name] for row in rows])
        for name in ("loss", "fc_correlation", "spectrum", "gradient_norm", "finite", "seconds")
    }
    for group in ("point", "values"):
        for name in rows[0][group]:
            packed[f"{group}:{name}"] = np.stack([np.asarray(row[group][name]) for row in rows])
    return packed


def _unpack(packed) -> list[dict[str, Any]]:
    rows = []
    for i in range(len(packed["loss"])):
        row: dict[str, Any] = {"point": {}, "values": {}}
        for name, values in packed.items():
            value = np.asarray(values[i])
            if ":" in name:
                group, parameter = name.split(":", 1)
                row[group][parameter] = value
            else:
                row[name] = bool(value) if name == "finite" else float(value)
        rows.append(row)
    return rows
