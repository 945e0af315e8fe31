"""Summaries of fits that went well and of one that diverged."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from fitting.evaluate import SeedScores
from fitting.network import Network
from fitting.objective import Target
from fitting.optimize import FitResult, Parameter, Parameters
from fitting.report import draw, summarize, table, to_dataset, write_html

LABELS = ["A.L", "A.R", "B.L"]


def results(score, finite):
    rng = np.random.default_rng(0)
    fc = np.array([[0, 0.1, 0.2], [0.1, 0, 0.3], [0.2, 0.3, 0]])
    parameters = Parameters(
        [Parameter("k", 1.0, 0.1, 5.0), Parameter("drive", 0.6, 0.4, 0.8, per_region=True)],
        Network(np.ones((3, 3)), np.full((3, 3), 50.0)),
    )
    values = {"k": np.array(1.0), "drive": np.full(3, 0.6)}
    history = {name: np.full(4, score) for name in ("loss", "fc_correlation", "spectrum", "gradient_norm", "seconds")}
    history |= {"finite": np.full(4, finite), "parameter_k": np.ones(4), "parameter_drive": np.full((4, 3), 0.6)}
    status = "max_steps" if finite else "diverged"
    result = FitResult(status, values, values, values, history, "best step", 0 if finite else 4, 1.0, 2.0)
    fresh = SeedScores(np.full(3, score), np.full(3, score), fc * score, rng.standard_normal((20, 3)), 10.0)
    summary = summarize(result, parameters, {"k": 1.2}, score, fresh, {"structural_weights": 0.2}, {}, seed=0)
    return summary, to_dataset(result, Target(jnp.asarray(fc)), fresh, LABELS, 100.0)


@pytest.mark.parametrize(("score", "finite"), [(0.5, True), (float("nan"), False)])
def test_everything_can_be_written(score, finite, tmp_path):
    from rich.console import Console

    summary, data = results(score, finite)
    text = json.dumps(summary, allow_nan=False)  # no NaN in the file
    assert json.loads(text)["parameters"]["drive"]["fitted"] == [0.6] * 3
    console = Console(record=True, width=120)
    console.print(table(summary))
    shown = console.export_text()
    assert "structural weights" in shown
    assert ("0.5" if finite else "diverged") in shown
    pictures = draw(summary, data, tmp_path)
    assert {p.stem for p in pictures} == {"fc_matrices", "fc_scatter", "scores", "convergence", "true_and_fitted"}
    write_html(summary, pictures, "python experiments/fit.py", "seed: 0", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert "http" not in page.replace("http-equiv", "")
