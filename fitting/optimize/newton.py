"""The end of a fit to noise: the loss around a point is measured, and the fit steps to its minimum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.flatten_util import ravel_pytree

from fitting.devices import device_count, local_devices, over_devices, rounds_over_devices
from fitting.errors import InputError
from fitting.optimize.descent import verdict
from fitting.optimize.fit import Candidate, Fit
from fitting.optimize.problem import Problem
from fitting.optimize.storage import Record, Store, identity
from fitting.predict import Cost
from fitting.progress import Progress, Reporter, silent

#: How far a step goes at most, in displacements of the measurement: further away nothing was measured.
REACH = 4.0

#: Standard errors that a slope must stand out by, to be followed where no curvature says how far.
CERTAIN = 5.0


class Surroundings(NamedTuple):
    """The loss around a point: every noise seed's slopes, curvatures and rises, by global free parameter."""

    slopes: np.ndarray  # (parameter, seed)
    curvatures: np.ndarray  # (parameter, parameter, seed)
    rises: np.ndarray  # (parameter, seed): mean of the losses on both sides, less that in the middle
    step: float  # displacement in the unconstrained space

    @property
    def hessian(self):
        """Mean curvature."""
        return self.curvatures.mean(-1)

    def noise(self, problem: Problem, averaged: int = 1):
        """Covariance of the slopes, by the noise of ``averaged`` simulations and that of the recording."""
        simulated = problem.predictor.seconds
        # A target of unknown length is taken to be as noisy as one simulation.
        share = 1 / averaged + (simulated / problem.target.seconds if np.isfinite(problem.target.seconds) else 1.0)
        if self.slopes.shape[1] < 2:
            return np.full((len(self.slopes), len(self.slopes)), np.nan)
        return np.atleast_2d(np.cov(self.slopes)) * share


