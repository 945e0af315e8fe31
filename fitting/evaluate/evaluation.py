"""Everything that is asked of a fitted model, in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from fitting.errors import InputError
from fitting.evaluate.agreement import agreement
from fitting.evaluate.baselines import held_out_baselines, structural_baselines
from fitting.evaluate.identifiability import LossProfile, identifiability, profile_loss
from fitting.evaluate.leak import chance_variance, leak_cost, leak_of_baselines, leak_of_fit
from fitting.evaluate.likelihood import NotFiniteError, fisher_information, profile_likelihood
from fitting.evaluate.nulls import (
    ALIKE,
    KINDS,
    SURROGATES,
    SurrogateTest,
    delay_nulls,
    likeness,
    surrogate_problems,
    surrogate_sensitivity,
    surrogate_test,
)
from fitting.evaluate.recovery import refit_synthetic
from fitting.evaluate.reliability import Ceiling, group_ceiling, split_half_ceiling
from fitting.evaluate.scores import SeedScores, View, scorer
from fitting.evaluate.uncertainty import Identifiability, Profile
from fitting.optimize import Fit, Problem, stage_key
from fitting.predict import Cost, Predictor
from fitting.progress import Reporter, silent


@dataclass(frozen=True)
class EvaluationSettings:
    """How much of an evaluation is done; zero leaves a part out.

    Parameters
    ----------
    fresh_seeds, initial_seeds : int
        Noise seeds that score the fitted and the initial parameters.
    identifiability_seeds : int
        Noise seeds of :func:`fitting.evaluate.identifiability` (noisy predictors).
    profile_points, profile_steps : int
        Of each profile likelihood (predictors without noise): 9 are enough, and take longer than the fit. Without any,
        intervals follow from the Fisher information, which is known from the curvature at the fitted point.
    loss_profile_points : int
        Of the profile of the loss of every global parameter (noisy predictors; takes long).
    null_seeds : int
        Noise seeds that score the model without delays, with one delay, and on surrogate connectomes.
    surrogates : int
        Surrogate connectomes of each kind that the fitted parameters are scored on: sensitivity.
    refitted_surrogates : int
        Surrogate connectomes of each kind that are fitted like the real one: significance. Each takes as long as the
        fit did.
    refitted_maps : int
        Draws of random maps, as smooth as those that parameters follow, that are fitted like them.
    refitted_mixing : int
        Draws of the observation's mixing matrix, its regions in random order, that are fitted like it.
    recoveries : int
        Synthetic recordings of the fitted model that are fitted again; each takes as long as the fit did.
    leaks : int
        Data sets of independent signals that the baselines of held-out pairs are fitted to.
    leak_fits : int
        Data sets of independent signals that the model is fitted to; each takes as long as the fit did.
    """

    fresh_seeds: int = 10
    initial_seeds: int = 2
    identifiability_seeds: int = 8
    profile_points: int = 0
    profile_steps: int = 30
    loss_profile_points: int = 0
    null_seeds: int = 1
    surrogates: int = 0
    refitted_surrogates: int = 0
    refitted_maps: int = 0
    refitted_mixing: int = 0
    recoveries: int = 0
    leaks: int = 5
    leak_fits: int = 0

    def __post_init__(self):
        for name, value in vars(self).items():
            if value < (1 if name == "fresh_seeds" else 0):
                zero = "zero or " if name == "fresh_seeds" else ""
                raise InputError(f"{name} must not be {zero}negative; got {value:g}")

    @property
    def refitted(self) -> dict[str, int]:
        """How many surrogates of each kind are fitted (:func:`fitting.evaluate.surrogate_problems`)."""
        every = dict.fromkeys(SURROGATES, self.refitted_surrogates)
        return every | {"random_maps": self.refitted_maps, "random_mixing": self.refitted_mixing}

    @property
    def refits(self) -> int:
        """Fits like the real one that the evaluation makes."""
        return sum(self.refitted.values()) + self.recoveries + self.leak_fits

    def cost(self, problem: Problem, predictor: Predictor, measured: bool = False) -> Cost:
        """Seconds and bytes on one device: of a fit of this problem that is verified by a predictor, without refits.

        ``measured`` tells whether the fit itself measures what intervals follow from.
        """
        fresh, own = predictor.cost(), problem.predictor.cost()
        count = len(problem.parameters.shared)
        runs = 0 if measured else (1 + 2 * count + count * (count - 1)) * self.identifiability_seeds
        if not problem.predictor.noisy:
            runs = 3 * count * self.profile_points * self.profile_steps
        runs += self.null_seeds * (3 + 2 * (self.surrogates + 1) * bool(self.surrogates))
        leaks = sum(leak_cost(problem.target, problem.observation, n) for n in (self.leaks, self.leak_fits))
        return Cost((self.fresh_seeds + self.initial_seeds) * fresh.seconds + runs * own.seconds + leaks, fresh.bytes)


class HeldOut(NamedTuple):
    """Scores on pairs that a fit has not seen.

    Attributes
    ----------
    r : float
        Of the mean connectivity over fresh seeds.
    seeds : array (seed,)
        Of single seeds.
    own : float
        Of the predictor that was fitted.
    baselines : dict
        Fitted and scored on the same pairs.
    leak : float or None
        Score of the same fit on independent signals: pairs held out of one recording share its noise.
    leaks : dict
        The same, of the baselines.
    """

    r: float
    seeds: np.ndarray
    own: float
    baselines: dict[str, float]
    leak: float | None
    leaks: dict[str, float]


class ViewScore(NamedTuple):
    """Scores of single seeds in a view, and baselines that were fitted to the target and scored there."""

    seeds: np.ndarray
    baselines: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """What is known about a fitted model.

    Attributes
    ----------
    fresh : SeedScores
        Fitted parameters on noise that the fit has not seen.
    initial : SeedScores or None
        Of the initial parameters.
    baselines : dict
        See :func:`fitting.evaluate.structural_baselines`.
    identified : dict of Identifiability
    profiles : dict of Profile
    held_out : HeldOut or None
    views : dict of ViewScore
    nulls : dict
        See :func:`fitting.evaluate.delay_nulls`.
    surrogates : dict of SurrogateTest
        By kind.
    ceiling : Ceiling or None
        How reliable the target is.
    group_ceiling : (float, float) or None
        See :func:`fitting.evaluate.subject_ceiling`, where there are several subjects.
    found_again : dict of arrays (recovery, ...)
        Parameters fitted to synthetic recordings of the fitted model.
    notes : list of str
    """

    fresh: SeedScores
    initial: SeedScores | None = None
    baselines: Mapping[str, float] = field(default_factory=dict)
    identified: Mapping[str, Identifiability] = field(default_factory=dict)
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    held_out: HeldOut | None = None
    views: Mapping[str, ViewScore] = field(default_factory=dict)
    nulls: Mapping[str, float] = field(default_factory=dict)
    surrogates: Mapping[str, SurrogateTest] = field(default_factory=dict)
    ceiling: Ceiling | None = None
    group_ceiling: tuple[float, float] | None = None
    found_again: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def __str__(self):
        agreement, (low, high) = self.fresh.agreement(), self.fresh.interval()
        return (
            f"r of the mean FC over {len(self.fresh.matrices)} seeds {agreement.r:.3f} ({low:.3f} to {high:.3f}), of "
            f"single seeds {self.fresh.mean:.3f}; best baseline {max(self.baselines.values()):.3f}"
        )


def evaluate(
    fit: Fit,
    settings: EvaluationSettings | None = None,
    *,
    key,
    predictor: Predictor | None = None,
    recordings: Sequence[xr.DataArray] = (),
    views: Mapping[str, View] | None = None,
    refit: Callable[[Problem], Mapping[str, Any]] | None = None,
    progress: Reporter = silent,
) -> Evaluation:
    """Score a fitted model on fresh noise, beside baselines, nulls and the noise of both sides.

    Parameters
    ----------
    fit : Fit
    settings : EvaluationSettings, optional
    key : PRNG key
        Must not have been used in the fit.
    predictor : Predictor, optional
        What verifies the fit, such as simulations of a fit by linear response; the one that was fitted unless given.
    recordings : sequence of DataArray, optional
        What the target is made of; without them, the noise of the target is unknown.
    views : mapping, optional
        Other connectivities to score the same activity on.
    refit : callable, optional
        How the fit was made, from a problem to the unconstrained point that is fitted; needed for whatever is fitted
        again. :meth:`fitting.optimize.Store.kept` makes of it one that loses no more than one fit to a kill.
    progress : callable, optional

    Returns
    -------
    Evaluation
    """
    settings, views = settings or EvaluationSettings(), dict(views or {})
    if refit is None and settings.refits:
        raise InputError("recoveries, refitted surrogates and leaks fit again, so they need the argument refit")
    verified = _verified(fit, fit.problem.predictor if predictor is None else predictor)
    connectome, target = verified.network.connectome, verified.target
    scores_of = scorer(verified, views)
    fresh = scores_of(fit.fitted, stage_key(key, "fresh"), settings.fresh_seeds, "fresh noise", progress)
    initial = None
    if settings.initial_seeds:
        initial_key, stage = stage_key(key, "initial"), "initial parameters"
        initial = scores_of(fit.initial, initial_key, settings.initial_seeds, stage, progress)
    identified, profiles, missing = intervals(fit, settings, stage_key(key, "uncertainty"), progress)
    nulls, surrogates, notes = _nulls(fit, settings, refit, stage_key(key, "nulls"), progress)
    found_again: Mapping[str, np.ndarray] = {}
    if settings.recoveries and refit:
        recovery_key, dt = stage_key(key, "recovery"), fit.declared.predictor.dt
        found_again = refit_synthetic(
            fit.declared, fit.fitted, refit, recovery_key, dt=dt, count=settings.recoveries, progress=progress
        )
    every = ~np.eye(verified.network.regions, dtype=bool)
    seen = target.pairs if target.pairs is not None else every
    scored = {
        name: ViewScore(
            fresh.views[name],
            {} if view.fc is target.fc else held_out_baselines(connectome, target.fc, seen, view.fc),
        )
        for name, view in views.items()
    }
    ceiling = split_half_ceiling(recordings, verified.observation, progress) if recordings else None
    if ceiling is None:
        notes.append(_noise(verified, bool(recordings), stage_key(key, "chance")))
    return Evaluation(
        fresh,
        initial,
        structural_baselines(connectome, target.fc),
        identified,
        profiles,
        _held_out(fit, fresh, connectome, settings, refit, stage_key(key, "leak"), progress),
        scored,
        nulls,
        surrogates,
        ceiling,
        group_ceiling(recordings, verified.observation, progress),
        found_again,
        [*missing, *notes, *fit.problem.predictor.remarks(fit.fitted)],
    )


def _noise(problem: Problem, recorded: bool, key) -> str:
    """What there is to say of a target's noise, where no halves of a recording tell."""
    seconds = problem.target.seconds
    if recorded:
        return "The noise of the target is unknown: halves of the recording are too short, or do not agree at all."
    if not np.isfinite(seconds):
        return "The noise of the target is unknown: a matrix alone does not tell, the length of its recording would."
    people, share = problem.target.people, chance_variance(problem.target, problem.observation, key)
    length = f"{seconds:g} s" if people == 1 else f"{people} people, {seconds / people:g} s each"
    most = np.sqrt(max(0.0, 1 - share))
    alike = "processed alike"
    if not problem.observation.low_pass:
        alike += " (without a low-pass on envelopes, which the data may have had)"
    left = f"no model without that noise can be expected to correlate with it by more than about {most:.2f}"
    return (
        f"By chance alone, connectivity of independent signals of {length}, {alike}, has {share:.0%} of "
        f"the target's variance: {left if share < 1 else 'there may be nothing else in it'}."
    )


