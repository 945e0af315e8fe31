"""The local stage of a fit of few parameters: steps to where the linearised prediction is best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fitting.devices import device_count, local_devices, over_devices
from fitting.errors import InputError
from fitting.objective import Terms
from fitting.optimize.descent import unreliable, verdict
from fitting.optimize.fit import Candidate, Fit
from fitting.optimize.problem import Problem
from fitting.optimize.search import FARTHEST, search_closer
from fitting.optimize.storage import Record, Store, identity
from fitting.predict import Cost, Prediction
from fitting.progress import Progress, Reporter, silent

#: Damping of the first step, and what a good and a bad step multiply it by.
DAMPING, BETTER, WORSE = 1e-2, 0.2, 5.0

#: Share of the foretold fall of the loss that makes a step a good one.
GOOD = 0.3

#: Steps that a fit takes, where it is asked for how long.
TYPICAL = 6

#: Displacement of each parameter in the unconstrained space, for differences of predictions.
DIFFERENCE = 0.1

#: Seconds that an exact derivative by one parameter needs, in predictions.
TANGENT = 1.8


class Expansion(NamedTuple):
    """The loss around a point if the prediction were linear in the parameters: means over noise seeds.

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

    def step(self, damping: float, reach: float) -> np.ndarray:
        """To where the paraboloid is least, shorter along directions that it is hardly curved along; at most ``reach``.

        Where nothing is curved, as for a loss that is linear in the prediction, the damping alone limits a step.
        """
        values, vectors = np.linalg.eigh(self.hessian)
        size = np.abs(values)
        scale = max(size.max(), np.abs(self.gradient).max() / reach, 1e-30)
        step = -vectors @ ((vectors.T @ self.gradient) / (size + damping * scale))
        return step * min(1.0, reach / max(np.abs(step).max(), 1e-30))

    def foretold(self, step: np.ndarray) -> float:
        """By how much a step lowers the loss."""
        return float(-self.gradient @ step - 0.5 * step @ self.hessian @ step)


class _Path(NamedTuple):
    """Points that were accepted, what was found there, and how it ended."""

    points: list[np.ndarray]
    expansions: list[Expansion]
    status: str


