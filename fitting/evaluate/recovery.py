"""How well known parameters are found again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from fitting.errors import InputError
from fitting.network import simulated_recording
from fitting.objective import Target
from fitting.optimize import Problem
from fitting.progress import Progress, Reporter, silent


def recovery(
    true: Mapping[str, np.ndarray], fitted: Mapping[str, np.ndarray], signed: Collection[str] = ()
) -> dict[str, dict[str, float]]:
    """Errors of fits to data whose parameters are known.

    Parameters
    ----------
    true, fitted : mapping of arrays (draw,)
        By parameter, positive but for those that are ``signed``.
    signed : collection of str
        Parameters around zero, such as the coefficients of maps.

    Returns
    -------
    dict
        By parameter: ``median_relative_error``, ``correlation`` of the logarithms, ``bias`` (median of the
        logarithm of fitted over true) and ``n``. Of those that are ``signed``: ``median_error``, ``correlation``,
        ``bias`` (median difference) and ``n``.

    Examples
    --------
    >>> import numpy as np
    >>> from fitting.evaluate import recovery
    >>> errors = recovery({"k": np.array([1.0, 2.0, 4.0])}, {"k": np.array([1.1, 2.2, 4.4])})
    >>> round(errors["k"]["median_relative_error"], 3), round(errors["k"]["correlation"], 3)
    (0.1, 1.0)
    """
    errors = {}
    for name, truth in true.items():
        truth, estimate = np.asarray(truth, float), np.asarray(fitted[name], float)
        if truth.shape != estimate.shape or truth.ndim != 1 or len(truth) < 2:
            raise InputError(f"{name}: true values {truth.shape} and fitted ones {estimate.shape} must be equal lists")
        if name in signed:
            error = {"median_error": float(np.median(np.abs(estimate - truth)))}
        else:
            if not ((truth > 0).all() and (estimate > 0).all()):
                raise InputError(f"{name}: relative errors need positive values")
            error = {"median_relative_error": float(np.median(np.abs(estimate / truth - 1)))}
            truth, estimate = np.log(truth), np.log(estimate)
        errors[name] = error | {
            "correlation": float(np.corrcoef(truth, estimate)[0, 1]),
            "bias": float(np.median(estimate - truth)),
            "n": len(truth),
        }
    return errors


def refit_synthetic(
    problem: Problem,
    values: Mapping[str, Any],
    refit: Callable[[Problem], Mapping[str, Any]],
    key,
    *,
    dt: float,
    count: int = 1,
    seconds: float | None = None,
    progress: Reporter = silent,
) -> dict[str, np.ndarray]:
    """Fit again what the fitted model itself produces: a parameter that is not found again means nothing.

    Parameters
    ----------
    problem : Problem
    values : mapping
        Fitted parameters, the truth of the synthetic recordings.
    refit : callable
        From a problem to the unconstrained point that is fitted: the whole strategy that fitted the data.
    key : PRNG key
        Noise of the synthetic recordings.
    dt : float
        Step of the simulations in ms.
    count : int
        How many.
    seconds : float, optional
        Length of each; that of the recording behind the target unless given, or a minute if that is unknown.
    progress : callable, optional

    Returns
    -------
    dict of arrays (count, ...)
        What was found again, by free parameter.
    """
    known = problem.target.seconds if np.isfinite(problem.target.seconds) else 60.0
    # Whole seconds are a whole number of steps.
    length = 1000.0 * max(1, round(seconds or known))
    again: dict[str, list[np.ndarray]] = {p.name: [] for p in problem.parameters.free}
    for number, one in enumerate(jax.random.split(key, count)):
        recording = simulated_recording(
            problem.network, values, duration=length, dt=dt, key=one, observation=problem.observation
        )
        spectrum, stretch = problem.target.spectrum is not None, problem.predictor.stretch
        target = Target.of_recordings([recording], problem.observation, spectrum, stretch)
        point = refit(replace(problem, target=replace(target, pairs=problem.target.pairs)))
        fitted = problem.parameters.reported(point)
        for name in again:
            again[name].append(np.asarray(fitted[name], float))
        progress(Progress("recovery", number + 1, count))
    return {name: np.stack(rows) for name, rows in again.items()}
