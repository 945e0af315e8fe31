"""How well known parameters are found again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fitting.errors import InputError


def recovery(true: Mapping[str, np.ndarray], fitted: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Errors of fits to data whose parameters are known.

    Parameters
    ----------
    true, fitted : mapping of arrays (draw,)
        By parameter, positive.

    Returns
    -------
    dict
        By parameter: ``median_relative_error``, ``correlation`` of the logarithms, ``bias`` (median of the
        logarithm of fitted over true) and ``n``.

    Examples
    --------
    >>> import numpy as np
    >>> from fitting.evaluate import recovery
    >>> found = recovery({"k": np.array([1.0, 2.0, 4.0])}, {"k": np.array([1.1, 2.2, 4.4])})
    >>> round(found["k"]["median_relative_error"], 3), round(found["k"]["correlation"], 3)
    (0.1, 1.0)
    """
    found = {}
    for name, truth in true.items():
        truth, estimate = np.asarray(truth, float), np.asarray(fitted[name], float)
        if truth.shape != estimate.shape or truth.ndim != 1 or len(truth) < 2:
            raise InputError(f"{name}: true values {truth.shape} and fitted ones {estimate.shape} must be equal lists")
        if not ((truth > 0).all() and (estimate > 0).all()):
            raise InputError(f"{name}: relative errors need positive values")
        ratio = np.log(estimate / truth)
        found[name] = {
            "median_relative_error": float(np.median(np.abs(estimate / truth - 1))),
            "correlation": float(np.corrcoef(np.log(truth), np.log(estimate))[0, 1]),
            "bias": float(np.median(ratio)),
            "n": len(truth),
        }
    return found
