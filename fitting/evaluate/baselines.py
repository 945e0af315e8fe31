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
    weights = np.asarray(connectome.weights.values, float)
    lengths = np.asarray(connectome.lengths.values, float)
    fc = np.asarray(fc, float)
    if fc.shape != weights.shape:
        raise InputError(f"the connectivity is {fc.shape} and the connectome {weights.shape}")
    upper = np.triu_indices(len(fc), 1)
    y = fc[upper]
    weights = ((weights + weights.T) / 2)[upper]
    lengths = ((lengths + lengths.T) / 2)[upper]
    smallest = weights[weights > 0].min() if (weights > 0).any() else 1.0
    log = np.log(np.maximum(weights, smallest))
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
