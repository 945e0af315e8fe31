"""Predictors of connectivity that need no simulation: what a fit must beat to say anything."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fitting.errors import InputError


def structural_baselines(connectome: xr.Dataset, fc) -> dict[str, float]:
    """Pearson correlation of simple predictors with the upper triangle of a connectivity matrix.

    Parameters
    ----------
    connectome : Dataset
        See :mod:`fitting.data.labelled`.
    fc : array (region, region)
        Connectivity of the same regions in the same order.

    Returns
    -------
    dict
        ``structural_weights``, ``log_structural_weights`` (pairs without a connection take the
        smallest weight there is), ``minus_length``, and ``linear_regression`` on all three.

    Examples
    --------
    >>> from fitting.data import hcp_aal2
    >>> from fitting.evaluate import structural_baselines
    >>> c = hcp_aal2()
    >>> round(structural_baselines(c, c.weights.values)["structural_weights"], 3)
    1.0
    """
    fc = np.asarray(fc, float)
    y = fc[np.triu_indices(len(fc), 1)]
    weights, log, lengths = _geometry(connectome, fc)
    design = np.stack([np.ones_like(y), weights, log, lengths], axis=1)
    predicted = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return {
        "structural_weights": _r(weights, y),
        "log_structural_weights": _r(log, y),
        "minus_length": _r(-lengths, y),
        "linear_regression": _r(predicted, y),
    }


def _r(a, b) -> float:
    """Pearson correlation; zero if one side is constant."""
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / scale) if scale > 0 else 0.0


def held_out_baselines(connectome: xr.Dataset, fc, seen) -> dict[str, float]:
    """Predictors with a parameter per region, fitted on some pairs of regions and scored on the others.

    A model with parameters per region that does not beat them says no more than that some regions
    are more connected than others, and near ones more than far ones.

    Parameters
    ----------
    connectome : Dataset
        See :mod:`fitting.data.labelled`.
    fc : array (region, region)
    seen : array of bool (region, region)
        Pairs that are fitted.

    Returns
    -------
    dict
        Pearson correlation over the pairs not seen of ``region_effects`` (one additive effect per
        region), ``rank_one`` (one loading per region and a constant), and
        ``region_effects_and_geometry`` (with weights, log weights and length).

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
    geometry = np.stack(_geometry(connectome, fc), axis=1)
    rows, columns = np.triu_indices(len(fc), 1)
    y, train = fc[rows, columns], seen[rows, columns]
    effects = np.zeros((len(y), len(fc)))
    effects[np.arange(len(y)), rows] = effects[np.arange(len(y)), columns] = 1.0

    def score(design):
        predicted = design @ np.linalg.lstsq(design[train], y[train], rcond=None)[0]
        return _r(predicted[~train], y[~train])

    return {
        "region_effects": score(effects),
        "rank_one": _r(_rank_one(y, train, rows, columns, len(fc))[~train], y[~train]),
        "region_effects_and_geometry": score(np.concatenate([effects, geometry], axis=1)),
    }


def _geometry(connectome: xr.Dataset, fc):
    """Weights, their logarithm and lengths of every pair of the upper triangle, both directions averaged."""
    weights = np.asarray(connectome.weights.values, float)
    lengths = np.asarray(connectome.lengths.values, float)
    if fc.shape != weights.shape:
        raise InputError(f"the connectivity is {fc.shape} and the connectome {weights.shape}")
    upper = np.triu_indices(len(fc), 1)
    weights, lengths = ((x + x.T)[upper] / 2 for x in (weights, lengths))
    smallest = weights[weights > 0].min() if (weights > 0).any() else 1.0
    return weights, np.log(np.maximum(weights, smallest)), lengths


def _rank_one(y, train, rows, columns, regions, steps: int = 200):
    """``constant + loading_i loading_j`` by Gauss-Newton with a little damping, from additive effects."""
    constant, loading = float(y[train].mean()), np.full(regions, max(y[train].std(), 1e-12) ** 0.5)
    for _ in range(steps):
        predicted = constant + loading[rows] * loading[columns]
        jacobian = np.zeros((len(y), regions + 1))
        every = np.arange(len(y))
        jacobian[every, rows], jacobian[every, columns], jacobian[:, -1] = loading[columns], loading[rows], 1.0
        j, residual = jacobian[train], (y - predicted)[train]
        normal = j.T @ j
        move = np.linalg.solve(normal + 1e-3 * np.trace(normal) / len(normal) * np.eye(len(normal)), j.T @ residual)
        loading, constant = loading + move[:-1], constant + move[-1]
    return constant + loading[rows] * loading[columns]