@dataclass(frozen=True)
class GaussNewton:
    """Levenberg's and Marquardt's damped Gauss-Newton steps, for the parameters that all regions share.

    Derivatives of the whole prediction by every parameter tell what the loss would be if the prediction were linear: a
    paraboloid, whatever the loss is. The step goes to its minimum, and is taken if the loss falls; if not, a shorter
    one is tried. Each prediction corrects the derivatives along the step that led to it (Broyden), so that they are
    measured anew only where a step fails. All predictions share their noise, which makes the loss a smooth function.
    A few parameters need some ten predictions; the last digits are left to :class:`fitting.optimize.Newton`.

    Where no step lowers the loss, as in chaos, and there has been a search, another one looks closer around what was
    found, and the fit ends with it.

    Parameters
    ----------
    seeds : int
        Noise seeds; predictors without noise need one.
    rounds : int
        Most steps that are tried from each candidate.
    reach : float
        Longest step of a parameter in the unconstrained space.
    tolerance : float
        Steps shorter than this are the last.
    exact : bool
        Measure derivatives in forward mode, not by differences of predictions: another program to compile, and twice
        the time.
    name : str

    References
    ----------
    Marquardt, Journal of the Society for Industrial and Applied Mathematics 11 (1963), 431-441. Derivatives from
    predictions: Broyden, Mathematics of Computation 19 (1965), 577-593; Ralston and Jennrich, Technometrics 20 (1978),
    7-14. For losses that are no sum of squares: Schraudolph, Neural Computation 14 (2002), 1723-1738.
    """

    seeds: int = 2
    rounds: int = 20
    reach: float = 1.0
    tolerance: float = 0.05
    exact: bool = False
    name: str = "gauss-newton"

    def __post_init__(self):
        if self.seeds < 1 or self.rounds < 1:
            raise InputError(f"seeds ({self.seeds}) and rounds ({self.rounds}) must be at least 1")
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
        settings = {"gauss-newton": replace(self, rounds=1), "candidates": [c.point for c in fit.candidates]}
        settings |= {"problem": problem, "key": jax.random.key_data(key).tolist()}
        record = (store or Store()).record(self.name, identity(settings))
        model, paths = _Model(problem, fit.point, names, keys, self.exact), []
        for number, candidate in enumerate(fit.candidates):
            start = np.array([float(candidate.point[name]) for name in names])

            def tell(done: int, here: Expansion, number=number):
                text = f"loss {here.loss:.4f} r {float(here.terms.fc_correlation):.3f}"
                progress(Progress(self.name, number * self.rounds + done, len(fit.candidates) * self.rounds, text))

            paths.append(self._follow(start, model, _Calls(record, f"path_{number}"), tell))
        losses = np.array([path.expansions[-1].loss for path in paths])
        best = int(np.argmin(np.where(np.isfinite(losses), losses, np.inf)))
        return self._ended(fit, paths[best], names, best, losses, key, progress, store)

    def _follow(self, x: np.ndarray, model: _Model, calls: _Calls, tell) -> _Path:
        prediction = calls(model.predict, x)
        slopes = calls(model.slopes, x, prediction)
        here, damping, measured = model.expand(x, prediction, slopes), DAMPING, True
        points, expansions, status = [x], [here], "max_steps"
        tell(0, here)
        for number in range(self.rounds):
            if not (np.isfinite(here.gradient).all() and np.isfinite(here.hessian).all()):
                return _Path(points, expansions, "diverged")
            step = here.step(damping, self.reach)
            step = np.clip(x + step, -FARTHEST, FARTHEST) - x
            if np.abs(step).max() < self.tolerance:
                status = "converged"
                break
            after = calls(model.predict, x + step)
            corrected = _broyden(slopes, step, prediction, after)
            there = model.expand(x + step, after, corrected)
            falls = here.loss - there.loss
            if falls > GOOD * here.foretold(step):
                damping *= BETTER
            if falls > 0:
                x, prediction, slopes, here, measured = x + step, after, corrected, there, False
                points.append(x)
                expansions.append(here)
            elif measured:
                damping *= WORSE
            else:
                slopes = calls(model.slopes, x, prediction)
                here, measured = model.expand(x, prediction, slopes), True
            tell(number + 1, here)
        return _Path(points, expansions, status)

    def _ended(self, fit: Fit, path: _Path, names, best: int, losses, key, progress, store) -> Fit:
        notes = []
        if len(losses) > 1:
            lowest, highest = np.nanmin(losses), np.nanmax(losses)
            notes.append(f"{len(losses)} starts ended at losses from {lowest:.3f} to {highest:.3f}.")
        if len(path.points) == 1 and path.status != "converged" and fit.search is not None:
            reason = "No step that derivatives foretell to lower the loss does so; the search went on alone."
            return search_closer(fit, reason, key, progress, store)
        every = [fit.candidates[best].point | dict(zip(names, map(jnp.asarray, x), strict=True)) for x in path.points]
        values = [fit.problem.parameters.values(point) for point in every]
        terms = [expansion.terms for expansion in path.expansions]
        history = {name: np.array([float(getattr(t, name)) for t in terms]) for name in Terms._fields}
        history["finite"] = np.isfinite(history["loss"])
        history |= {f"parameter_{name}": np.array([float(v[name]) for v in values]) for name in names}
        status, sentence = verdict(fit.problem, path.status, every[-1])
        notes += [sentence] if sentence else []
        notes += unreliable(history["reliability"][history["finite"]])
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
        one, count = problem.predictor.cost(), len(problem.parameters.shared)
        seeds, devices = self.seeds if problem.predictor.noisy else 1, device_count()
        measured = (
            math.ceil(seeds / devices) * (1 + TANGENT * count) if self.exact else math.ceil(seeds * count / devices)
        )
        predictions = 2 * measured + math.ceil(seeds / devices) * (1 + TYPICAL)
        return Cost(predictions * one.seconds, len(local_devices()) * (1 + self.exact * count) * one.bytes)


