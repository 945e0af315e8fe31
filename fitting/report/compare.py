"""Several runs side by side: what differs between them, and how well each does."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from fitting.errors import InputError
from fitting.report.summary import Summary

#: Written when a run begins, and when it has ended.
BEGUN, ENDED = "run.json", "summary.json"


def find_runs(places: Sequence[Path]) -> list[Path]:
    """Folders of runs: the places themselves, or whatever lies below them, in order.

    Parameters
    ----------
    places : sequence of Path

    Returns
    -------
    list of Path

    Raises
    ------
    InputError
        If a place does not exist or holds no run.
    """
    folders: list[Path] = []
    for place in places:
        if not place.is_dir():
            raise InputError(f"there is no folder {place}")
        runs = sorted({file.parent for name in (BEGUN, ENDED) for file in place.rglob(name)}, key=_natural)
        if not runs:
            raise InputError(f"{place} holds no run: neither {BEGUN} nor {ENDED} lies in it or below it")
        folders += [run for run in runs if run not in folders]
    return folders


def _natural(path: Path):
    """Sort 2 before 10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in path.parts]


def read_runs(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """One row per run: settings that differ between runs, status, scores and seconds.

    Parameters
    ----------
    folders : sequence of Path
        See :func:`find_runs`.

    Returns
    -------
    list of dict
        ``run``, the differing settings by their dotted names, ``status`` (``"not finished"`` where a run has no
        summary), ``r`` (of the mean FC) and its interval ``r_low`` and ``r_high``, ``single_seed`` and ``sd`` over
        seeds, ``held_out``, ``best_baseline``, ``seconds``, and each fitted global parameter.
    """
    configs, rows = [], []
    for folder in folders:
        configs.append(_flat(_read(folder / BEGUN).get("config", {})))
        rows.append({"run": str(folder)} | _scores(folder / ENDED))
    known = [config for config in configs if config]
    names = sorted({name for config in known for name in config if not name.startswith(("run", "resume"))})
    differ = [name for name in names if len({json.dumps(config.get(name)) for config in known}) > 1]
    return [
        {"run": row.pop("run")} | {name: config.get(name) for name in differ} | row
        for row, config in zip(rows, configs, strict=True)
    ]


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"{file} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{file} is damaged: it does not hold what a run writes")
    return content


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _scores(file: Path) -> dict[str, Any]:
    summary = _read(file)
    if not summary:
        return {"status": "not finished", "r": None, "sd": None}
    if "fc_correlation" not in summary:
        return {"status": summary.get("status", "failed"), "r": None, "sd": None, "note": summary.get("note", "")}
    typed = Summary.read(file)
    scores, best = typed.fc_correlation, max(filter(None, typed.baselines.values()), default=None)
    # Recordings that were held out (of people, runs or times) are views.
    unseen = [view.r for name, view in scores.views.items() if name.startswith("held out")]
    low, high = scores.mean_fc.interval or (None, None)
    row = {
        "status": typed.status,
        "r": scores.mean_fc.r,
        "r_low": low,
        "r_high": high,
        "single_seed": scores.fresh_seeds.mean,
        "sd": scores.fresh_seeds.sd,
        "held_out": scores.held_out.r if scores.held_out else next(iter(unseen), None),
        "best_baseline": best,
        "seconds": typed.wall_seconds,
    }
    return row | {name: p.fitted for name, p in typed.parameters.items() if not isinstance(p.fitted, list)}


def comparison_table(rows: Sequence[Mapping[str, Any]], width: int | None = None) -> Table:
    """The rows of :func:`read_runs` for the terminal, the best run first.

    Parameters
    ----------
    rows : sequence of mappings
    width : int, optional
        Characters of a line; those of the terminal unless given. What does not fit is left to the CSV file.

    Returns
    -------
    rich.table.Table
    """
    table = Table(title="Runs", title_justify="left", caption_justify="left")
    ordered = sorted(rows, key=lambda row: -2.0 if row["r"] is None else row["r"], reverse=True)
    above = os.path.commonpath([Path(row["run"]).parent for row in rows]) if rows else ""
    columns: dict[str, list[str]] = {"run": [os.path.relpath(row["run"], above) for row in ordered]}
    columns["r"] = [_text(row["r"]) + _span(row) for row in ordered]
    named = ("run", "r", "r_low", "r_high", "note")
    names = dict.fromkeys(name for row in rows for name in row if name not in named)
    settings = [name for name in names if "." in name]
    # Of many settings, those that are words say most about a run.
    words = [name for name in settings if len(settings) <= 4 or any(isinstance(row.get(name), str) for row in rows)]
    results = [name for name in names if name not in settings]
    titles, left_out = short_names([*named, *names]), []
    used = sum(_width(title, texts) for title, texts in columns.items())
    for name in [*words, "status", "held_out", *results, *(name for name in settings if name not in words)]:
        if name not in names or titles[name] in columns:
            continue
        title, texts = titles[name], [_text(row.get(name)) for row in ordered]
        if set(texts) == {"-"}:
            continue
        if used + _width(title, texts) > (width or shutil.get_terminal_size().columns) - 1:
            left_out.append(title)
            continue
        columns[title] = texts
        used += _width(title, texts)
    for title in columns:
        table.add_column(title, overflow="fold")
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    notes = [f"{name}: {row['note']}" for name, row in zip(columns["run"], ordered, strict=True) if row.get("note")]
    rest = [f"In the CSV file besides: {', '.join(left_out)}."] if left_out else []
    table.caption = "\n".join(rest + notes) or None
    return table


def short_names(names: Sequence[str]) -> dict[str, str]:
    """The last words of every dotted name: one, or as many as no other name ends with.

    Examples
    --------
    >>> from fitting.report.compare import short_names
    >>> list(short_names(["seed", "data.seed", "k.value", "speed.value", "fit.steps"]).values())
    ['seed', 'data.seed', 'k.value', 'speed.value', 'steps']
    """

    def short(name: str) -> str:
        words = name.split(".")
        ends = [".".join(words[first:]) for first in range(len(words) - 1, 0, -1)]
        others = [f".{other}" for other in names if other != name]
        return next((end for end in ends if not any(other.endswith(f".{end}") for other in others)), name)

    return {name: short(name) for name in names}


def _span(row: Mapping[str, Any]) -> str:
    return "" if row.get("r_low") is None else f" ({row['r_low']:.3f} to {row['r_high']:.3f})"


def _width(title: str, texts: Sequence[str]) -> int:
    """Characters that a column takes, its frame included."""
    return max(len(title), *map(len, texts)) + 3


def _text(value) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path):
    """The rows of :func:`read_runs` as a CSV file."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
