"""How well two connectivity matrices agree: pattern, level, and what noise leaves of both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

#: Resamples of regions behind an interval.
RESAMPLES = 1000


def pearson(a, b) -> float:
    """Pearson correlation of two vectors; zero if one of them is constant, NaN if they are not finite.

    Examples
    --------
    >>> from fitting.evaluate.agreement import pearson
    >>> round(pearson([1.0, 2.0, 4.0], [1.0, 2.0, 3.0]), 3)
    0.982
    """
    a, b = (np.asarray(x, float) for x in (a, b))
    if _constant(a) or _constant(b):
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))


def _constant(x) -> bool:
    # Its variance is rounding, and not always zero.
    return not (x != x[:1]).any()


class Agreement(NamedTuple):
    """Agreement of a model's connectivity with a target's, over pairs of regions.

    Attributes
    ----------
    r : float
        Pearson correlation, which is blind to scale and level.
    concordance : float
        Lin's coefficient (Biometrics 45, 1989, 255-268): r, lowered by whatever sets means and spreads apart.
    slope : float
        Of the model's connectivity on the target's: 1 where both vary alike.
    model, target : float
        Mean connectivity.
    """

    r: float
    concordance: float
    slope: float
    model: float
    target: float


def agreement(
    model: Float[np.ndarray, "region region"],
    target: Float[np.ndarray, "region region"],
    pairs: Bool[np.ndarray, "region region"] | None = None,
) -> Agreement:
    """Agreement of two matrices over their upper triangles, or over the chosen pairs.

    Parameters
    ----------
    model, target : array (region, region)
    pairs : array of bool (region, region), optional

    Returns
    -------
    Agreement

    Examples
    --------
    >>> import numpy as np
    >>> from fitting.evaluate import agreement
    >>> a = np.array([[0, 0.1, 0.2], [0.1, 0, 0.4], [0.2, 0.4, 0]])
    >>> [round(value, 3) for value in agreement(2 * a, a)]
    [1.0, 0.471, 2.0, 0.467, 0.233]
    """
    chosen = np.triu(np.ones_like(target, bool) if pairs is None else pairs, 1)
    m, t = np.asarray(model, float)[chosen], np.asarray(target, float)[chosen]
    r = pearson(m, t)
    covariance = r * m.std() * t.std()
    apart = m.var() + t.var() + (m.mean() - t.mean()) ** 2
    return Agreement(
        r,
        float(2 * covariance / apart) if apart != 0 else 0.0,
        float(covariance / t.var()) if t.var() != 0 else 0.0,
        float(m.mean()),
        float(t.mean()),
    )


def region_interval(model, target, pairs=None, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the correlation of two matrices, from a bootstrap over regions.

    Regions are drawn again with replacement, and each pair counts as often as its two regions were drawn together:
    pairs that share a region are not independent (Snijders and Borgatti, Connections 22, 1999, 161-170). A pair of
    a region with itself is left out.

    Parameters
    ----------
    model, target : array (region, region)
    pairs : array of bool (region, region), optional
    seed : int

    Returns
    -------
    low, high : float
        NaN where there is no correlation, as of a constant.
    """
    pairs, weight = resampled_pairs(len(target), pairs, seed)
    m, t = np.asarray(model, float)[pairs], np.asarray(target, float)[pairs]
    if _constant(m) or _constant(t):
        return float("nan"), float("nan")
    scale = np.sqrt(np.maximum(covariances(weight, m, m) * covariances(weight, t, t), 0.0))
    # The variance of a resample of one pair is zero up to rounding.
    varied = scale > 1e-12 * scale.max()
    scores = covariances(weight, m, t)[varied] / scale[varied]
    if len(scores) == 0:
        return float("nan"), float("nan")
    low, high = np.percentile(scores, (2.5, 97.5))
    return float(low), float(high)


def resampled_pairs(regions: int, pairs=None, seed: int = 0):
    """Pairs of regions, and how often each occurs where regions are drawn again with replacement.

    Parameters
    ----------
    regions : int
    pairs : array of bool (region, region), optional
    seed : int

    Returns
    -------
    pairs : (array (pair,), array (pair,))
        Rows and columns of the upper triangle.
    weight : array (resample, pair)
    """
    rows, columns = np.nonzero(np.triu(np.ones((regions, regions), bool) if pairs is None else pairs, 1))
    counts = np.random.default_rng(seed).multinomial(regions, np.full(regions, 1 / regions), RESAMPLES)
    return (rows, columns), (counts[:, rows] * counts[:, columns]).astype(float)


def covariances(
    weight: Float[np.ndarray, "resample pair"], x: Float[np.ndarray, " pair"], y: Float[np.ndarray, " pair"]
) -> Float[np.ndarray, " resample"]:
    """Weighted covariance of two vectors, once for every row of weights."""
    # Centred first: else the difference of two large numbers remains.
    x, y, total = x - x.mean(), y - y.mean(), np.maximum(weight.sum(1), 1e-12)
    return weight @ (x * y) / total - (weight @ x) * (weight @ y) / total**2


def shared_variance(matrices: Float[np.ndarray, "replicate region region"], pairs=None) -> float:
    """Variance over pairs that replicates of a matrix share: unbiased by the noise that they do not share.

    The mean of the covariances of every two replicates.

    Examples
    --------
    >>> import numpy as np
    >>> from fitting.evaluate.agreement import shared_variance
    >>> a = np.array([[0, 0.1, 0.2], [0.1, 0, 0.4], [0.2, 0.4, 0]])
    >>> bool(np.isclose(shared_variance(np.stack([a, a])), np.var([0.1, 0.2, 0.4])))
    True
    """
    matrices = np.asarray(matrices, float)
    chosen = np.triu(np.ones(matrices.shape[1:], bool) if pairs is None else pairs, 1)
    return float(shared_variances(np.ones((1, chosen.sum())), matrices[:, chosen])[0])


def shared_variances(
    weight: Float[np.ndarray, "resample pair"], x: Float[np.ndarray, "replicate pair"]
) -> Float[np.ndarray, " resample"]:
    """:func:`shared_variance` of weighted pairs, once for every row of weights."""
    count, mean = len(x), x.mean(0)
    if count < 2:
        return np.full(len(weight), np.nan)
    own = sum(covariances(weight, one, one) for one in x)
    return (count**2 * covariances(weight, mean, mean) - own) / (count * (count - 1))
