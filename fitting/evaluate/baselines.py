"""Predictors of connectivity that need no simulation: what a fit must beat to say anything."""

from __future__ import annotations

import numpy as np
import scipy.optimize
import xarray as xr

from fitting.data.objects import every_length
from fitting.errors import InputError
from fitting.evaluate.agreement import pearson

#: Added to weights, as a share of the largest, before their logarithm is taken.
LOG_OFFSET = 1e-4


def structural_baselines(connectome: xr.Dataset, fc) -> dict[str, float]:
    """Pearson correlation of simple predictors with the upper triangle of a connectivity matrix.

    Parameters
    ----------
    connectome : Dataset
        See :mod:`fitting.data.objects`.
    fc : array (region, region)
        Connectivity of the same regions in the same order.

    Returns
    -------
    dict
        ``structural_weights``, ``log_structural_weights`` (a ten-thousandth of the largest weight is added before the
        logarithm, so that pairs without a connection have one), ``minus_length``, ``linear_regression`` on all three,
        and ``spatial_autoregression`` (see :func:`spatial_autoregression`). Of a connectome with maps also
        ``regression_on_maps``, on the three and on the sum, product and absolute difference of each map over the pair.

    Examples
    --------
    >>> from fitting.data import hcp_aal2
    >>> from fitting.evaluate import structural_baselines
    >>> c = hcp_aal2()
    >>> round(structural_baselines(c, c.weights.values)["structural_weights"], 3)
    1.0
    """
    fc = np.asarray(fc, float)
    every = ~np.eye(len(fc), dtype=bool)
    names = [*STRUCTURAL, *(["regression_on_maps"] if "maps" in connectome else [])]
    return _scores(connectome, fc, every, fc, every, names)


#: Baselines with a few parameters at most, which all pairs may fit; the others have some for each region.
STRUCTURAL = (
    "structural_weights",
    "log_structural_weights",
    "minus_length",
    "linear_regression",
    "spatial_autoregression",
)


def held_out_baselines(connectome: xr.Dataset, fc, seen, unseen=None) -> dict[str, float]:
    """Predictors fitted on some connectivity and scored on other.

    A model with parameters per region that does not beat them says no more than that some regions
    are more connected than others, and near ones more than far ones.

    Parameters
    ----------
    connectome : Dataset
        See :mod:`fitting.data.objects`.
    fc : array (region, region)
    seen : array of bool (region, region)
        Pairs that are fitted. Pairs that are not are scored.
    unseen : array (region, region), optional
        Connectivity of the same regions from another recording, run or subject: then all its pairs are scored.

    Returns
    -------
    dict
        Pearson correlation of those of :func:`structural_baselines`, and of ``region_effects`` (one additive effect per
        region), ``rank_one`` (the product of one loading per region), ``rank_one_and_constant``, ``rank_two`` (two
        loadings per region and a constant) and ``region_effects_and_geometry`` (with weights, log weights and length).
        What is fitted is fitted by least squares on the pairs seen.

    Examples
    --------
    >>> import numpy as np
    >>> from fitting.data import hcp_aal2
    >>> from fitting.evaluate import held_out_baselines
    >>> c = hcp_aal2()
    >>> seen = np.random.default_rng(0).random((80, 80)) < 0.7
    >>> held_out_baselines(c, -c.lengths.values, seen)["region_effects_and_geometry"] > 0.99
    True
    """
    fc, seen = np.asarray(fc, float), np.asarray(seen, bool)
    if seen.shape != fc.shape:
        raise InputError(f"the choice of pairs is {seen.shape}, the connectivity {fc.shape}")
    if unseen is None:
        return _scores(connectome, fc, seen, fc, ~seen)
    unseen = np.asarray(unseen, float)
    if unseen.shape != fc.shape:
        raise InputError(f"the connectivity to score is {unseen.shape}, the one to fit {fc.shape}")
    return _scores(connectome, fc, seen, unseen, np.ones_like(seen))


