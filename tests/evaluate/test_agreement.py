"""Agreement of two matrices against plain arithmetic, and whether its interval covers what it should."""

import itertools

import numpy as np
import pytest

from fitting.evaluate import agreement, pearson, region_interval, shared_variance


def symmetric(matrix):
    return np.triu(matrix, 1) + np.triu(matrix, 1).T


def test_agreement_is_that_of_the_pairs(rng):
    """Against the lists of pairs: Lin's coefficient as 2 s_xy / (s_x^2 + s_y^2 + (m_x - m_y)^2), by hand."""
    model, target = (symmetric(rng.standard_normal((9, 9))) for _ in range(2))
    model += 0.7 * target + 0.3
    kept = symmetric(rng.random((9, 9))) > 0.5
    for pairs in (None, kept):
        chosen = [(i, j) for i, j in itertools.combinations(range(9), 2) if pairs is None or pairs[i, j]]
        x, y = (np.array([m[i, j] for i, j in chosen]) for m in (model, target))
        found = agreement(model, target, pairs)
        assert len(chosen) == (36 if pairs is None else kept.sum() // 2) > 10
        assert found.r == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)
        assert found.slope == pytest.approx(np.polyfit(y, x, 1)[0], abs=1e-12)
        assert (found.model, found.target) == (pytest.approx(x.mean()), pytest.approx(y.mean()))
        apart = sum((x - y) ** 2) / len(x)
        chance = x.var() + y.var() + (x.mean() - y.mean()) ** 2
        assert found.concordance == pytest.approx(1 - apart / chance, abs=1e-12)  # another form of Lin's


def test_concordance_of_an_example_by_hand():
    """Pairs 1, 2, 3 and 2, 4, 6: covariance 4/3, variances 2/3 and 8/3, means 2 apart."""
    target = symmetric(np.array([[0, 1.0, 2.0], [0, 0, 3.0], [0, 0, 0]]))
    found = agreement(2 * target, target)
    assert found.r == pytest.approx(1)
    assert found.concordance == pytest.approx(2 * (4 / 3) / (2 / 3 + 8 / 3 + 4))
    assert found.slope == pytest.approx(2)
    assert agreement(target, target).concordance == pytest.approx(1)
    assert agreement(-target, target).concordance < 0


def test_a_constant_agrees_with_nothing(rng):
    """Zero, not NaN, also where rounding gives a constant a variance (of ten times 0.1)."""
    varied, constant = symmetric(rng.standard_normal((5, 5))), np.full((5, 5), 0.1)
    for model, target in ((constant, varied), (varied, constant), (constant, constant)):
        found = agreement(model, target)
        assert (found.r, found.concordance, found.slope) == (0.0, 0.0, 0.0)
        assert np.isnan(region_interval(model, target)).all()
    assert pearson(np.full(3, 0.1), [1.0, 2.0, 4.0]) == 0.0


def test_what_is_not_finite_has_no_score(rng):
    target = symmetric(rng.standard_normal((5, 5)))
    found = agreement(np.full((5, 5), np.nan), target)
    assert np.isnan([found.r, found.concordance, found.slope, found.model]).all()
    assert np.isnan(region_interval(np.full((5, 5), np.nan), target)).all()


def draw(rng, regions, spreads):
    """A matrix with effects of regions, and another that is that plus effects of regions plus noise of pairs.

    Their correlation over infinitely many regions comes with them.
    """
    own, pairs, shared, noise = spreads

    def random(by_region, by_pair):
        u = by_region * rng.standard_normal(regions)
        return u[:, None] + u[None, :] + symmetric(by_pair * rng.standard_normal((regions, regions)))

    model = random(own, pairs)
    variance, added = 2 * own**2 + pairs**2, 2 * shared**2 + noise**2
    return model, model + random(shared, noise), np.sqrt(variance / (variance + added))


@pytest.mark.slow
@pytest.mark.parametrize(
    "spreads", [(0.6, 1.0, 0.6, 1.0), (1.0, 0.3, 0.7, 0.3)], ids=["pairs matter most", "regions matter most"]
)
def test_the_interval_covers_the_correlation_of_a_known_model(spreads, rng):
    """Of 200 draws, about 95 % (standard error of the coverage: 1.5 %).

    An interval that takes pairs for independent, from Fisher's z, covers far less where regions have effects.
    """
    covered, plain = [], []
    for trial in range(200):
        model, target, truth = draw(rng, 60, spreads)
        low, high = region_interval(model, target, seed=trial)
        covered.append(low < truth < high)
        upper = np.triu_indices(60, 1)
        z = np.arctanh(np.corrcoef(model[upper], target[upper])[0, 1])
        plain.append(abs(z - np.arctanh(truth)) < 1.96 / np.sqrt(len(upper[0]) - 3))
    assert 0.88 < np.mean(covered) < 0.99
    assert np.mean(plain) < np.mean(covered) - 0.1


def test_the_interval_looks_at_the_chosen_pairs_only(rng):
    model, target, _ = draw(rng, 20, (0.6, 1.0, 0.6, 1.0))
    pairs = symmetric(rng.random((20, 20))) > 0.5
    spoilt = np.where(pairs, target, 99 * rng.standard_normal((20, 20)))
    assert region_interval(model, spoilt, pairs) == region_interval(model, target, pairs)
    assert region_interval(model, target, pairs) != region_interval(model, target)
    low, high = region_interval(model, target, pairs)
    assert low < agreement(model, target, pairs).r < high


def test_shared_variance_is_the_mean_covariance_of_two(rng):
    """Against every two replicates, one after the other."""
    matrices = np.stack([symmetric(rng.standard_normal((7, 7))) for _ in range(4)])
    pairs = symmetric(rng.random((7, 7))) > 0.4
    for chosen in (None, pairs):
        upper = np.triu(np.ones((7, 7), bool) if chosen is None else chosen, 1)
        every = [np.cov(a[upper], b[upper], ddof=0)[0, 1] for a, b in itertools.combinations(matrices, 2)]
        assert shared_variance(matrices, chosen) == pytest.approx(np.mean(every), abs=1e-12)
    assert np.isnan(shared_variance(matrices[:1]))


@pytest.mark.parametrize("noise", [0.3, 1.0, 2.0])
def test_shared_variance_is_not_moved_by_noise(noise, rng):
    """Mean over 200 draws of 5 replicates of known variance, within three standard errors."""
    found, naive = [], []
    upper = np.triu_indices(20, 1)
    for _ in range(200):
        truth = symmetric(rng.standard_normal((20, 20)))
        matrices = np.stack([truth + symmetric(noise * rng.standard_normal((20, 20))) for _ in range(5)])
        found.append(shared_variance(matrices) - truth[upper].var())
        naive.append(matrices.mean(0)[upper].var() - truth[upper].var())
    assert abs(np.mean(found)) < 3 * np.std(found, ddof=1) / np.sqrt(200)
    # The variance of the mean replicate is too large by a fifth of the noise.
    assert np.mean(naive) == pytest.approx(noise**2 / 5, rel=0.15)