@dataclass(frozen=True)
class Newton:
    """Step to where the mean gradient over many noise seeds vanishes, for the parameters that all regions share.

    Each noise seed gives two gradients, at points displaced to opposite sides: their mean is the slope at the point,
    their difference what the curvature makes of the displacement. The curvature is the symmetric matrix that fits the
    differences best, and the step is Newton's, along those of its eigenvectors along which the loss is curved beyond
    noise; along others it goes downhill, as far as was measured, where there is a slope beyond noise. The measurement
    is kept: intervals follow from it (:func:`fitting.evaluate.identifiability`).

    Predictors without noise, which a descent takes to the minimum by itself, are left as they are.

    Parameters
    ----------
    seeds : int
        Noise seeds, or as many more as the parameters need.
    step : float
        Displacement of every parameter in the unconstrained space. Where the loss is no paraboloid, long ones move its
        minimum; short ones cost nothing, as both gradients of a seed have the same noise.
    rounds : int
        Most steps: one that leaves what was measured is cut short, and another one follows, as after one downhill.
    name : str
    """

    seeds: int = 8
    step: float = 0.1
    rounds: int = 4
    name: str = "newton"

    measures: ClassVar[bool] = True

    def __post_init__(self):
        if self.seeds < 4 or self.rounds < 1 or not self.step > 0:
            raise InputError(
                f"seeds ({self.seeds}) must be at least 4, rounds ({self.rounds}) 1, and step ({self.step:g}) positive"
            )

    def run(self, fit: Fit, key, progress: Reporter = silent, store: Store | None = None) -> Fit:
        """See :class:`fitting.optimize.Stage`."""
        names = [p.name for p in fit.problem.parameters.shared]
        if not names or not fit.problem.predictor.noisy or fit.status == "diverged":
            return fit
        problem, point = replace(fit.problem, seeds=1), dict(fit.candidates[0].point)
        own = {"newton": replace(self, rounds=1), "problem": problem, "start": point}
        record = (store or Store()).record(self.name, identity(own | {"key": jax.random.key_data(key).tolist()}))
        around, status, notes = None, "max_steps", fit.notes
        for number in range(self.rounds):
            around = self._measure(problem, point, names, jax.random.fold_in(key, number), number, record, progress)
            if around is None:
                notes = (
                    *notes,
                    "Gradients around the fitted point are not finite: the fit ends where the descent did.",
                )
                return replace(fit, notes=notes)
            step, downhill = _step(around)
            length, reach = np.abs(step).max(), REACH * self.step
            step = step * min(1.0, reach / max(length, 1e-30)) + reach * downhill
            point |= {name: jnp.asarray(point[name] + d) for name, d in zip(names, step, strict=True)}
            around = around._replace(slopes=around.slopes + (around.hessian @ step)[:, None])
            if length <= reach and not downhill.any():
                status = "converged"
                break
        status, sentence = verdict(fit.problem, status, point)
        notes = (*notes, sentence) if sentence and sentence not in notes else notes
        return replace(fit, candidates=(Candidate(point),), around=around, status=status, chosen="newton", notes=notes)

    def _measure(self, problem, point, names, key, number: int, record: Record, progress) -> Surroundings | None:
        """The loss around a point; None where too few gradients are finite."""
        count, flat = len(names), _flat(point)
        seeds = max(self.seeds, (count + 1) // 2 + 3)
        where = np.array([_position(point)[name] for name in names])
        # Rows of a Hadamard matrix: displacements of all parameters at once that tell their effects apart.
        signs = scipy.linalg.hadamard(2 ** math.ceil(math.log2(count + 1)))[:, 1 : count + 1]
        signs = signs[np.arange(seeds) % len(signs)].astype(float)
        moved = np.zeros((2, seeds, len(flat)))
        moved[:, :, where] = self.step * np.array([signs, -signs])
        points = (flat + moved).reshape(2 * seeds, -1)
        keys = jnp.tile(jax.random.split(key, seeds), 2)
        every = gradients_over_devices(problem, point)
        label, found = f"gradients_{number}", list(record.arrays.get(f"gradients_{number}", ()))
        for some in rounds_over_devices(2 * seeds, problem.at_once(gradient=True)):
            if some.start >= len(found):
                found.extend(every(points[some], keys[some])[1][:, where])
                record.save(record.arrays | {label: np.array(found)})
            progress(
                Progress(self.name, number * 2 * seeds + len(found), self.rounds * 2 * seeds, f"round {number + 1}")
            )
        record.arrays[label] = np.array(found)
        pairs = np.array(found, float).reshape(2, seeds, count)
        finite = np.isfinite(pairs).all((0, 2))
        if finite.sum() < max(4, count):
            return None
        pairs, signs = pairs[:, finite], signs[finite]
        return _surroundings(pairs.mean(0), (pairs[0] - pairs[1]) / (2 * self.step), signs, self.step)

    def cost(self, problem: Problem) -> Cost:
        """See :class:`fitting.optimize.Stage`."""
        backward = problem.predictor.cost(gradient=True)
        turns = math.ceil(2 * self.seeds / device_count()) * self.rounds
        return Cost(turns * backward.seconds, len(local_devices()) * backward.bytes)


def gradients_over_devices(problem: Problem, point: Mapping[str, Any]):
    """A function of points (candidate, number) and keys that gives losses and gradients, on all devices.

    Points are those of :func:`jax.flatten_util.ravel_pytree`.
    """
    restore = ravel_pytree({name: jnp.asarray(value) for name, value in point.items()})[1]

    def one(element):
        x, key = element
        return jax.value_and_grad(lambda x: problem.value(restore(x), key)[0])(x)

    every = over_devices(one, problem.at_once(gradient=True))
    return lambda points, keys: every((jnp.asarray(points, jnp.result_type(float)), keys))


def _flat(point) -> np.ndarray:
    return np.asarray(ravel_pytree({name: jnp.asarray(value) for name, value in point.items()})[0], float)


def _position(point) -> dict[str, int]:
    """Where each parameter that all regions share is in a flat point."""
    flat, restore = ravel_pytree({name: jnp.asarray(value) for name, value in point.items()})
    places = restore(jnp.arange(len(flat), dtype=flat.dtype))
    return {name: int(place) for name, place in places.items() if jnp.ndim(place) == 0}


def _surroundings(slopes, differences, signs, step: float) -> Surroundings:
    """From every seed's slopes and differences (seed, parameter); the seeds' curvatures are jackknife pseudo-values."""
    seeds = len(slopes)
    whole = _curvature(differences, signs)
    without = [_curvature(np.delete(differences, s, 0), np.delete(signs, s, 0)) for s in range(seeds)]
    curvatures = np.stack([seeds * whole - (seeds - 1) * each for each in without], axis=-1)
    return Surroundings(slopes.T, curvatures, 0.5 * step**2 * np.diagonal(curvatures).T, step)


def _curvature(differences, signs):
    """The symmetric matrix H for which H sign fits all differences best."""
    count = signs.shape[1]
    upper = np.triu_indices(count)
    basis = np.zeros((len(upper[0]), count, count))
    every = np.arange(len(upper[0]))
    basis[every, upper[0], upper[1]] = basis[every, upper[1], upper[0]] = 1.0
    design = np.einsum("bij,sj->sib", basis, signs).reshape(-1, len(basis))
    return np.tensordot(np.linalg.lstsq(design, differences.ravel(), rcond=None)[0], basis, 1)


def _step(around: Surroundings):
    """Newton's step along the eigenvectors that the loss is curved along beyond noise, and where else it goes downhill.

    The second one is a sum of the other eigenvectors, those along which there is a slope beyond noise.
    """
    values, vectors = np.linalg.eigh(around.hessian)
    along = np.einsum("ik,ijs,jk->ks", vectors, around.curvatures, vectors)
    slopes = vectors.T @ around.slopes
    mean = slopes.mean(1)
    error, doubt = (x.std(1, ddof=1) / np.sqrt(x.shape[1]) for x in (slopes, along))
    rounding = 1e-6 * np.abs(mean).max()
    curved = values > 2 * doubt + rounding
    steep = ~curved & (np.abs(mean) > CERTAIN * error + rounding)
    pace = np.where(curved, 1 / np.where(curved, values, 1.0), 0.0)
    return -vectors @ (pace * mean), -vectors @ (np.sign(mean) * steep)
