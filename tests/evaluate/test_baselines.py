"""Baselines against independent arithmetic."""

import numpy as np
import pytest
from problems import labels_of, target_of
from scipy.optimize import least_squares

from fitting import InputError
from fitting.data import connectome, hcp_aal2, match, read_fc
from fitting.evaluate import held_out_baselines, spatial_autoregression, structural_baselines
from fitting.evaluate.baselines import low_rank_fit


def test_the_table_of_the_meg_matrix_to_the_third_digit(meg_fc_path):
    c = hcp_aal2()
    fc = match(c["target"].values.tolist(), read_fc(meg_fc_path))[0].values
    found = structural_baselines(c, fc)
    assert found["structural_weights"] == pytest.approx(0.241, abs=5e-4)
    assert found["log_structural_weights"] == pytest.approx(0.340, abs=5e-4)
    assert found["minus_length"] == pytest.approx(0.382, abs=5e-4)
    held_out = held_out_baselines(c, fc, target_of(fc).split(0.7, 0).pairs)
    assert held_out["region_effects"] == pytest.approx(0.518, abs=5e-4)
    assert held_out["rank_one"] == pytest.approx(0.622, abs=5e-4)
    assert held_out["region_effects_and_geometry"] == pytest.approx(0.679, abs=5e-4)


def test_the_regression_is_the_multiple_correlation(meg_fc_path):
    """Of the matrix with weights, log weights and length: from their correlation matrix alone."""
    c = hcp_aal2()
    fc, _ = match(c["target"].values.tolist(), read_fc(meg_fc_path))
    found = structural_baselines(c, fc.values)
    upper = np.triu_indices(80, 1)
    y = fc.values[upper]
    weights, lengths = c.weights.values[upper], c.lengths.values[upper]
    log = np.log(weights + 1e-4 * weights.max())
    assert found["log_structural_weights"] == pytest.approx(np.corrcoef(log, y)[0, 1], abs=1e-10)
    r = np.corrcoef([y, weights, log, lengths])
    multiple = np.sqrt(r[0, 1:] @ np.linalg.solve(r[1:, 1:], r[0, 1:]))
    assert found["linear_regression"] == pytest.approx(multiple, abs=1e-9)


def test_baselines_refuse_other_regions():
    with pytest.raises(InputError, match="connectivity is"):
        structural_baselines(hcp_aal2(), np.zeros((3, 3)))


def test_spatial_autoregression_is_the_covariance_of_a_linear_network(rng):
    """From samples of x = rho W x + e: 400 000 of them, so that correlations have errors of 0.002."""
    weights = rng.uniform(size=(6, 6))
    np.fill_diagonal(weights, 0)
    c = connectome(weights, np.full((6, 6), 40.0) * (weights > 0), labels_of(6))
    truth = weights / np.abs(np.linalg.eigvals(weights)).max()
    mixing = np.linalg.inv(np.eye(6) - 0.63 * truth)
    samples = mixing @ rng.standard_normal((6, 400_000))
    fc = np.corrcoef(samples)
    rho, predicted = spatial_autoregression(c, fc)
    assert rho == pytest.approx(0.63, abs=0.03)
    np.testing.assert_allclose(predicted, fc, atol=0.02)
    assert structural_baselines(c, fc)["spatial_autoregression"] > 0.99


def test_low_rank_predictors_find_what_was_put_in(rng):
    """Exact for matrices of their own kind, on pairs that were not seen; one rank too few is not enough."""
    c = hcp_aal2()
    seen = np.triu(rng.random((80, 80)) < 0.7, 1)
    seen = seen | seen.T
    a, b = rng.uniform(0.5, 1.5, 80), rng.uniform(-1, 1, 80)
    found = held_out_baselines(c, np.outer(a, a), seen)
    assert found["rank_one"] == pytest.approx(1, abs=1e-9)
    found = held_out_baselines(c, 0.7 + np.outer(a, a), seen)
    assert found["rank_one_and_constant"] == pytest.approx(1, abs=1e-9)
    assert found["rank_one"] < 0.999
    found = held_out_baselines(c, 0.7 + np.outer(a, a) + np.outer(b, b), seen)
    assert found["rank_two"] == pytest.approx(1, abs=1e-6)
    assert found["rank_one_and_constant"] < 0.9


