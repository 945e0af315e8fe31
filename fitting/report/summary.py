"""The numbers of a fit as one typed object, written as JSON and read again."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import jax
import numpy as np

from fitting.errors import InputError
from fitting.evaluate import Evaluation, HeldOut, SeedScores, SurrogateTest
from fitting.evaluate.uncertainty import with_unit
from fitting.optimize import Fit

PACKAGES = ("fitting", "jax", "jaxlib", "brainmass", "brainstate", "optax", "numpy", "scipy", "xarray")

#: How often the model's mean connectivity may exceed the target's, or fall short of it, before the first lines say so.
LEVEL = 2.0


@dataclass(frozen=True)
class ParameterSummary:
    """One free parameter; lists hold one value per region."""

    initial: Any
    fitted: Any
    unit: str = "1"
    true: float | None = None
    interval: list[float] | None = None
    identifiable: bool | None = None
    reason: str = "not measured"
    correlations: dict[str, float] = field(default_factory=dict)
    found_again: Any = None


@dataclass(frozen=True)
class MeanFC:
    """Correlation of the mean connectivity over all fresh seeds, with its 95 % interval over regions."""

    r: float | None
    interval: list[float] | None = None


@dataclass(frozen=True)
class Corrected:
    """Correlation without the noise of the model and, where it is known, of the target; and its square.

    ``interval`` is the 95 % interval of the correlation; its upper end is None where noise may explain all.
    """

    r: float | None
    share: float | None
    interval: list[float | None] | None = None


@dataclass(frozen=True)
class Reliability:
    """Correlation of two seeds of the model, and of two measurements of the target; None where it is unknown."""

    model: float | None
    data: float | None


@dataclass(frozen=True)
class Level:
    """Slope of the model's connectivity on the target's, the mean of each, and Lin's concordance."""

    slope: float | None
    model: float | None
    target: float | None
    concordance: float | None


@dataclass(frozen=True)
class FreshSeeds:
    """Scores of single seeds, and the best that a single seed of that length can reach."""

    mean: float | None
    sd: float | None
    n: int
    seconds: float | None
    attainable: float | None = None


@dataclass(frozen=True)
class HeldOutSummary:
    """See :class:`fitting.evaluate.HeldOut`; ``leak`` is what the same fit scores on independent signals."""

    split: str
    r: float | None
    sd: float | None
    own: float | None
    leak: float | None
    baselines: dict[str, Any]
    leaks: dict[str, Any]


@dataclass(frozen=True)
class ViewSummary:
    """Scores of single seeds in another view."""

    r: float | None
    sd: float | None
    baselines: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FCCorrelation:
    """Everything that compares connectivity."""

    fresh_seeds: FreshSeeds
    mean_fc: MeanFC
    corrected: Corrected
    reliability: Reliability
    level: Level
    initial: float | None = None
    training: float | None = None
    held_out: HeldOutSummary | None = None
    views: dict[str, ViewSummary] = field(default_factory=dict)


@dataclass(frozen=True)
class SurrogateSummary:
    """See :class:`fitting.evaluate.SurrogateTest`."""

    score: float | None
    mean: float | None
    sd: float | None
    n: int
    without_score: int
    refitted: bool
    p: float | None


@dataclass(frozen=True)
class CandidateSummary:
    """A candidate of the search, with the values of global parameters."""

    loss: float | None
    fc_correlation: float | None
    parameters: dict[str, float]


@dataclass(frozen=True)
class SearchSummary:
    """What the search came by, and what became of its candidates."""

    evaluations: int
    seconds: float
    candidates: list[CandidateSummary]
    winner: int = 0
    race: list[float | None] = field(default_factory=list)


