"""The scale of structural weights, so that coupling means the same for any connectome."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fitting.errors import InputError

#: How weights are scaled, by the name of a rule, in words.
RULES = {
    "max": "divided by the largest",
    "row": "divided by their sum over the sources of each region",
    "spectral": "divided by their spectral radius",
    "log": "logarithms of one plus their ratio to the smallest, divided by the largest",
    "none": "as they are",
}


def scale_weights(connectome: xr.Dataset, rule: str = "max") -> xr.Dataset:
    """A connectome whose weights have a scale that does not depend on how streamlines were counted.

    Coupling k multiplies the weights, so its bounds mean something only for weights of known size: streamline counts of
    tens of thousands put every network far beyond its bifurcation.

    Parameters
    ----------
    connectome : Dataset
        See :func:`fitting.data.connectome`. The diagonal is left out of every rule, and set to zero.
    rule : str
        ``"max"``: the largest weight becomes one. ``"row"``: the input of each region sums to one. ``"spectral"``: the
        spectral radius becomes one. ``"log"``: the logarithm of one plus the weight's ratio to the smallest one, the
        largest of which becomes one. ``"none"``: weights stay as they are.

    Returns
    -------
    Dataset
        With the attribute ``weights``, which says the rule in words.

    Raises
    ------
    InputError
        If the rule is unknown, or no region is connected.

    Examples
    --------
    >>> from fitting.data import connectome, scale_weights
    >>> c = connectome([[0, 200.0], [800.0, 0]], [[0, 30.0], [30.0, 0]], ["A.L", "A.R"])
    >>> scaled = scale_weights(c)
    >>> scaled.weights.values.tolist(), scaled.attrs["weights"]
    ([[0.0, 0.25], [1.0, 0.0]], 'divided by the largest (800)')
    """
    if rule not in RULES:
        raise InputError(f"unknown rule for weights {rule!r}; choose from {', '.join(RULES)}")
    weights = np.array(connectome["weights"].values, dtype=float)
    np.fill_diagonal(weights, 0.0)
    largest = float(weights.max(initial=0.0))
    if not largest > 0:
        raise InputError("weights: no region is connected to another one; all weights are zero")
    words = RULES[rule]
    if rule == "max":
        weights, words = weights / largest, f"{words} ({largest:g})"
    elif rule == "row":
        total = weights.sum(1, keepdims=True)
        weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    elif rule == "spectral":
        radius = float(np.abs(np.linalg.eigvals(weights)).max())
        if not radius > 1e-12 * largest:
            raise InputError("weights: a connectome without loops has spectral radius zero; choose another rule")
        weights, words = weights / radius, f"{words} ({radius:g})"
    elif rule == "log":
        weights = np.log1p(weights / weights[weights > 0].min())
        weights = weights / weights.max()
    scaled = connectome.assign(weights=(connectome["weights"].dims, weights))
    return scaled.assign_attrs(weights=words)