@pytest.mark.parametrize(("rank", "constant"), [(1, False), (1, True), (2, True)])
def test_low_rank_predictors_are_those_of_least_squares(rank, constant, rng):
    """SciPy's least squares ends there, too, from the truth of a noisy matrix. The lower triangle is not read."""
    truth = np.concatenate([[0.3 * constant], rng.uniform(0.5, 1.5, 20 * rank)])
    rows, columns = np.triu_indices(20, 1)
    seen, fc = np.zeros((20, 20), bool), np.full((20, 20), np.nan)
    seen[rows, columns] = train = rng.random(len(rows)) < 0.9

    def model(x):
        loadings = x[1:].reshape(20, rank)
        return x[0] * constant + (loadings @ loadings.T)[rows, columns]

    fc[rows, columns] = model(truth) + 0.05 * rng.standard_normal(len(rows))
    best = least_squares(lambda x: (model(x) - fc[rows, columns])[train], truth, xtol=1e-12, ftol=1e-14, gtol=1e-12)
    predicted = low_rank_fit(fc, seen, rank, constant)[rows, columns]
    squares = ((predicted - fc[rows, columns])[train] ** 2).sum()
    assert squares == pytest.approx(2 * best.cost, rel=1e-9)
    np.testing.assert_allclose(predicted, model(best.x), atol=1e-4)


def test_another_recording_is_predicted_from_the_one_that_was_fitted(rng):
    """Region effects fitted to one matrix, scored on all pairs of another: by least squares of the textbook."""
    c = hcp_aal2()
    first, second = (rng.standard_normal((80, 80)) for _ in range(2))
    first, second = first + first.T, second + second.T + 0.5 * (first + first.T)
    every = ~np.eye(80, dtype=bool)
    found = held_out_baselines(c, first, every, second)["region_effects"]
    upper = np.triu_indices(80, 1)
    design = np.zeros((len(upper[0]), 80))
    for row, pair in enumerate(zip(*upper, strict=True)):
        design[row, list(pair)] = 1
    effects = np.linalg.solve(design.T @ design, design.T @ first[upper])
    assert found == pytest.approx(np.corrcoef(design @ effects, second[upper])[0, 1], abs=1e-9)
    with pytest.raises(InputError, match="to score is"):
        held_out_baselines(c, first, every, np.eye(3))


@pytest.mark.slow
def test_held_out_baselines_are_what_they_say(rng):
    """A matrix that is one predictor plus a little noise is predicted by it on pairs that were not fitted."""
    c = hcp_aal2()
    loading = rng.uniform(0.5, 1.5, 80)
    noise = 0.01 * rng.standard_normal((80, 80))
    seen = np.triu(rng.random((80, 80)) < 0.7, 1)
    seen = seen | seen.T
    product = np.outer(loading, loading) + noise + noise.T
    found = held_out_baselines(c, product, seen)
    assert found["rank_one"] > 0.99 > found["region_effects"]
    added = loading[:, None] + loading[None, :] - 0.01 * c.lengths.values + noise + noise.T
    found = held_out_baselines(c, added, seen)
    assert found["region_effects_and_geometry"] > 0.99 > found["region_effects"]


def test_held_out_baselines_on_the_meg_matrix(meg_fc_path):
    """Not seen pairs are predicted by region effects at about 0.5, with geometry at about 0.7."""
    c = hcp_aal2()
    fc, _ = match(c["target"].values.tolist(), read_fc(meg_fc_path))
    seen = target_of(fc.values).split(0.7, 0).pairs
    found = held_out_baselines(c, fc.values, seen)
    assert 0.45 < found["region_effects"] < 0.58
    assert 0.62 < found["region_effects_and_geometry"] < 0.73


def test_lengths_that_are_not_known_are_not_zero(rng):
    """One direction's is that of both; of none it is the shortest way, by Floyd and Warshall's loop."""
    places = rng.uniform(0, 100, (20, 3))
    distances = np.linalg.norm(places[:, None] - places, axis=-1)
    present = rng.random((20, 20)) < 0.5
    near = np.exp(-distances / 20) * (1 - np.eye(20))
    one_way = np.tril(near) + np.triu(near) * present
    r = [
        structural_baselines(connectome(w, np.where(w > 0, distances, np.nan), labels_of(20)), -distances)[
            "minus_length"
        ]
        for w in (near, one_way, near * present)
    ]
    np.testing.assert_allclose(r[:2], 1.0)
    way = np.where(near * present > 0, distances, np.inf)
    for k in range(20):
        way = np.minimum(way, way[:, [k]] + way[[k]])
    far = np.where(present | present.T, distances, np.minimum(way, way.T))
    upper = np.triu_indices(20, 1)
    assert r[2] == pytest.approx(np.corrcoef(far[upper], distances[upper])[0, 1])
    # Where no way leads, a pair counts as far as the farthest.
    apart = near * (np.arange(20) < 10) * (np.arange(20)[:, None] < 10) + near * (np.arange(20) >= 10) * (
        np.arange(20)[:, None] >= 10
    )
    known = connectome(apart, np.where(apart > 0, distances, 0), labels_of(20))
    assert np.isfinite(list(structural_baselines(known, -distances).values())).all()
