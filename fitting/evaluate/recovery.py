"""How well known parameters are found again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from fitting.errors import InputError
from fitting.network import simulated_recording
from fitting.optimize import Problem


def recovery(true: Mapping[str, np.ndarray], fitted: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Errors of fits to data whose parameters are known.

    Parameters
    ----------
    true, fitted : mapping of arrays (draw,)
        By parameter, positive.

    Returns
    -------
    dict
        By parameter: ``median_relative_error``, ``correlation`` of the logarithms, ``bias`` (median of the
        logarithm of fitted over true) and ``n``.

    Examples
    --------
    >>> import numpy as np
    >>> from fitting.evaluate import recovery
    >>> found = recovery({"k": np.array([1.0, 2.0, 4.0])}, {"k": np.array([1.1, 2.2, 4.4])})
    >>> round(found["k"]["median_relative_error"], 3), round(found["k"]["correlation"], 3)
    (0.1, 1.0)
    """
    found = {}
    for name, truth in true.items():
        truth, estimate = np.asarray(truth, float), np.asarray(fitted[name], float)
        if truth.shape != estimate.shape or truth.ndim != 1 or len(truth) < 2:
            raise InputError(f"{name}: true values {truth.shape} and fitted ones {estimate.shape} must be equal lists")
        if not ((truth > 0).all() and (estimate > 0).all()):
            raise InputError(f"{name}: relative errors need positive values")
        ratio = np.log(estimate / truth)
        found[name] = {
            "median_relative_error": float(np.median(np.abs(estimate / truth - 1))),
            "correlation": float(np.corrcoef(np.log(truth), np.log(estimate))[0, 1]),
            "bias": float(np.median(ratio)),
            "n": len(truth),
        }
    return found


def refit_synthetic(
    problem: Problem,
    values: Mapping[str, Any],
    labels: Sequence[str],
    refit: Callable[[Problem], Mapping[str, Any]],
    key,
    count: int = 1,
    seconds: float | None = None,
    on_fit: Callable[[int, int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Fit again what the fitted model itself produces: a parameter that is not found again means nothing.

    Parameters
    ----------
    problem : Problem
    values : mapping
        Fitted parameters, the truth of the synthetic recordings.
    labels : sequence of str
    refit : callable
        From a problem to fitted values; the one that fitted the data.
    key : PRNG key
        Noise of the synthetic recordings.
    count : int
        How many.
    seconds : float, optional
        Length of each; that of the recording behind the target unless given, or of one simulation if that is unknown.
    on_fit : callable, optional
        Called with the number of fits done and in all.

    Returns
    -------
    dict of arrays (count, ...)
        What was found again, by free parameter.
    """
    settled = problem.duration / 1000 - problem.observation.transient
    known = problem.target.seconds if np.isfinite(problem.target.seconds) else settled
    # Whole seconds are a whole number of steps.
    length = 1000.0 * max(1, round(seconds or known))
    found: dict[str, list[np.ndarray]] = {p.name: [] for p in problem.parameters.free}
    for number, one in enumerate(jax.random.split(key, count)):
        recording = simulated_recording(
            problem.network, values, labels, duration=length, dt=problem.dt, key=one, fs=problem.observation.fs
        )
        target = problem.objective.target(recording, problem.observation)
        if problem.target.spectrum is None:
            target = target._replace(spectrum=None)
        again = refit(replace(problem, target=target._replace(pairs=problem.target.pairs)))
        for name in found:
            found[name].append(np.asarray(again[name], float))
        if on_fit:
            on_fit(number + 1, count)
    return {name: np.stack(rows) for name, rows in found.items()}