def _verified(fit: Fit, predictor: Predictor) -> Problem:
    """The fit's problem without anything free: delays have room for the fitted and the initial speed, and no others.

    Room for faster signals costs time at every step of a simulation. Rounded outwards, so that fits that end with about
    the same speed share a compiled program.
    """
    network = fit.problem.network
    every = (values.get("signal_speed", network.default("signal_speed")) for values in (fit.fitted, fit.initial))
    steps = 2 * np.log2(np.concatenate([np.ravel(speed) for speed in every]))
    low, high = network.bounds.speed
    # Where a speed is not a number, the bounds stay.
    network = network.for_speeds(
        float(np.fmax(low, 2 ** (np.floor(steps.min()) / 2))), float(np.fmin(high, 2 ** (np.ceil(steps.max()) / 2)))
    )
    return replace(fit.problem, predictor=replace(predictor, network=network), parameters=())


def intervals(
    fit: Fit, settings: EvaluationSettings, key, progress: Reporter = silent
) -> tuple[dict[str, Identifiability], dict[str, Profile], list[str]]:
    """What is known of each global parameter: on noise seeds, or by the likelihood where there is no noise.

    Parameters
    ----------
    fit : Fit
    settings : EvaluationSettings
    key : PRNG key
    progress : callable, optional

    Returns
    -------
    identified, profiles : dict
        By parameter.
    notes : list of str
        Why a profile is not there.
    """
    problem, point = fit.problem, fit.point
    if not problem.predictor.noisy:
        points, steps = settings.profile_points, settings.profile_steps
        try:
            if not points:
                return fisher_information(problem, point), {}, []
            profiles = profile_likelihood(problem, point, points=points, steps=steps, progress=progress)
            return {name: profile.identifiability for name, profile in profiles.items()}, profiles, []
        except NotFiniteError:
            nothing = Identifiability(False, "the prediction at the fitted point is not finite", None)
            return {p.name: nothing for p in problem.parameters.shared}, {}, []
    identified, profiles, notes = {}, {}, []
    if settings.identifiability_seeds:
        seeds = settings.identifiability_seeds
        identified = identifiability(problem, point, key, seeds, progress=progress, around=fit.around)
    if settings.loss_profile_points:
        how = LossProfile(points=settings.loss_profile_points)
        for p in problem.parameters.shared:
            try:
                profiles[p.name] = profile_loss(problem, point, p.name, stage_key(key, p.name), how, progress)
            except InputError as error:  # a loss without a minimum
                notes.append(f"There is no profile of {p.name}: {error}.")
                identified.setdefault(p.name, Identifiability(False, str(error), None))
    return identified, profiles, notes


