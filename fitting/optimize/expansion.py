"""A problem around a point, as if its prediction were linear in the parameters that all regions share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fitting.devices import over_devices
from fitting.objective import Terms
from fitting.optimize.problem import Problem, repeated
from fitting.programs import compiled

#: Displacement of each parameter in the unconstrained space, for differences of predictions.
DIFFERENCE = 0.1

#: Displacement for second derivatives, of which rounding and noise would leave little at a shorter one.
FAR_DIFFERENCE = 0.25

#: Share of a curvature that matters to an interval.
MATTERS = 0.25

#: Slopes that miss more than this share of a change do not foretell it.
MISSED = 0.5


class Surroundings(NamedTuple):
    """The loss around a point: every noise seed's slopes, curvatures and rises, by global free parameter."""

    slopes: np.ndarray  # (parameter, seed)
    curvatures: np.ndarray  # (parameter, parameter, seed)
    step: float  # displacement in the unconstrained space

    @property
    def hessian(self):
        """Mean curvature."""
        return self.curvatures.mean(-1)

    @property
    def rises(self):
        """Mean of the losses on both sides, less that in the middle (parameter, seed)."""
        return 0.5 * self.step**2 * np.diagonal(self.curvatures).T

    def noise(self, problem: Problem, averaged: int = 1):
        """Covariance of the slopes, by the noise of ``averaged`` simulations and that of the recording."""
        simulated = problem.predictor.seconds
        # A target of unknown length is taken to be as noisy as one simulation.
        share = 1 / averaged + (simulated / problem.target.seconds if np.isfinite(problem.target.seconds) else 1.0)
        if self.slopes.shape[1] < 2:
            return np.full((len(self.slopes), len(self.slopes)), np.nan)
        return np.atleast_2d(np.cov(self.slopes)) * share


def cross(count: int) -> np.ndarray:
    """Displacements (move, parameter) that tell first and second derivatives: none, either side, and two corners."""
    unit, pairs = np.eye(count), itertools.combinations(range(count), 2)
    corners = np.array([unit[i] + unit[j] for i, j in pairs]).reshape(-1, count)
    return np.concatenate([np.zeros((1, count)), unit, -unit, corners, -corners])


