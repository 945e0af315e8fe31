"""Compiled programs that hold no numbers of the data, so that other data find them compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun


class _Clock:
    """How long JAX has compiled in this process, in seconds: it tells whoever listens, and nobody else."""

    seconds = 0.0

    def hear(self, event: str, duration_secs: float, **_):
        """Count what is compiled, or taken from the cache of compiled programs."""
        if event in ("/jax/core/compile/jaxpr_to_mlir_module_duration", "/jax/core/compile/backend_compile_duration"):
            self.seconds += duration_secs


_clock = _Clock()
jax.monitoring.register_event_duration_secs_listener(_clock.hear)


def compile_seconds() -> float:
    """Seconds that JAX has compiled for in this process, since :mod:`fitting` was imported.

    Examples
    --------
    >>> import jax
    >>> from fitting.programs import compile_seconds
    >>> before = compile_seconds()
    >>> jax.jit(lambda x: x + 1)(1.0).item(), compile_seconds() > before
    (2.0, True)
    """
    return _clock.seconds


def outlined(function: Callable[..., Any], *arguments, sharding=None) -> tuple[jax.stages.Wrapped, list[Any]]:
    """A function of arrays that another one holds on to, and these arrays.

    Arrays in a closure, such as a connectome's weights, would be constants of the compiled program. Fits of two
    connectomes would each be compiled, as their programs differ in those numbers and in nothing else. As arguments,
    they leave one program for both, which JAX's cache of compiled programs finds
    (``jax.config.update("jax_compilation_cache_dir", FOLDER)``).

    Parameters
    ----------
    function : callable
        Of trees of arrays; returns a tree of arrays.
    arguments
        As many, of the shapes and types that the function will be called with.
    sharding : Sharding, optional
        Where the arrays are put.

    Returns
    -------
    callable, list of array
        ``run, arrays``: ``run(arrays, *arguments)``, compiled by its first call, is ``function(*arguments)``.

    Examples
    --------
    >>> import numpy as np
    >>> from fitting.programs import outlined
    >>> texts = []
    >>> for weights in (np.ones(3), np.arange(3.0)):
    ...     run, arrays = outlined(lambda x: weights * x, 2.0)
    ...     texts.append(run.lower(arrays, 2.0).as_text())
    >>> texts[0] == texts[1], run(arrays, 2.0).tolist()
    (True, [0.0, 2.0, 4.0])
    """
    structures = []

    def flat(*arguments):
        leaves, structure = jax.tree.flatten(function(*arguments))
        structures.append(structure)
        return leaves

    closed = jax.make_jaxpr(flat)(*arguments)

    def run(arrays, *arguments):
        results = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, arrays))(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(structures[0], results)

    run.__name__ = getattr(function, "__name__", run.__name__)  # what profiles and JAX's log call the program
    return jax.jit(run), jax.device_put(closed.consts, sharding)


def compiled(function: Callable[..., Any], sharding=None) -> Callable[..., Any]:
    """As :func:`jax.jit`, for a function that holds on to arrays: see :func:`outlined`.

    Parameters
    ----------
    function : callable
        Of trees of arrays; returns a tree of arrays.
    sharding : Sharding, optional
        Where the arrays are put.

    Returns
    -------
    callable

    Examples
    --------
    >>> import numpy as np
    >>> from fitting.programs import compiled
    >>> weights = np.arange(3.0)
    >>> compiled(lambda x: (weights * x).sum())(2.0).item()
    6.0
    """
    programs: dict[Any, Any] = {}

    def call(*arguments):
        leaves, tree = jax.tree.flatten(arguments)
        kind = (tree, jax.config.read("jax_enable_x64"), *map(jax.typeof, leaves))
        if kind not in programs:
            programs[kind] = outlined(function, *arguments, sharding=sharding)
        run, arrays = programs[kind]
        return run(arrays, *arguments)

    return call
