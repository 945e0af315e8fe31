"""The local stage of a fit of few parameters: steps to where the linearised prediction is best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fitting.devices import device_count, local_devices, over_devices
from fitting.errors import InputError
from fitting.optimize.descent import verdict
from fitting.optimize.fit import Candidate, Fit
from fitting.optimize.problem import Problem
from fitting.optimize.search import FARTHEST, search_closer
from fitting.optimize.storage import Record, Store, identity
from fitting.predict import Cost
from fitting.progress import Progress, Reporter, silent

#: Damping of the first step, and what a good and a bad step multiply it by.
DAMPING, BETTER, WORSE = 1e-2, 0.2, 5.0

#: Share of the foretold fall of the loss that makes a step a good one.
GOOD = 0.3

#: Seconds that the derivative by one parameter needs, in predictions without derivatives.
TANGENT = 1.5


class Expansion(NamedTuple):
    """The loss around a point if the prediction were linear in the parameters: means over noise seeds.

    Attributes
    ----------
    loss, fc_correlation : float
        At the point.
    gradient : array (parameter,)
    hessian : array (parameter, parameter)
    """

    loss: float
    fc_correlation: float
    gradient: np.ndarray
    hessian: np.ndarray

    def step(self, damping: float) -> np.ndarray:
        """To where the paraboloid is least, shorter along directions that it is hardly curved along."""
        values, vectors = np.linalg.eigh(self.hessian)
        size = np.abs(values)
        return -vectors @ ((vectors.T @ self.gradient) / np.maximum(size + damping * size.max(), 1e-30))

    def foretold(self, step: np.ndarray) -> float:
        """By how much a step lowers the loss."""
        return float(-self.gradient @ step - 0.5 * step @ self.hessian @ step)


class _Path(NamedTuple):
    """Points that were accepted, and what was found there."""

    points: list[np.ndarray]
    expansions: list[Expansion]
    status: str


@dataclass(frozen=True)
class GaussNewton:
    """Levenberg's and Marquardt's damped Gauss-Newton steps, for the parameters that all regions share.

    Derivatives of the whole prediction by every parameter, in forward mode, tell what the loss would be if the
    prediction were linear: a paraboloid, whatever the loss is. The step goes to its minimum and is taken if the loss
    falls; if not, a shorter one is tried. All steps share their noise, so that the loss is a smooth function. Few
    parameters need some ten predictions with derivatives where a descent needs hundreds.

    Where no step lowers the loss, as in chaos, and there has been a search, another one looks closer around what was
    found, and the fit ends with it.

    Parameters
    ----------
    seeds : int
        Noise seeds; predictors without noise need one.
    rounds : int
        Most predictions with derivatives from each candidate.
    reach : float
        Longest step of a parameter in the unconstrained space.
    tolerance : float
        Steps shorter than this are the last.
    name : str

    References
    ----------
    Marquardt, Journal of the Society for Industrial and Applied Mathematics 11 (1963), 431-441. For losses that are no
    sum of squares: Schraudolph, Neural Computation 14 (2002), 1723-1738.
    """

    seeds: int = 2
    rounds: int = 10
    reach: float = 1.0
    tolerance: float = 0.02
    name: str = "gauss-newton"

    def __post_init__(self):
        if self.seeds < 1 or self.rounds < 2:
            raise InputError(f"seeds ({self.seeds}) must be at least 1, and rounds ({self.rounds}) 2")
        if not 0 < self.tolerance < self.reach:
            raise InputError(f"tolerance ({self.tolerance:g}) must lie between 0 and reach ({self.reach:g})")

    def run(self, fit: Fit, key, progress: Reporter = silent, store: Store | None = None) -> Fit:
        """See :class:`fitting.optimize.Stage`.

        Raises
        ------
        InputError
            If a parameter of each region is free: a descent is for those.
        """
        problem = replace(fit.problem, seeds=1)
        by_region = [p.name for p in problem.parameters.free if p not in problem.parameters.shared]
        if by_region:
            raise InputError(f"{', '.join(by_region)}: one value for each region is too many for Gauss-Newton steps")
        names = [p.name for p in problem.parameters.shared]
        keys = jax.random.split(key, self.seeds if problem.predictor.noisy else 1)
        settings = {"gauss-newton": replace(self, rounds=2), "candidates": [c.point for c in fit.candidates]}
        settings |= {"problem": problem, "key": jax.random.key_data(key).tolist()}
        record = (store or Store()).record(self.name, identity(settings))
        expand, paths = _expander(problem, fit.point, names, keys), []
        for number, candidate in enumerate(fit.candidates):
            start = np.array([float(candidate.point[name]) for name in names])
            recorded = _Recorded(expand, record, f"path_{number}")

            def tell(done: int, here: Expansion, number=number):
                text = f"loss {here.loss:.4f} r {here.fc_correlation:.3f}"
                progress(Progress(self.name, number * self.rounds + done, len(fit.candidates) * self.rounds, text))

            paths.append(self._follow(start, recorded, tell))
        losses = np.array([path.expansions[-1].loss for path in paths])
        best = int(np.argmin(np.where(np.isfinite(losses), losses, np.inf)))
        return self._ended(fit, paths[best], names, best, losses, key, progress, store)

    def _follow(self, x: np.ndarray, expand: Callable[[np.ndarray], Expansion], tell) -> _Path:
        here, damping = expand(x), DAMPING
        points, expansions, status = [x], [here], "max_steps"
        tell(1, here)
        for number in range(1, self.rounds):
            if not (np.isfinite(here.gradient).all() and np.isfinite(here.hessian).all()):
                return _Path(points, expansions, "diverged")
            step = here.step(damping)
            step *= min(1.0, self.reach / max(np.abs(step).max(), 1e-30))
            step = np.clip(points[-1] + step, -FARTHEST, FARTHEST) - points[-1]
            there = expand(points[-1] + step)
            falls = here.loss - there.loss
            if falls > GOOD * here.foretold(step):
                damping *= BETTER
            if falls > 0:
                points.append(points[-1] + step)
                expansions.append(there)
                here = there
            else:
                damping *= WORSE
            tell(number + 1, here)
            if np.abs(step).max() < self.tolerance:
                status = "converged"
                break
        return _Path(points, expansions, status)

    def _ended(self, fit: Fit, path: _Path, names, best: int, losses, key, progress, store) -> Fit:
        notes = []
        if len(losses) > 1:
            lowest, highest = np.nanmin(losses), np.nanmax(losses)
            notes.append(f"{len(losses)} starts ended at losses from {lowest:.3f} to {highest:.3f}.")
        if len(path.points) == 1 and path.status != "converged" and fit.search is not None:
            reason = "No step that derivatives foretell to lower the loss does so; the search went on alone."
            return search_closer(fit, reason, key, progress, store)
        every = [fit.candidates[best].point | _point(names, x) for x in path.points]
        values = [fit.problem.parameters.values(point) for point in every]
        history = {name: np.array([getattr(e, name) for e in path.expansions]) for name in ("loss", "fc_correlation")}
        history["finite"] = np.isfinite(history["loss"])
        history |= {f"parameter_{name}": np.array([float(v[name]) for v in values]) for name in names}
        status, sentence = verdict(fit.problem, path.status, every[-1])
        notes += [sentence] if sentence else []
        return replace(
            fit,
            candidates=(Candidate(every[-1]),),
            status=status,
            chosen="gauss-newton",
            history=history,
            notes=(*fit.notes, *notes),
        )

    def cost(self, problem: Problem) -> Cost:
        """See :class:`fitting.optimize.Stage`."""
        forward, count = problem.predictor.cost(), len(problem.parameters.shared)
        seeds = self.seeds if problem.predictor.noisy else 1
        turns = math.ceil(seeds / device_count()) * self.rounds
        together = min(len(local_devices()), seeds)
        return Cost(turns * forward.seconds * (1 + TANGENT * count), together * (1 + count) * forward.bytes)


@dataclass
class _Recorded:
    """An expander that takes from a record what is there, and keeps what is not."""

    expand: Callable[[np.ndarray], Expansion]
    record: Record
    label: str
    calls: int = 0

    def __call__(self, x: np.ndarray) -> Expansion:
        known = [self.record.arrays.get(f"{self.label}_{name}", np.zeros(0)) for name in Expansion._fields]
        if self.calls == len(known[0]):
            new = self.expand(x)
            known = [np.array([*old, value]) for old, value in zip(known, new, strict=True)]
            arrays = {f"{self.label}_{name}": value for name, value in zip(Expansion._fields, known, strict=True)}
            self.record.arrays = self.record.arrays | arrays
            self.record.save(self.record.arrays)
        self.calls += 1
        return Expansion(*(value[self.calls - 1] for value in known))


def _expander(problem: Problem, point: Mapping[str, Any], names, keys):
    """A function of an unconstrained point (parameter,) that expands the loss there."""
    ahead = replace(problem, predictor=problem.predictor.forward_mode())

    def one(key, x):
        def predict(x):
            return ahead.predict(ahead.parameters.values(dict(point) | _point(names, x)), ahead.keys(key)[0])

        def loss(step):
            near = jax.tree.map(lambda value, slope: value + jnp.tensordot(step, slope, 1), prediction, slopes)
            prior = ahead.parameters.penalty(dict(point) | _point(names, x + step))
            return ahead.terms(near).loss + near.penalty + prior

        directions, none = jnp.eye(len(names), dtype=x.dtype), jnp.zeros_like(x)
        prediction, slopes = jax.vmap(lambda d: jax.jvp(predict, (x,), (d,)), out_axes=(None, 0))(directions)
        return loss(none), ahead.terms(prediction).fc_correlation, jax.grad(loss)(none), jax.hessian(loss)(none)

    every = over_devices(one, problem.at_once())

    def expand(x: np.ndarray) -> Expansion:
        found = every(keys, jnp.asarray(x, jnp.result_type(float)))
        return Expansion(*(value.astype(float).mean(0) for value in found))

    return expand


def _point(names, x) -> dict[str, Any]:
    return dict(zip(names, x, strict=True))