def differences(values: np.ndarray, count: int, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Slopes (parameter, ...) and second derivatives (parameter, parameter, ...) by values (move, ...) on a cross."""
    middle, above, below, *corners = np.split(values, np.cumsum([1, count, count, count * (count - 1) // 2]))
    second = np.empty((count, count, *values.shape[1:]), values.dtype)
    second[range(count), range(count)] = (above - 2 * middle + below) / step**2
    for (i, j), corner in zip(itertools.combinations(range(count), 2), corners[0] + corners[1], strict=True):
        edges = above[i] + below[i] + above[j] + below[j]
        second[i, j] = second[j, i] = (corner - edges + 2 * middle[0]) / (2 * step**2)
    return (above - below) / (2 * step), second


class Expansion(NamedTuple):
    """The loss around a point, if predictions were linear in the parameters, or as far as their derivatives are known.

    Attributes
    ----------
    terms : Terms
        At the point, with whatever penalties add to the loss.
    gradient : array (parameter,)
    hessian : array (parameter, parameter)
    """

    terms: Terms
    gradient: np.ndarray
    hessian: np.ndarray

    @property
    def loss(self) -> float:
        """At the point."""
        return float(self.terms.loss)

    @property
    def finite(self) -> bool:
        """Whether a step can follow from it."""
        return bool(np.isfinite(self.gradient).all() and np.isfinite(self.hessian).all())

    def step(self, damping: float, reach: float, room: tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray:
        """To where the paraboloid is least, the shorter the more damping; at most ``reach``.

        ``room`` is how far each parameter may move down and up. One that would go further stops there, and the others
        go to where the paraboloid is least with that one as it is: cut short, the step might lead uphill.
        """
        step, free = np.zeros(len(self.gradient)), np.ones(len(self.gradient), bool)
        low, high = room or (np.full(len(step), -np.inf), np.full(len(step), np.inf))
        while free.any():
            gradient = (self.gradient + self.hessian @ np.where(free, 0.0, step))[free]
            step[free] = _damped(gradient, self.hessian[np.ix_(free, free)], damping, reach)
            inside = np.clip(step, low, high)
            if (inside == step).all():
                break
            # The one that is stopped first; the others may turn back.
            first = np.argmin(np.where(inside == step, np.inf, np.abs(inside) / np.maximum(np.abs(step), 1e-30)))
            step[first], free[first] = inside[first], False
        return step

    def foretold(self, step: np.ndarray) -> float:
        """By how much a step lowers the loss."""
        return float(-self.gradient @ step - 0.5 * step @ self.hessian @ step)


def _damped(gradient: np.ndarray, hessian: np.ndarray, damping: float, reach: float) -> np.ndarray:
    """The least point of a paraboloid, nearer with more damping.

    Each parameter is damped in proportion to its own curvature (Marquardt), so that one of which the loss says little
    moves as well. Where nothing is curved, as for a loss that is linear in the prediction, the damping alone limits a
    step.
    """
    curved, slope = np.abs(np.diag(hessian)), np.abs(gradient).max() / reach
    scale = np.sqrt(
        np.maximum(curved, max(1e-4 * curved.max(), 1e-2 * slope if curved.max() < 1e-2 * slope else 0.0, 1e-30))
    )
    values, vectors = np.linalg.eigh(hessian / np.outer(scale, scale))
    step = -vectors @ ((vectors.T @ (gradient / scale)) / (np.abs(values) + damping)) / scale
    return step * min(1.0, reach / max(np.abs(step).max(), 1e-30))


class Linearized:
    """What steps ask of a problem: predictions at unconstrained points, their slopes, and the loss around them.

    Predictions are trees of arrays (seed, ...), slopes of arrays (seed, parameter, ...). The loss is that of one
    prediction with the replicates of all seeds: what a loss does to noise, such as dividing by it, fades with their
    number, where a mean of each seed's loss would keep it.

    Parameters
    ----------
    problem : Problem
        With one noise seed.
    point : mapping
        Unconstrained point, for the parameters that do not move.
    names : sequence of str
        The others: points are arrays (parameter,).
    keys : PRNG keys (seed,)
    """

    def __init__(self, problem: Problem, point: Mapping[str, Any], names, keys):
        self.problem, self.point, self.names, self.keys = problem, dict(point), names, keys
        ahead = replace(problem, predictor=problem.predictor.forward_mode())

        def at(x):
            return dict(point) | dict(zip(names, x, strict=True))

        def linearized(element):
            x, key = element

            def predict(x):
                return ahead.predict(problem.parameters.values(at(x)), key)

            along = jax.vmap(lambda d: jax.jvp(predict, (x,), (d,)), out_axes=(None, 0))
            return along(jnp.eye(len(names), dtype=x.dtype))

        def expand(x, prediction, *derivatives):
            def loss(step):
                there = prediction
                for order, along in enumerate(derivatives, 1):
                    for _ in range(order):
                        along = jax.tree.map(lambda each: jnp.tensordot(step, each, (0, 1)), along)
                    there = jax.tree.map(lambda value, each: value + each / math.factorial(order), there, along)  # noqa: B023
                here = problem.total(at(x + step), _pooled(there))
                return here.loss, here

            def slope(step):
                gradient, here = jax.grad(loss, has_aux=True)(step)
                return gradient, (here, gradient)

            hessian, (here, gradient) = jax.jacfwd(slope, has_aux=True)(jnp.zeros_like(x))
            return here, gradient, hessian

        self._linearized = over_devices(linearized, problem.at_once())
        self._expand = compiled(expand)

    def _seeds(self, keys):
        """Keys of the one noise seed that follows from each key."""
        return jax.vmap(self.problem.keys)(keys)[:, 0]

    def _evaluated(self, points, keys):
        """Terms and predictions at points (point, parameter): of all keys at the first point, then at the second."""
        points = np.asarray(points)
        every, count = np.repeat(points, len(keys), axis=0), len(points) * len(keys)
        moving = dict(zip(self.names, every.T, strict=True))
        return self.problem.evaluated(repeated(self.point, count) | moving, jnp.tile(self._seeds(keys), len(points)))

    def predict(self, x: np.ndarray):
        """Predictions of every seed."""
        return self._evaluated([x], self.keys)[1]

    def losses(self, points: np.ndarray) -> np.ndarray:
        """Loss of the first noise seed at points (point, parameter)."""
        return self._evaluated(points, self.keys[:1])[0].loss.astype(float)

    def linearized(self, x: np.ndarray, how: str):
        """Predictions and slopes, as :meth:`predict` and :meth:`slopes`: exact slopes come with their predictions."""
        if how == "exact":
            points = jnp.tile(jnp.asarray(x, jnp.result_type(float)), (len(self.keys), 1))
            return self._linearized((points, self._seeds(self.keys)))
        prediction = self.predict(x)
        return prediction, self.slopes(x, prediction, how)

    def slopes(self, x: np.ndarray, prediction, how: str):
        """Derivatives of the prediction of every seed by every parameter.

        ``how``: ``"exact"``, in forward mode; ``"one-sided"`` or ``"two-sided"``, by differences of predictions, which
        a chaotic network does not blow up.
        """
        if how == "exact":
            return self.linearized(x, how)[1]
        # One side is the middle's, where bounds do not flatten what there is to see.
        moves = np.where(x > 0, -DIFFERENCE, DIFFERENCE)
        sides = (1,) if how == "one-sided" else (1, -1)
        points = np.concatenate([x + side * np.diag(moves) for side in sides])
        moved = self._evaluated(points, self.keys)[1]

        def slope(there, here):
            there = there.reshape(len(sides), len(x), len(self.keys), *here.shape[1:])
            behind = here if len(sides) == 1 else there[1]
            across = len(sides) * moves.reshape(-1, 1, *[1] * (here.ndim - 1)).astype(here.dtype)
            return np.moveaxis((there[0] - behind) / across, 0, 1)

        return jax.tree.map(slope, moved, prediction)

    def second_derivatives(self, x: np.ndarray, prediction, seeds: slice):
        """Second derivatives of the predictions of some seeds by every two parameters, by differences."""
        keys, moves = self.keys[seeds], cross(len(x))
        moved = self._evaluated(x + FAR_DIFFERENCE * moves[1:], keys)[1]

        def second(there, here):
            there = there.reshape(len(moves) - 1, len(keys), *here.shape[1:])
            derivatives = differences(np.concatenate([here[None, seeds], there]), len(x), FAR_DIFFERENCE)[1]
            return np.moveaxis(derivatives, 2, 0)

        return jax.tree.map(second, moved, prediction)

    def expand(self, x: np.ndarray, prediction, *derivatives) -> Expansion:
        """The loss around a point, by its predictions and their slopes, and second derivatives where given."""
        leaves = self._expand(jnp.asarray(x, jnp.result_type(float)), prediction, *derivatives)
        return Expansion(*jax.tree.map(lambda each: np.asarray(each, float), leaves))

    def surroundings(self, x: np.ndarray, prediction, *derivatives) -> Surroundings:
        """How the loss around a point scatters over noise seeds: its jackknife's pseudo-values."""
        count, every = len(self.keys), (prediction, *derivatives)
        whole, gradients, hessians = self.expand(x, *every), [], []
        for seed in range(count):
            without = self.expand(x, *jax.tree.map(lambda leaf: np.delete(leaf, seed, 0), every))  # noqa: B023
            gradients.append(count * whole.gradient - (count - 1) * without.gradient)
            hessians.append(count * whole.hessian - (count - 1) * without.hessian)
        return Surroundings(np.stack(gradients, -1), np.stack(hessians, -1), DIFFERENCE)


def _pooled(prediction):
    """One prediction with the replicates of all seeds."""
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), prediction._replace(penalty=None))
    return flat._replace(penalty=prediction.penalty.mean())


def foretold(slopes, step: np.ndarray, before, after) -> bool:
    """Whether slopes tell most of how connectivity changes with a step; those of a chaotic network do not."""
    change = after.replicates - before.replicates
    missed = change - np.tensordot(np.moveaxis(slopes.replicates, 1, -1), step, 1)
    return bool((missed**2).sum() <= MISSED**2 * (change**2).sum())


def matters(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether two curvatures differ by more than a quarter in any direction."""
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        return False
    values, vectors = np.linalg.eigh(before)
    unit = vectors / np.sqrt(np.maximum(np.abs(values), 1e-30))
    return bool(np.abs(np.linalg.eigvalsh(unit.T @ (after - before) @ unit)).max() > MATTERS)


def corrected(slopes, step: np.ndarray, before, after):
    """Slopes that foretell what a step has led to, and otherwise are as before (Broyden)."""

    def correct(slope, before, after):
        missing = after - before - np.tensordot(np.moveaxis(slope, 1, -1), step, 1)
        return (slope + np.multiply.outer(step, missing).swapaxes(0, 1) / (step @ step)).astype(slope.dtype)

    return jax.tree.map(correct, slopes, before, after)