def _nulls(fit: Fit, settings: EvaluationSettings, refit, key, progress):
    """Delays and connectomes destroyed: how the fitted parameters do there, and how parameters fitted there do."""
    nulls, surrogates, notes = {}, {}, []
    keys = jax.random.split(stage_key(key, "noise"), max(1, settings.null_seeds))
    if not fit.problem.predictor.noisy:
        keys = keys[:1]
    if settings.null_seeds:
        nulls = delay_nulls(fit.problem, fit.fitted, keys, progress)
    for kind, name in KINDS.items():
        count = settings.refitted[kind]
        kept = settings.surrogates if kind in SURROGATES and settings.null_seeds else 0
        if not (count or kept):
            continue
        seed = int(jax.random.randint(stage_key(key, kind), (), 0, 2**31 - 1))
        try:
            others = surrogate_problems(fit.declared, kind, count or kept, seed)
        except InputError as error:
            notes.append(f"No {name}: {error}.")
            continue
        connectomes = [other.network.connectome for other in others]
        if kind in SURROGATES and (alike := likeness(fit.problem.network.connectome, connectomes)) > ALIKE:
            notes.append(
                f"{name.capitalize()} are nearly the real one (weights correlate by {alike:.2f} on average): weights "
                "follow lengths, or few connections have another of their length. Scores like its score say little."
            )
        if count:
            surrogates[kind] = surrogate_test(fit.declared, fit.fitted, others, refit, keys, progress, name)
        else:
            surrogates[kind] = surrogate_sensitivity(fit.problem, fit.fitted, connectomes, keys, progress)
    return nulls, surrogates, notes


def _held_out(fit: Fit, fresh: SeedScores, connectome, settings, refit, key, progress) -> HeldOut | None:
    target, pairs = fit.problem.target, fit.problem.target.held_out
    if pairs is None:
        return None
    leak, leaks = None, {}
    if np.isfinite(target.seconds):
        if settings.leaks:
            leaks = leak_of_baselines(connectome, target, fit.problem.observation, key, settings.leaks, progress)
        if settings.leak_fits:
            leak = leak_of_fit(fit.declared, refit, key, settings.leak_fits, progress)
    predicted = np.asarray(fit.problem.predicted(fit.point, key).fc, float)
    return HeldOut(
        fresh.agreement(pairs).r,
        fresh.held_out if fresh.held_out is not None else np.zeros(0),
        agreement(predicted, fresh.target, pairs).r,
        held_out_baselines(connectome, target.fc, target.pairs),
        leak,
        leaks,
    )


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
