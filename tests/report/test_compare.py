"""Runs side by side: every column says what it is of, and scores bring their own intervals."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fitting.evaluate import ViewScore
from fitting.report import comparison_table, read_runs
from fitting.report.compare import short_names


def test_names_are_as_short_as_tells_them_apart():
    names = ["r", "held_out", "data.held_out", "parameters.k.value", "parameters.sigma.value", "fit.steps"]
    expected = ["r", "held_out", "data.held_out", "k.value", "sigma.value", "steps"]
    assert list(short_names(names).values()) == expected


@pytest.fixture
def runs(results, tmp_path):
    """Two runs with other settings: one holds pairs out, the other one people."""
    held_out, views = results(held_out=True), {"held out (30 % of the subjects)": ViewScore(np.array([-0.2, -0.1]), {})}
    for number, made in enumerate((held_out, results(0.4, views=views))):
        folder = tmp_path / str(number)
        folder.mkdir()
        settings = {"data": {"held_out": 0.3 + number}, "parameters": {"k": {"value": number}, "sigma": {"value": 2}}}
        settings["parameters"]["sigma"]["value"] += number
        (folder / "run.json").write_text(json.dumps({"config": settings}))
        scores = made.summary.fc_correlation
        scores = replace(scores, mean_fc=replace(scores.mean_fc, interval=[0.1, 0.9]))
        replace(made.summary, fc_correlation=scores).write(folder / "summary.json")
    return read_runs([tmp_path / "0", tmp_path / "1"])


def test_a_row_has_what_was_held_out_whatever_it_was(runs):
    assert [row["held_out"] for row in runs] == [0.5, pytest.approx(-0.15)]
    assert [row["data.held_out"] for row in runs] == [0.3, 1.3]


def test_the_table_names_settings_in_full_where_others_end_alike(runs):
    table = comparison_table(runs, width=300)
    cells = {column.header: list(column.cells) for column in table.columns}
    assert cells["held_out"] == ["0.5", "-0.15"]
    assert cells["data.held_out"] == ["0.3", "1.3"]
    assert (cells["k.value"], cells["sigma.value"]) == (["0", "1"], ["2", "3"])
    # The interval of the score that it stands beside; that of single seeds has a column of its own.
    assert cells["r"][0].endswith("(0.100 to 0.900)")
    assert {"single_seed", "sd"} <= set(cells)
