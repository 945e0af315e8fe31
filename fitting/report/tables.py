"""A summary as tables: for the terminal and the page."""

from __future__ import annotations

import numpy as np
from rich.console import Group
from rich.table import Table

from fitting.evaluate.nulls import KINDS
from fitting.report.summary import BASELINE_NAMES, Summary, SurrogateSummary, headline

#: Times its lower end by which the upper end of an interval makes a parameter known roughly.
ROUGH = 3.0


def _show(value) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return f"{np.mean(value):.4g} ({np.min(value):.3g} to {np.max(value):.3g})"
    return f"{value:.4g}"


def _score(value, sd=None) -> str:
    if value is None or not np.isfinite(value):
        return "-"
    return f"{value:.3f}" + (f" ± {sd:.3f}" if sd is not None else "")


def table(summary: Summary) -> Group:
    """The final tables for the terminal: parameters, and scores beside the baselines."""
    fitted = Table(title="Parameters", title_justify="left")
    head, *rows = parameter_rows(summary)
    for column in head:
        fitted.add_column(column)
    for row in rows:
        fitted.add_row(*row)
    scores = Table(title="FC correlation with the target", title_justify="left")
    scores.add_column("predictor")
    scores.add_column("r", justify="right")
    for section in score_rows(summary):
        for name, value in section:
            scores.add_row(name, value)
        scores.add_section()
    lines = [headline(summary)]
    lines += [f"{n}: not identifiable. {p.reason}." for n, p in summary.parameters.items() if p.identifiable is False]
    if summary.search:
        lines.append(
            f"Search: {summary.search.evaluations} evaluations in {summary.search.seconds:.0f} s; best loss "
            f"{_score(summary.search.candidates[0].loss)}."
        )
    if summary.gradients:
        lines.append(f"Gradients: {summary.gradients}.")
    lines += summary.notes
    compiling = f", {summary.compile_seconds:.0f} s of it compiling" if summary.compile_seconds else ""
    more = " (all that it may take)" if summary.status == "max_steps" else ""
    lines.append(
        f"Status: {summary.status} after {summary.steps} steps{more}, {summary.wall_seconds:.0f} s in all{compiling}."
    )
    return Group(fitted, scores, *lines)


def parameter_rows(summary: Summary) -> list[list[str]]:
    """Every free parameter as a row of text, the head first."""
    rows = [["parameter", "initial", "fitted", "true", "unit", "95 % interval", "identifiable"]]
    for name, p in summary.parameters.items():
        interval = f"{p.interval[0]:.3g} to {p.interval[1]:.3g}" if p.interval else "-"
        answer = {True: "yes", False: "not identifiable", None: "not measured"}[p.identifiable]
        if p.identifiable and p.interval and 0 < ROUGH * p.interval[0] < p.interval[1]:
            answer = "roughly"
        unit = "" if p.unit == "1" else p.unit
        rows.append([name, _show(p.initial), _show(p.fitted), _show(p.true), unit, interval, answer])
    return rows


def _baselines(values, words: str = "", leaks=None) -> list[tuple[str, str]]:
    return [
        (f"baseline{words}: {BASELINE_NAMES.get(name, name)}", _score(r) + _leak((leaks or {}).get(name)))
        for name, r in values.items()
    ]


def _interval(interval) -> str:
    if not interval or interval[0] is None:
        return ""
    low, high = interval
    return f" (from {low:.3f})" if high is None else f" ({low:.3f} to {high:.3f})"


def _leak(leak) -> str:
    return "" if leak is None else f" (leak {leak:.3f})"


def _surrogates(kind: str, test: SurrogateSummary) -> tuple[str, str]:
    lost = f", {test.without_score} without a steady state" if test.without_score else ""
    words = f"{test.n} {KINDS.get(kind, kind)}"
    if test.refitted:
        return f"fitted like the real one: {words} (p = {test.p:.2g}{lost})", _score(test.mean, test.sd)
    return f"same parameters: {words}{lost}", _score(test.mean, test.sd)


def score_rows(summary: Summary) -> list[list[tuple[str, str]]]:
    """Every score beside what it is worth, in sections, as text: for tables."""
    scores = summary.fc_correlation
    fresh, mean, level = scores.fresh_seeds, scores.mean_fc, scores.level
    noise = "both sides" if scores.reliability.data else "the model"
    known = [
        (f"single seeds of {fresh.seconds:g} s" if fresh.seconds else "single seeds", _score(fresh.mean, fresh.sd)),
        ("the best that single seeds can reach", _score(fresh.attainable)),
    ]
    sections = [
        [
            (f"fitted model, mean FC of {fresh.n} fresh seeds", _score(mean.r) + _interval(mean.interval)),
            (
                f"the same without the noise of {noise}",
                _score(scores.corrected.r) + _interval(scores.corrected.interval),
            ),
            *(known if fresh.n > 1 else []),
            ("initial parameters, mean FC", _score(scores.initial)),
            ("last training steps", _score(scores.training)),
        ],
        [
            ("level: slope of the model on the target", _show(level.slope)),
            ("mean FC of the model, of the target", f"{_show(level.model)}, {_show(level.target)}"),
            ("concordance", _score(level.concordance)),
        ],
    ]
    if summary.group_ceiling:
        low, high = summary.group_ceiling
        sections[0].append(("one subject with the mean of the others; of all", f"{low:.3f} to {high:.3f}"))
    held_out = scores.held_out
    if held_out:
        rows = [
            (f"held out ({held_out.split}): as fitted", _score(held_out.own) + _leak(held_out.leak)),
            ("held out: mean FC of fresh seeds", _score(held_out.r)),
        ]
        sections.append(rows + _baselines(held_out.baselines, ", held out", held_out.leaks))
    for name, view in scores.views.items():
        rows = [(f"{name}: single seeds", _score(view.r, view.sd))]
        sections.append(rows + _baselines(view.baselines, f", {name}"))
    nulls = [(f"same parameters: {name.replace('_', ' ')}", _score(r)) for name, r in summary.nulls.items()]
    nulls += [_surrogates(kind, test) for kind, test in summary.surrogates.items()]
    return [section for section in (*sections, nulls, _baselines(summary.baselines)) if section]