def _scores(connectome, fc, seen, other, scored, names=None) -> dict[str, float]:
    """Baselines fitted to the pairs ``seen`` of one matrix, correlated with the pairs ``scored`` of another."""
    weights, log, lengths = geometry = _geometry(connectome, fc)
    rows, columns = np.triu_indices(len(fc), 1)
    train, test = seen[rows, columns], scored[rows, columns]
    y, truth = fc[rows, columns][train], other[rows, columns][test]
    ones = np.ones((len(rows), 1))
    shared = np.stack(geometry, axis=1)
    maps = np.asarray(connectome["maps"].values, float) if "maps" in connectome else np.zeros((0, len(fc)))
    i, j = maps[:, rows], maps[:, columns]
    following = np.concatenate([i + j, i * j, np.abs(i - j)]).T
    effects = np.zeros((len(rows), len(fc)))
    effects[np.arange(len(rows)), rows] = effects[np.arange(len(rows)), columns] = 1.0

    def linear(*designs):
        design = np.concatenate(designs, axis=1)
        return design @ np.linalg.lstsq(design[train], y, rcond=None)[0]

    def low_rank(rank, constant):
        return low_rank_fit(fc, seen, rank, constant)[rows, columns]

    predictors = {
        "structural_weights": lambda: weights,
        "log_structural_weights": lambda: log,
        "minus_length": lambda: -lengths,
        "linear_regression": lambda: linear(ones, shared),
        "spatial_autoregression": lambda: spatial_autoregression(connectome, fc, seen)[1][rows, columns],
        "regression_on_maps": lambda: linear(ones, shared, following),
        "region_effects": lambda: linear(effects),
        "rank_one": lambda: low_rank(1, False),
        "rank_one_and_constant": lambda: low_rank(1, True),
        "rank_two": lambda: low_rank(2, True),
        "region_effects_and_geometry": lambda: linear(effects, shared),
    }
    if not len(maps):
        del predictors["regression_on_maps"]
    return {name: pearson(predictors[name]()[test], truth) for name in names or predictors}


def spatial_autoregression(connectome: xr.Dataset, fc, seen=None) -> tuple[float, np.ndarray]:
    r"""Correlations of a network whose regions are weighted sums of their neighbours, and noise.

    With the structural weights W scaled to spectral radius one, :math:`x = \rho W x + e` has the covariance
    :math:`(1 - \rho W)^{-1} (1 - \rho W)^{-T}`; the one number that is fitted is :math:`\rho`. Among six models of
    functional connectivity it predicted as well as any (Messé, Rudrauf, Giron and Marrelec, NeuroImage 111, 2015,
    65-75).

    Parameters
    ----------
    connectome : Dataset
    fc : array (region, region)
    seen : array of bool (region, region), optional
        Pairs to fit; all unless given.

    Returns
    -------
    rho : float
        Between 0 and 0.99, of the highest correlation with the pairs seen.
    predicted : array (region, region)

    Examples
    --------
    >>> from fitting.data import hcp_aal2
    >>> from fitting.evaluate import spatial_autoregression
    >>> c = hcp_aal2()
    >>> rho, predicted = spatial_autoregression(c, c.weights.values)
    >>> 0 < rho < 0.6, predicted.shape
    (True, (80, 80))
    """
    fc = np.asarray(fc, float)
    _geometry(connectome, fc)
    weights = np.asarray(connectome.weights.values, float)
    radius = np.abs(np.linalg.eigvals(weights)).max()
    pairs = np.triu(np.ones_like(fc, bool) if seen is None else np.asarray(seen, bool), 1)

    def predict(rho):
        spread = np.linalg.inv(np.eye(len(fc)) - rho * weights / (radius or 1.0))
        covariance = spread @ spread.T
        size = np.sqrt(np.diag(covariance))
        return covariance / np.outer(size, size)

    def loss(rho):
        return -pearson(predict(rho)[pairs], fc[pairs])

    grid = np.linspace(0.01, 0.99, 25)
    best = int(np.argmin([loss(rho) for rho in grid]))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    optimum = scipy.optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    rho = float(optimum.x) if optimum.fun < loss(grid[best]) else float(grid[best])
    return rho, predict(rho)


