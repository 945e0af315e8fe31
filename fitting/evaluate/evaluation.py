"""Everything that is asked of a fitted model, in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from fitting.data import fc_target
from fitting.errors import InputError
from fitting.evaluate.baselines import held_out_baselines, structural_baselines
from fitting.evaluate.ceiling import Ceiling, split_half_ceiling, subject_ceiling
from fitting.evaluate.identifiability import Identifiability, identifiability
from fitting.evaluate.information import Profile, profile_likelihood, response_information
from fitting.evaluate.nulls import SurrogateTest, delay_nulls, surrogate_connectomes, surrogate_test
from fitting.evaluate.profile import profile_loss
from fitting.evaluate.recovery import refit_synthetic
from fitting.evaluate.seeds import SeedScores, View, fresh_seeds
from fitting.objective import Objective
from fitting.optimize import FitResult, Problem, ResponseProblem
from fitting.response import departure, linearize, unstable_roots
from fitting.signal import fc_correlation

#: Nearer than this to its steady state, in units of the coupled variable, a network counts as being there.
NEAR = 0.01


@dataclass(frozen=True)
class EvaluationSettings:
    """How much of an evaluation is done; zero leaves a part out.

    Parameters
    ----------
    fresh_seeds, initial_seeds : int
        Noise seeds that score the fitted and the initial parameters.
    duration : float, optional
        Length of each of these simulations in ms; the fit's own unless given.
    identifiability_seeds : int
        Noise seeds of :func:`fitting.evaluate.identifiability` (simulated fits).
    profile_points, profile_steps : int
        Of each profile likelihood (fits by linear response).
    loss_profile_points : int
        Of the profile of the loss of every global parameter (simulated fits, which take long).
    null_seeds : int
        Noise seeds that score the model without delays and with one delay.
    surrogates : int
        Surrogate connectomes of each kind.
    recoveries : int
        Synthetic recordings of the fitted model that are fitted again; each takes as long as the fit did.
    """

    fresh_seeds: int = 10
    initial_seeds: int = 2
    duration: float | None = None
    identifiability_seeds: int = 3
    profile_points: int = 9
    profile_steps: int = 30
    loss_profile_points: int = 0
    null_seeds: int = 2
    surrogates: int = 19
    recoveries: int = 0

    def __post_init__(self):
        for name, value in vars(self).items():
            if value is not None and value < (1 if name == "fresh_seeds" else 0):
                zero = "zero or " if name == "fresh_seeds" else ""
                raise InputError(f"evaluation.{name} must not be {zero}negative; got {value:g}")


class Evaluation(NamedTuple):
    """What is known about a fitted model.

    Attributes
    ----------
    fresh : SeedScores
        Fitted parameters on noise that the fit has not seen.
    initial : float
        Mean FC correlation of the initial parameters.
    identified : dict of Identifiability
    profiles : dict of Profile
    baselines : dict
        See :func:`fitting.evaluate.structural_baselines`.
    held_out : dict or None
        Scores on pairs that the fit has not seen, and baselines fitted and scored on the same pairs.
    views : dict
        For each other view: mean and spread of the score, and baselines fitted to the target and scored there.
    nulls : dict
        See :func:`fitting.evaluate.delay_nulls`.
    surrogates : dict of SurrogateTest
        By kind.
    ceiling : Ceiling or None
    group_ceiling : (float, float) or None
        See :func:`fitting.evaluate.subject_ceiling`, where there are several subjects.
    found_again : dict of arrays (recovery, ...)
        Parameters fitted to synthetic recordings of the fitted model.
    notes : list of str
    """

    fresh: SeedScores
    initial: float
    identified: dict[str, Identifiability]
    profiles: dict[str, Profile]
    baselines: dict[str, float]
    held_out: dict[str, Any] | None = None
    views: Mapping[str, dict[str, Any]] = MappingProxyType({})
    nulls: Mapping[str, float] = MappingProxyType({})
    surrogates: Mapping[str, SurrogateTest] = MappingProxyType({})
    ceiling: Ceiling | None = None
    group_ceiling: tuple[float, float] | None = None
    found_again: Mapping[str, np.ndarray] = MappingProxyType({})
    notes: Sequence[str] = ()


def evaluate(
    problem: Problem,
    result: FitResult,
    connectome: xr.Dataset,
    settings: EvaluationSettings | None = None,
    *,
    key,
    response: ResponseProblem | None = None,
    recordings: Sequence[xr.DataArray] = (),
    views: Mapping[str, View] | None = None,
    refit: Callable[[Problem], Mapping[str, Any]] | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Evaluation:
    """Score a fitted model on fresh noise, beside baselines, nulls and the noise ceiling.

    Parameters
    ----------
    problem : Problem
        That simulates.
    result : FitResult
    connectome : Dataset
        Of the problem's network.
    settings : EvaluationSettings, optional
    key : PRNG key
        Must not have been used in the fit.
    response : ResponseProblem, optional
        The problem by linear response, if that was fitted.
    recordings : sequence of DataArray, optional
        What the target is made of; without them, there is no noise ceiling.
    views : mapping, optional
        Other connectivities to score the same simulations on.
    refit : callable, optional
        How the fit was made, from a problem to fitted values; needed for recoveries.
    on_progress : callable, optional
        Called with a stage, the number of parts of it that are done, and of all.

    Returns
    -------
    Evaluation
    """
    settings, views = settings or EvaluationSettings(), dict(views or {})
    report = on_progress or (lambda stage, done, total: None)
    fresh_key, initial_key, check_key, null_key, surrogate_key, profile_key, again_key = jax.random.split(key, 7)
    fitted, duration, target = result.fitted, settings.duration, problem.target
    solved = response if response is not None else problem

    fresh = fresh_seeds(
        problem,
        fitted,
        fresh_key,
        settings.fresh_seeds,
        duration,
        lambda done: report("fresh noise", done, settings.fresh_seeds),
        views,
    )
    initial = float("nan")
    if settings.initial_seeds:
        initial = fresh_seeds(
            problem,
            result.initial,
            initial_key,
            settings.initial_seeds,
            duration,
            lambda done: report("initial parameters", done, settings.initial_seeds),
        ).mean

    identified: dict[str, Identifiability] = {}
    profiles: dict[str, Profile] = {}
    if response is not None:
        point = response.parameters.point(fitted)
        if settings.profile_points:
            profiles = profile_likelihood(
                response,
                point,
                points=settings.profile_points,
                steps=settings.profile_steps,
                on_fit=partial(report, "profile likelihood"),
            )
            identified = {name: profile.identifiability for name, profile in profiles.items()}
        else:
            identified = response_information(response, point)
    elif settings.identifiability_seeds:
        identified = identifiability(
            problem,
            result.point,
            check_key,
            settings.identifiability_seeds,
            on_evaluation=partial(report, "identifiability"),
        )
        if settings.loss_profile_points:
            for p in problem.parameters.free:
                if not p.per_region:
                    profiles[p.name] = profile_loss(
                        problem,
                        result.point,
                        p.name,
                        profile_key,
                        settings.loss_profile_points,
                        on_fit=partial(report, f"profile of {p.name}"),
                    )

    nulls, surrogates = {}, {}
    if settings.null_seeds:
        report("delays", 0, 1)
        nulls = delay_nulls(solved, fitted, null_key, settings.null_seeds, duration)
        report("delays", 1, 1)
    notes: list[str] = []
    if settings.surrogates:
        for kind in ("rewired", "distance_preserving"):
            seed = int(jax.random.randint(surrogate_key, (), 0, 2**31 - 1))
            try:
                made = surrogate_connectomes(connectome, kind, settings.surrogates, seed)
            except InputError as error:
                notes.append(f"No {kind.replace('_', ' ')} surrogates: {error}.")
                continue
            stage = f"{kind.replace('_', ' ')} surrogates"
            surrogates[kind] = surrogate_test(solved, fitted, made, surrogate_key, partial(report, stage))

    found_again: Mapping[str, np.ndarray] = {}
    if settings.recoveries:
        if refit is None:
            raise InputError("recoveries fit again, so they need to be told how; see the argument refit")
        labels = connectome["target"].values.tolist()
        found_again = refit_synthetic(
            problem, fitted, labels, refit, again_key, settings.recoveries, on_fit=partial(report, "recovery")
        )

    held_out = None
    responded = jax.jit(response.respond)(fitted) if response is not None else None
    if target.held_out is not None:
        held_out = _mean_and_sd(fresh.held_out)
        if responded is not None:
            held_out["response"] = float(fc_correlation(responded[0], target.fc, target.held_out))
        held_out["baselines"] = held_out_baselines(connectome, target.fc, target.pairs)
    every = ~np.eye(problem.network.regions, dtype=bool)
    seen = target.pairs if target.pairs is not None else every
    viewed = {}
    for name, view in views.items():
        viewed[name] = _mean_and_sd(fresh.views[name])
        if view.fc is not target.fc:
            viewed[name]["baselines"] = held_out_baselines(connectome, target.fc, seen, view.fc)
    ceiling = split_half_ceiling(recordings, problem.observation) if recordings else None
    if recordings and ceiling is None:
        notes.append("The noise ceiling is unknown: halves of the recording are too short, or do not agree at all.")
    if not recordings:
        notes.append("The noise ceiling is unknown: a matrix alone does not tell how noisy it is.")
    if responded is not None:
        notes += _stability(problem, fitted, float(responded[1].max()))
    return Evaluation(
        fresh,
        initial,
        identified,
        profiles,
        structural_baselines(connectome, target.fc),
        held_out,
        viewed,
        nulls,
        surrogates,
        ceiling,
        _group_ceiling(recordings, problem.observation),
        found_again,
        notes,
    )


def _group_ceiling(recordings: Sequence[xr.DataArray], observation) -> tuple[float, float] | None:
    subjects: dict[str, list[xr.DataArray]] = {}
    for recording in recordings:
        subjects.setdefault(str(recording.attrs.get("subject", "")), []).append(recording)
    if len(subjects) < 2:
        return None
    objective = Objective(spectrum=0.0)
    labels = recordings[0]["region"].values.tolist()
    return subject_ceiling(
        {
            subject: fc_target(np.asarray(objective.target(own, observation).fc), labels)
            for subject, own in subjects.items()
        }
    )


def _mean_and_sd(scores) -> dict[str, Any]:
    return {"r": float(np.mean(scores)), "sd": float(np.std(scores, ddof=1)) if len(scores) > 1 else None}


def _stability(problem: Problem, fitted, slowest: float) -> list[str]:
    """What is to be known about the steady state that linear response describes."""
    unstable = unstable_roots(linearize(problem.network, fitted, dt=problem.dt))
    if unstable:
        return [f"The steady state is unstable ({unstable} roots): linear response does not hold at these parameters."]
    notes = [f"Linear response: the slowest mode decays at {-slowest:.1f} /s."]
    away = departure(problem.network, fitted, dt=problem.dt)
    if away > NEAR:
        where = "steady state" if problem.start == "steady" else "initial values, see simulation.start"
        notes.append(
            f"There is more than one attractor: from the node's initial values, the network without noise comes to be "
            f"{away:.2g} away from the steady state that linear response describes. Simulations start at the {where}."
        )
    return notes


def orthogonalization_views(problem: Problem) -> dict[str, View]:
    """The same target with simulations orthogonalised and not: whichever the problem does not do.

    Parameters
    ----------
    problem : Problem

    Returns
    -------
    dict of View
    """
    observation = problem.observation
    other = not observation.orthogonalizes_simulation
    name = "simulation orthogonalised" if other else "simulation not orthogonalised"
    return {name: View(replace(observation, orthogonalize_simulation=other), problem.target.fc)}