class _Model:
    """What a fit asks of a problem: predictions at unconstrained points, their slopes, and the loss around them.

    Predictions are trees of arrays (seed, ...), slopes of arrays (seed, parameter, ...).
    """

    def __init__(self, problem: Problem, point: Mapping[str, Any], names, keys, exact: bool):
        ahead = replace(problem, predictor=problem.predictor.forward_mode()) if exact else problem
        self.keys, self.exact, count = keys, exact, len(names)

        def at(x):
            return dict(point) | dict(zip(names, x, strict=True))

        def predict(element):
            x, key = element
            return ahead.predict(ahead.parameters.values(at(x)), ahead.keys(key)[0])

        def tangents(element):
            x, key = element
            along = jax.vmap(lambda d: jax.jvp(lambda x: predict((x, key)), (x,), (d,))[1])
            return along(jnp.eye(count, dtype=x.dtype))

        def expand(x, prediction, slopes):
            def loss(step):
                near = jax.tree.map(lambda value, slope: value + jnp.tensordot(step, slope, 1), prediction, slopes)
                terms = problem.terms(near)
                total = terms.loss + near.penalty + problem.parameters.penalty(at(x + step))
                return total, terms._replace(loss=total)

            none = jnp.zeros_like(x)
            gradient, terms = jax.grad(loss, has_aux=True)(none)
            return terms, gradient, jax.hessian(lambda step: loss(step)[0])(none)

        self._predict = over_devices(predict, problem.at_once())
        self._tangents = over_devices(tangents, problem.at_once())
        self._expand = jax.jit(jax.vmap(expand, in_axes=(None, 0, 0)))

    def _at(self, points):
        """Points (point,) x seeds, as elements."""
        points = np.repeat(np.asarray(points, jnp.result_type(float)), len(self.keys), axis=0)
        return jnp.asarray(points), jnp.tile(self.keys, len(points) // len(self.keys))

    def predict(self, x):
        """Predictions of every seed."""
        return self._predict(self._at([x]))

    def slopes(self, x, prediction):
        """Derivatives of the prediction of every seed by every parameter."""
        if self.exact:
            return self._tangents(self._at([x]))
        moves = np.where(x > 0, -DIFFERENCE, DIFFERENCE)
        moved = self._predict(self._at(x + np.diag(moves)))

        def slope(there, here):
            there = np.moveaxis(there.reshape(len(x), len(self.keys), *here.shape[1:]), 0, 1)
            return (there - here[:, None]) / moves.reshape(-1, *[1] * (here.ndim - 1))

        return jax.tree.map(slope, moved, prediction)

    def expand(self, x, prediction, slopes) -> Expansion:
        """The loss around a point, by its predictions and their slopes."""
        expansions = self._expand(jnp.asarray(x, jnp.result_type(float)), prediction, slopes)
        return Expansion(*jax.tree.map(lambda each: np.asarray(each, float).mean(0), expansions))


class _Calls:
    """Calls functions one after the other, and takes from a record what was called before."""

    def __init__(self, record: Record, label: str):
        self.record, self.label, self.count = record, label, 0

    def __call__(self, function, *arguments):
        label = f"{self.label}_{self.count}_"
        self.count += 1
        known = [self.record.arrays[name] for name in sorted(self.record.arrays) if name.startswith(label)]
        if known:
            return Prediction(known[0], known[1] if len(known) > 2 else None, known[-1])
        result = function(*arguments)
        leaves = {f"{label}{i}": leaf for i, leaf in enumerate(jax.tree.leaves(result))}
        self.record.arrays = dict(self.record.arrays) | leaves
        self.record.save(self.record.arrays)
        return result


def _broyden(slopes, step, before, after):
    """Slopes, corrected so that they foretell what a step has led to."""

    def corrected(slope, before, after):
        missing = after - before - np.tensordot(np.moveaxis(slope, 1, -1), step, 1)
        return slope + np.multiply.outer(step, missing).swapaxes(0, 1) / (step @ step)

    return jax.tree.map(corrected, slopes, before, after)