def _geometry(connectome: xr.Dataset, fc):
    """Weights, their logarithm and lengths of every pair of the upper triangle, both directions averaged.

    A length that is not known is not zero: one direction's is that of both; of pairs without any it is the shortest way
    along connections or, where none leads there, as long as the longest.
    """
    weights = np.asarray(connectome.weights.values, float)
    lengths = np.asarray(connectome.lengths.values, float)
    if fc.shape != weights.shape:
        raise InputError(f"the connectivity is {fc.shape} and the connectome {weights.shape}")
    upper = np.triu_indices(len(fc), 1)
    known = np.where(lengths > 0, lengths, np.nan)
    ways = every_length(weights, lengths)
    both = np.where(np.isnan(known), known.T, known)
    pairs = np.where(np.isnan(both), np.minimum(ways, ways.T), (both + both.T) / 2)
    weights, lengths = (weights + weights.T)[upper] / 2, pairs[upper]
    lengths = np.minimum(lengths, lengths[np.isfinite(lengths)].max(initial=0.0))
    return weights, np.log(weights + LOG_OFFSET * (weights.max() or 1.0)), lengths


def low_rank_fit(fc, seen, rank: int, constant: bool):
    """``[constant +] sum of loading_i loading_j`` over ``rank`` components, by least squares on the pairs seen.

    The first component begins alike in all regions and the others with the residuals' eigenvectors, so that the result
    does not hang on chance. Steps know the exact curvature, in a trust region (SciPy's ``trust-ncg``).
    """
    regions = len(fc)
    fc, seen = (x + x.T for x in (np.triu(fc, 1), np.triu(seen, 1)))
    offset, loadings = 0.0, np.full((regions, 1), max(np.abs(fc[seen]).mean(), 1e-12) ** 0.5)

    def unpack(x):
        return x[0] * constant, x[1:].reshape(regions, -1)

    def residuals(x):
        offset, loadings = unpack(x)
        return np.where(seen, offset + loadings @ loadings.T - fc, 0.0)

    def half_of_squares(x):
        rest = residuals(x)
        return (rest**2).sum() / 4, np.concatenate([[constant * rest.sum() / 2], (rest @ unpack(x)[1]).ravel()])

    def curvature(x):
        _, loadings = unpack(x)
        rank, every = loadings.shape[1], np.arange(regions)
        second = np.einsum("ij,ja,ib->iajb", seen, loadings, loadings)
        second[every, :, every] += np.einsum("ij,ja,jb->iab", seen, loadings, loadings)
        second[:, range(rank), :, range(rank)] += residuals(x)
        whole = np.zeros((1 + loadings.size, 1 + loadings.size))
        whole[1:, 1:] = second.reshape(loadings.size, -1)
        if constant:
            whole[0, 0] = seen.sum() / 2
            whole[0, 1:] = whole[1:, 0] = (seen @ loadings).ravel()
        return whole

    for count in range(1, rank + 1):
        start = np.concatenate([[offset], loadings.ravel()])
        if count > 1:
            values, vectors = np.linalg.eigh(-residuals(start))
            loadings = np.concatenate([loadings, vectors[:, -1:] * np.sqrt(max(values[-1], 1e-12))], axis=1)
            start = np.concatenate([[offset], loadings.ravel()])
        # Connectivity that is mostly noise has flat valleys: what a few steps do not find there means nothing.
        options = {"maxiter": 200, "gtol": 1e-8 * np.abs(fc[seen]).mean()}
        optimum = scipy.optimize.minimize(
            half_of_squares, start, jac=True, hess=curvature, method="trust-ncg", options=options
        )
        offset, loadings = unpack(optimum.x)
    return offset + loadings @ loadings.T
