"""What a connectivity matrix can tell about parameters, by linear response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from fitting.evaluate.identifiability import Identifiability, _unit
from fitting.optimize import ResponseProblem
from fitting.signal import upper_pairs


def response_information(problem: ResponseProblem, point: Mapping[str, Any]) -> dict[str, Identifiability]:
    r"""Fisher information of the global parameters, all others being unknown too.

    The target's pairs are taken as :math:`a + b\,FC(\theta)` plus independent errors as large as the fit
    leaves them (with a and b unknown, as a correlation is the score). With J the derivatives of the pairs
    by all free parameters, less what a and b explain, the information is
    :math:`J^T J b^2 / \sigma^2`, and its inverse the covariance of the estimates. Errors of pairs that share a region
    are not independent, so intervals are lower bounds.

    Parameters
    ----------
    problem : ResponseProblem
    point : mapping
        Unconstrained fitted point.

    Returns
    -------
    dict
        One entry per free parameter that is not per region.
    """
    upper = upper_pairs(problem.network.regions, problem.target.pairs)
    flat, restore = ravel_pytree({name: jnp.asarray(value) for name, value in point.items()})

    def pairs_of(x):
        return problem.respond(problem.parameters.values(restore(x)))[0][upper]

    @jax.jit
    def model_and_jacobian(x):
        model, along = jax.linearize(pairs_of, x)
        return model, jax.lax.map(along, jnp.eye(len(x), dtype=x.dtype)).T

    model, jacobian = map(np.asarray, model_and_jacobian(flat))
    y = np.asarray(problem.target.fc)[upper]
    nuisance = np.stack([np.ones_like(model), model], axis=1)
    (_, slope), *_ = np.linalg.lstsq(nuisance, y, rcond=None)
    free = max(1, len(y) - 2 - len(flat))
    error = np.sqrt(((y - nuisance @ np.linalg.lstsq(nuisance, y, rcond=None)[0]) ** 2).sum() / free)
    seen = jacobian - nuisance @ np.linalg.lstsq(nuisance, jacobian, rcond=None)[0]
    values, vectors = np.linalg.eigh(seen.T @ seen * slope**2 / error**2)
    # Directions that nothing changes along have no information; their variance is without bound.
    known = values > values.max(initial=0.0) * 1e-12
    names = [p.name for p in problem.parameters.free]
    position = restore(jnp.arange(len(flat), dtype=flat.dtype))
    found = {}
    for p in problem.parameters.free:
        if p.per_region:
            continue
        i = int(position[p.name])
        blind = (vectors[i, ~known] ** 2).sum() > 1e-6
        sd = np.inf if blind else float(np.sqrt((vectors[i, known] ** 2 / values[known]).sum()))
        x = float(point[p.name])
        low, high = (float(p.bounded(jnp.asarray(np.clip(x + d, -12, 12)))) for d in (-1.96 * sd, 1.96 * sd))
        lowest, highest = (float(p.bounded(jnp.asarray(d))) for d in (-6.0, 6.0))
        narrow = high - low < 0.8 * (highest - lowest)
        others = ", ".join(name for name in names if name != p.name) or "nothing"
        reason = (
            f"Fisher information over {len(y)} pairs, with {others} unknown too, allows {low:.3g} to {high:.3g} "
            f"{_unit(p)}"
        ).rstrip()
        found[p.name] = Identifiability(narrow, reason, (low, high))
    return found
