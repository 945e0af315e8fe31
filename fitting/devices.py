"""Independent work on all devices at once: candidates, noise seeds, connectomes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fitting.programs import compiled


def local_devices() -> list[jax.Device]:
    """Devices of this process, of the kind that ``jax_default_device`` names where it does."""
    chosen = jax.config.values["jax_default_device"]
    return jax.local_devices(backend=getattr(chosen, "platform", chosen))


def on_gpu() -> bool:
    """Whether programs are made for a GPU: the kind that ``jax_default_device`` names, or else JAX's first choice.

    Examples
    --------
    >>> import jax
    >>> from fitting.devices import on_gpu
    >>> with jax.default_device("cpu"):
    ...     on_gpu()
    False
    """
    chosen = jax.config.values["jax_default_device"]
    return (getattr(chosen, "platform", chosen) or jax.default_backend()) != "cpu"


def device_count() -> int:
    """Devices of all processes."""
    return len(local_devices()) * jax.process_count()


def free_bytes() -> int:
    """Memory that is free on this process's devices: of the first GPU, or of the machine."""
    device = local_devices()[0]
    statistics: dict[str, Any] = (device.memory_stats() if device.platform != "cpu" else None) or {}
    if "bytes_limit" in statistics:
        return int(statistics["bytes_limit"] - statistics.get("bytes_in_use", 0))
    return int(psutil.virtual_memory().available)


def side_by_side(each: int) -> int:
    """Elements of so many bytes that a device computes at once: on a GPU as many as fit into its free memory.

    Half of it is left for what the estimate does not know. A core of a CPU gains nothing from more than one.

    Examples
    --------
    >>> from fitting.devices import side_by_side
    >>> side_by_side(1_000_000) >= 1
    True
    """
    return 1 if local_devices()[0].platform == "cpu" else max(1, free_bytes() // (2 * each))


def turns(count: int, batch: int = 1) -> int:
    """How often all devices must compute, ``batch`` elements each, until so many are done.

    Examples
    --------
    >>> from fitting.devices import device_count, turns
    >>> turns(3 * device_count()), turns(3 * device_count(), batch=16)
    (3, 1)
    """
    return math.ceil(count / (device_count() * batch))


def first_process() -> bool:
    """Whether this process writes files: of several (``jax.distributed``), which share a folder, only one does."""
    return jax.process_index() == 0


def over_devices(function: Callable[..., Any], batch: int = 1) -> Callable[..., Any]:
    """A compiled function of many elements that computes a function of one for each, on all devices.

    Elements are shared out evenly. With several processes (``jax.distributed``), which must have as many devices each,
    the devices of all take part; every process must make the same calls, and gets all results.

    Parameters
    ----------
    function : callable
        Of one element and of what is common to all; returns a tree of arrays.
    batch : int
        Elements that a device computes side by side: more are faster and need more memory.

    Returns
    -------
    callable
        Of a tree of arrays whose first axis is the elements, and of what is common; returns a tree of NumPy arrays
        with that axis.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fitting.devices import over_devices
    >>> over_devices(lambda x, scale: scale * x.sum())(jnp.ones((3, 2)), 10.0).tolist()
    [20.0, 20.0, 20.0]
    """
    mesh = _mesh()
    split, whole = NamedSharding(mesh, P("element")), NamedSharding(mesh, P())
    programs: dict[int, Any] = {}

    def every(elements, *common):
        count = len(jax.tree.leaves(elements)[0])
        # Rounds of one size, whatever the count: another size would be compiled by itself.
        rounds = turns(count, batch)
        size = math.ceil(count / (device_count() * rounds))
        if size not in programs:
            programs[size] = compiled(partial(_of_all, function, mesh), whole)
        program = programs[size]
        first, each = jax.process_index() * rounds * mesh.size * size, mesh.size * size
        elements, common = jax.device_put(elements), jax.device_put(common, whole)
        results = []
        for number in range(rounds):
            own = first + number * each + np.arange(each)
            at = jax.device_put(own)
            results.append(program(*jax.device_put((_taken(elements, at), own < count), split), common))
        gathered = jax.tree.map(lambda *parts: np.concatenate(parts), *jax.device_get(results))
        if jax.process_count() > 1:
            gathered = multihost_utils.process_allgather(gathered, tiled=True)
        return jax.tree.map(lambda x: np.asarray(x)[:count], gathered)

    return every


@jax.jit
def _taken(elements, at):
    return jax.tree.map(lambda x: jnp.take(x, at, axis=0, mode="clip"), elements)


def _mesh() -> Mesh:
    return Mesh(np.asarray(local_devices()), ("element",))


def _of_all(function, mesh, elements, asked, common):
    """A function of every element, as many on each device of the mesh, those of a device side by side."""

    def of_one_device(elements, asked, common):
        one = jax.jit(lambda element: function(element, *common))  # traced once, though it is asked for its shape, too
        if len(asked) > 1:
            return jax.vmap(one)(elements)
        # What only fills a round up would slow down the cores that compute what was asked for.
        element = jax.tree.map(lambda x: x[0], elements)
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(one, element))
        return jax.tree.map(lambda x: x[None], lax.cond(asked[0], one, lambda _: nothing, element))

    of_each = P("element")
    share = jax.shard_map(
        of_one_device, mesh=mesh, in_specs=(of_each, of_each, P()), out_specs=of_each, check_vma=False
    )
    return share(elements, asked, common)


def rounds_over_devices(count: int, batch: int = 1):
    """Slices of so many elements that keep all devices busy, one after the other: for work that reports between them.

    ``batch`` is that of :func:`over_devices`.

    Examples
    --------
    >>> from fitting.devices import device_count, rounds_over_devices
    >>> [(s.start, s.stop) for s in rounds_over_devices(device_count() + 1)][-1][1] == device_count() + 1
    True
    """
    each = device_count() * batch
    for first in range(0, count, each):
        yield slice(first, min(first + each, count))