@dataclass(frozen=True)
class Summary:
    """Everything a reader of a fit needs; :meth:`write` and :meth:`read` keep it as JSON."""

    status: str
    parameters: dict[str, ParameterSummary]
    fc_correlation: FCCorrelation
    baselines: dict[str, Any]
    wall_seconds: float
    nulls: dict[str, Any] = field(default_factory=dict)
    surrogates: dict[str, SurrogateSummary] = field(default_factory=dict)
    group_ceiling: list[float] | None = None
    compile_seconds: float = 0.0
    steps: int = 0
    chosen: str = ""
    bad_steps: int = 0
    search: SearchSummary | None = None
    gradients: str | None = None
    notes: list[str] = field(default_factory=list)
    seed: int = 0
    versions: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path):
        """As JSON, which has no NaN: numbers that are not finite become null."""
        text = json.dumps(_without_nan(dataclasses.asdict(self)), indent=2, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Summary:
        """What was written.

        Raises
        ------
        InputError
            If the file is missing or damaged.
        """
        try:
            return _typed(cls, json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise InputError(f"{path.parent} holds no finished fit: {path.name} is missing") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path} cannot be read: {error}") from None


def _typed(kind: Any, value: Any) -> Any:
    """A value from JSON as the dataclasses that its type names."""
    if value is None or kind is Any:
        return value
    arguments = get_args(kind)
    if get_origin(kind) in (types.UnionType, Union):
        return _typed(next(a for a in arguments if a is not type(None)), value)
    if get_origin(kind) is dict:
        return {name: _typed(arguments[1], v) for name, v in value.items()}
    if get_origin(kind) is list:
        return [_typed(arguments[0], v) for v in value]
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        known: Any = kind
        return known(**{name: _typed(hints[name], v) for name, v in value.items() if name in hints})
    return value


def _without_nan(value):
    if isinstance(value, dict):
        return {key: _without_nan(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def versions() -> dict[str, str]:
    """Versions of what decides the numbers, and the device they were computed on."""
    known = {name: importlib.metadata.version(name) for name in PACKAGES}
    return known | {"python": platform.python_version(), "device": jax.devices()[0].device_kind}


def _number(value) -> Any:
    return np.asarray(value, float).tolist()


def _spread(scores) -> float | None:
    return float(np.std(scores, ddof=1)) if len(scores) > 1 else None


def summarize(
    fit: Fit,
    evaluation: Evaluation,
    *,
    seed: int = 0,
    true: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
    wall_seconds: float | None = None,
    split: str = "",
) -> Summary:
    """Everything a reader of a fit needs.

    Parameters
    ----------
    fit : Fit
    evaluation : Evaluation
    seed : int
    true : mapping, optional
        True values where they are known.
    notes : sequence of str
        Sentences a reader must know.
    wall_seconds : float, optional
        Time of the whole job; of the fit alone unless given.
    split : str
        What was held out, in words.

    Returns
    -------
    Summary
    """
    history = fit.history
    good = history["fc_correlation"][history["finite"]][-10:] if history else np.zeros(0)
    baselines: dict[str, Any] = dict(evaluation.baselines)
    improvable = _improvable(fit, evaluation)
    return Summary(
        # Steps that no longer lower the loss are not enough: nothing nearby may lower it.
        "max_steps" if improvable and fit.status == "converged" else fit.status,
        _parameters(fit, evaluation, true or {}),
        _fc_correlation(evaluation, float(good.mean()) if len(good) else None, split),
        baselines,
        fit.seconds if wall_seconds is None else wall_seconds,
        dict(evaluation.nulls),
        {kind: _surrogates(test) for kind, test in evaluation.surrogates.items()},
        list(evaluation.group_ceiling) if evaluation.group_ceiling else None,
        fit.compile_seconds,
        len(history.get("loss", ())),
        fit.chosen,
        fit.bad_steps,
        _search(fit),
        fit.gradients.reason if fit.gradients else None,
        [*fit.notes, *improvable, *_doubts(fit, evaluation), *evaluation.notes, *notes],
        seed,
        versions(),
    )


def summarize_simulation(scores: SeedScores, baselines: Mapping[str, float], wall_seconds: float) -> Summary:
    """What a simulation that was not fitted scores, in the layout of :func:`summarize`.

    Parameters
    ----------
    scores : SeedScores
    baselines : mapping
        See :func:`fitting.evaluate.structural_baselines`.
    wall_seconds : float

    Returns
    -------
    Summary
    """
    evaluation = Evaluation(scores, baselines=baselines)
    status = "simulated" if np.isfinite(scores.mean) else "diverged"
    scored = _fc_correlation(evaluation, None, "")
    return Summary(status, {}, scored, dict(baselines), wall_seconds, versions=versions())


def _improvable(fit: Fit, evaluation: Evaluation) -> list[str]:
    """What to say where a change of a parameter alone lowers the loss beyond noise."""
    known, fitted = evaluation.identified, fit.reported(fit.point)
    changes = [
        f"{p.name} {float(fitted[p.name]):.3g} to {with_unit(p, better)}"
        for p in fit.problem.parameters.shared
        if p.name in known and (better := known[p.name].better) is not None
    ]
    if not changes:
        return []
    return [f"Not converged: a change of {', or of '.join(changes)} lowers the loss beyond noise. Take more steps."]


#: Correlation that simulations may lose against the closed form before a reader is told.
CONFIRMED = 0.1


def _doubts(fit: Fit, evaluation: Evaluation) -> list[str]:
    """What speaks against reading anything into the fitted parameters."""
    score, said = evaluation.fresh.agreement().r, []
    own, baselines = evaluation.nulls.get("as_fitted"), evaluation.baselines
    best = max(baselines, key=lambda name: baselines[name], default=None)
    if not fit.problem.predictor.noisy and own is not None and not score > own - CONFIRMED:
        said.append(
            f"Simulations do not confirm the fit: r {own:.3f} as fitted, without noise, and {score:.3f} by their mean "
            "FC. Longer simulations (evaluation.duration) or more seeds (evaluation.fresh_seeds) tell whether that is "
            "noise."
        )
    if best is not None and not score > baselines[best]:
        said.append(
            f"{best.replace('_', ' ').capitalize()} predicts the target better than the model (r "
            f"{baselines[best]:.3f}). Intervals of parameters assume that the model can be right."
        )
    return said


def _parameters(fit: Fit, evaluation: Evaluation, true: Mapping[str, float]) -> dict[str, ParameterSummary]:
    rows = {}
    initial, fitted = fit.reported(fit.start), fit.reported(fit.point)
    for p in fit.problem.parameters.free:
        known = evaluation.identified.get(p.name)
        again = evaluation.found_again.get(p.name)
        rows[p.name] = ParameterSummary(
            _number(initial[p.name]),
            _number(fitted[p.name]),
            p.unit,
            float(true[p.name]) if p.name in true else None,
            list(known.interval) if known and known.interval else None,
            known.identifiable if known else None,
            known.reason if known else "not measured",
            dict(known.correlations) if known else {},
            None if again is None else _number(again),
        )
    return rows


def _fc_correlation(evaluation: Evaluation, training: float | None, split: str) -> FCCorrelation:
    fresh, held_out = evaluation.fresh, evaluation.held_out
    agreement, count = fresh.agreement(), len(fresh.matrices)
    data = evaluation.ceiling.reliability if evaluation.ceiling else None
    corrected, model = fresh.corrected(data if data else 1.0), fresh.reliability
    attainable = float(np.sqrt(model * (data or 1.0))) if model > 0 else None
    interval = list(fresh.interval())
    seconds = fresh.seconds if np.isfinite(fresh.seconds) else None
    return FCCorrelation(
        FreshSeeds(fresh.mean, _spread(fresh.fc_correlation), count, seconds, attainable),
        MeanFC(agreement.r, interval if np.isfinite(interval).all() else None),
        Corrected(
            corrected, corrected * abs(corrected), [_finite(x) for x in fresh.corrected_interval(evaluation.ceiling)]
        ),
        Reliability(model, data),
        Level(agreement.slope, agreement.model, agreement.target, agreement.concordance),
        evaluation.initial.agreement().r if evaluation.initial else None,
        training,
        _held_out(held_out, split) if held_out else None,
        {
            name: ViewSummary(float(np.mean(view.seeds)), _spread(view.seeds), dict(view.baselines))
            for name, view in evaluation.views.items()
        },
    )


def _finite(x: float) -> float | None:
    return x if np.isfinite(x) else None


def _held_out(held_out: HeldOut, split: str) -> HeldOutSummary:
    spread = _spread(held_out.seeds)
    leaks = dict(held_out.leaks)
    return HeldOutSummary(split, held_out.r, spread, held_out.own, held_out.leak, dict(held_out.baselines), leaks)


def _surrogates(test: SurrogateTest) -> SurrogateSummary:
    scored = test.surrogates[np.isfinite(test.surrogates)]
    mean = float(np.mean(scored)) if len(scored) else None
    lost = len(test.surrogates) - len(scored)
    return SurrogateSummary(test.score, mean, _spread(scored), len(test.surrogates), lost, test.refitted, test.p)


def _search(fit: Fit) -> SearchSummary | None:
    if fit.search is None:
        return None
    shared = fit.problem.parameters.shared
    candidates = [
        CandidateSummary(c.loss, c.fc_correlation, {p.name: float(p.bounded(c.point[p.name])) for p in shared})
        for c in fit.search.candidates
    ]
    race = np.nanmin(fit.race.losses, axis=0).tolist() if fit.race is not None else []
    return SearchSummary(
        fit.search.evaluations, fit.search.seconds, candidates, fit.race.winner if fit.race else 0, race
    )


def headline(summary: Summary) -> str:
    """The sentences that a summary comes down to: how much the model explains, and what does so without it.

    Shares are of the variance that noise does not account for: the model's noise is taken out of its share, and the
    target's out of all, where it is known.
    """
    scores = summary.fc_correlation
    if scores.mean_fc.r is None or not np.isfinite(scores.mean_fc.r):
        return "The fitted model has no score: its predictions are not finite."
    data = scores.reliability.data

    def share(r):
        return f"{100 * max(r, 0.0) ** 2 / (data or 1.0):.0f} %"

    fresh, best = scores.fresh_seeds, max(summary.baselines, key=lambda name: summary.baselines[name] or 0.0)
    seeds = f"mean FC of {fresh.n} seeds" if fresh.n > 1 else "FC"
    words = f"The fitted model's {seeds} correlates with the target's by {scores.mean_fc.r:.3f}"
    if scores.mean_fc.interval:
        low, high = scores.mean_fc.interval
        words += f" ({low:.3f} to {high:.3f})"
    if scores.corrected.share is not None and np.isfinite(scores.corrected.share):
        of = "of the variance that can be explained" if data else "of the target's variance, its noise included"
        words += f": without noise the model explains {100 * max(scores.corrected.share, 0.0):.0f} %"
        words += f"{_range(scores.corrected.interval)} {of}"
    words += f"; fibre length alone explains {share(summary.baselines['minus_length'])}"
    if best != "minus_length":
        words += f", and the best predictor without a model, {BASELINE_NAMES.get(best, best)}, "
        words += share(summary.baselines[best])
    return " ".join([words + ".", *_warnings(summary)])


def _range(interval) -> str:
    """The interval of a correlation as shares of the variance."""
    if not interval or interval[0] is None:
        return ""
    low, high = (None if r is None else 100 * max(r, 0.0) ** 2 for r in interval)
    return f" ({low:.0f} % at least)" if high is None else f" ({low:.0f} to {high:.0f} %)"


def _warnings(summary: Summary) -> list[str]:
    """What must be said in the first lines: a level that is far off, and what held-out pairs are worth."""
    scores, sentences = summary.fc_correlation, []
    level = scores.level
    if level.model is not None and level.target is not None and abs(level.target) > 1e-12:
        ratio = level.model / level.target
        if not 1 / LEVEL <= ratio <= LEVEL:
            sentences.append(
                f"The level is wrong: the model's mean FC is {level.model:.3g}, the target's {level.target:.3g} "
                f"(r does not see that; concordance {level.concordance:.2f})."
            )
    held_out = scores.held_out
    if held_out and held_out.r is not None:
        words = f"On held-out pairs ({held_out.split}) the model's r is {held_out.r:.3f}"
        leaks = [leak for leak in (held_out.leak, *held_out.leaks.values()) if leak is not None]
        if held_out.leak is not None:
            words += f", where the same fit to independent signals reaches {held_out.leak:.3f}"
        elif leaks:
            words += f", where predictors fitted to independent signals reach up to {max(leaks):.3f}"
        sentences.append(f"{words}. These pairs share the noise of the recording that was fitted.")
    return sentences


#: What baselines are called in tables and figures.
BASELINE_NAMES = {
    "structural_weights": "structural weights",
    "log_structural_weights": "log structural weights",
    "minus_length": "minus fibre length",
    "linear_regression": "regression on weights, log weights and length",
    "regression_on_maps": "regression on weights, length and maps",
    "spatial_autoregression": "spatial autoregression",
    "region_effects": "an effect per region",
    "rank_one": "a loading per region",
    "rank_one_and_constant": "a loading per region and a constant",
    "rank_two": "two loadings per region",
    "region_effects_and_geometry": "an effect per region, and geometry",
}
