"""The local stage of a fit of few parameters: steps to where the linearised prediction is best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fitting.devices import local_devices, turns
from fitting.errors import InputError
from fitting.objective import Terms
from fitting.optimize.descent import unreliable, verdict
from fitting.optimize.expansion import Expansion, Linearized, Surroundings, corrected, foretold, matters
from fitting.optimize.fit import Candidate, Fit, ranked
from fitting.optimize.interrupt import Interrupt
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

#: Seconds that an exact derivative by one parameter needs, in predictions.
TANGENT = 1.25

#: Noise seeds whose second derivatives tell whether those of the others are needed.
FIRST = 2

#: Scans reach so far on both sides in the unconstrained space. What is closer than the second one is not looked at, and
#: has much the same slopes. Those that intervals follow from are measured as close as the third.
SCANNED, CLOSE, CLOSEST = 3.0, 0.3, 0.1

#: Most noise seeds that tell nothing of their own scatter.
FEW = 3


class _Path(NamedTuple):
    """Points that were accepted, what was found there, and how it ended."""

    points: list[np.ndarray]
    expansions: list[Expansion]
    status: str
    end: tuple  # prediction and slopes of the last point
    measured: np.ndarray  # where slopes were measured last,
    how: str  # and how


@dataclass(frozen=True)
class GaussNewton:
    """Levenberg's and Marquardt's damped Gauss-Newton steps, for the parameters that all regions share.

    Derivatives of the whole prediction by every parameter tell what the loss would be if the prediction were linear: a
    paraboloid, whatever the loss is. The step goes to its minimum, and is taken if the loss falls; if not, a shorter
    one is tried. Each prediction corrects the derivatives along the step that led to it (Broyden), so that they are
    measured anew only where a step fails. All predictions share their noise, which makes the loss a smooth function.
    A few parameters need some ten predictions.

    With more than three noise seeds the slopes and curvatures of every seed are kept: intervals follow from them
    (:func:`fitting.evaluate.identifiability`). Where second derivatives of the predictions of two seeds would change a
    curvature by more than a quarter, as they do where a model explains little, those of all seeds are measured, and
    the curvatures hold them.

    Where no step lowers the loss, as in chaos, and there has been a search, another one looks closer around what was
    found, and the fit ends with it. With few seeds, that is left to the next stage.

    Parameters
    ----------
    seeds : int
        Noise seeds; predictors without noise need one. Of four or more, as many as the parameters need at least.
    rounds : int
        Most steps that are tried from each candidate.
    reach : float
        Longest step of a parameter in the unconstrained space.
    tolerance : float
        Steps shorter than this are the last.
    scan : int
        Values of each parameter, from bound to bound, at which to look for a lower loss when steps have ended: losses
        have several minima where delays put regions in and out of phase. None are looked at if 0.
    exact : bool
        Measure derivatives in forward mode, through the simulation, not by differences of predictions. If a
        step shows that they do not foretell how the prediction changes, as in chaos, differences replace them.
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
    scan: int = 8
    exact: bool = False
    name: str = "gauss-newton"

    def __post_init__(self):
        if self.seeds < 1 or self.rounds < 1:
            raise InputError(f"seeds ({self.seeds}) and rounds ({self.rounds}) must be at least 1")
        if self.scan < 0:
            raise InputError(f"scan must not be negative; got {self.scan}")
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
        if not names:
            return fit
        keys = jax.random.split(key, self._seeds(problem))
        settings = {"gauss-newton": replace(self, rounds=1), "candidates": [c.point for c in fit.candidates]}
        settings |= {"problem": problem, "key": jax.random.key_data(key).tolist()}
        calls = _Calls((store or Store()).record(self.name, identity(settings)))
        model = Linearized(problem, fit.point, names, keys)

        def tell(done: int, x: np.ndarray, here: Expansion):
            text = f"loss {here.loss:.4f} r {float(here.terms.fc_correlation):.3f}"
            done, total = len(paths) * self.rounds + done, len(fit.candidates) * self.rounds
            values = problem.parameters.reported(model.point | dict(zip(names, x, strict=True)))
            progress(Progress(self.name, done, total, text, values))

        paths: list[_Path] = []
        around = fit.around
        with Interrupt() as calls.interrupt:
            for candidate in fit.candidates:
                start = np.array([float(candidate.point[name]) for name in names])
                paths.append(self._everywhere(start, model, calls, tell))
                if calls.interrupt.asked:
                    break
            best = int(np.argmin(ranked(np.array([path.expansions[-1].loss for path in paths]))))
            if self.measures and problem.predictor.noisy and paths[best].status != "diverged":
                around = self._around(paths[best], model, calls)
            if calls.interrupt.asked:
                # Be it by the last step: what follows is not done either.
                paths = [path._replace(status="interrupted") for path in paths]
        tell(0, paths[-1].points[-1], paths[-1].expansions[-1])
        return self._ended(replace(fit, around=around), paths, best, model, key, progress, store)

    def _seeds(self, problem: Problem) -> int:
        if not problem.predictor.noisy:
            return 1
        # The covariance of slopes of more parameters needs more seeds.
        return max(self.seeds, len(problem.parameters.shared) + 3) if self.measures else self.seeds

    @property
    def measures(self) -> bool:
        """Whether there are enough noise seeds for intervals."""
        return self.seeds > FEW

    def _everywhere(self, start: np.ndarray, model: Linearized, calls: _Calls, tell) -> _Path:
        """Follow steps, and go on from where the loss turns out to be lower far away along one parameter."""
        path = self._follow(start, model, calls, tell)
        while self.scan and path.status in ("converged", "stalled", "max_steps") and not calls.interrupt.asked:
            x = path.points[-1]
            moved = [(i, v) for i in range(len(x)) for v in np.linspace(-SCANNED, SCANNED, self.scan)]
            points = np.array([x, *(np.where(np.arange(len(x)) == i, v, x) for i, v in moved if abs(v - x[i]) > CLOSE)])
            losses = np.asarray(calls(model.losses, points))
            lowest = int(np.argmin(ranked(losses)))
            if lowest == 0:
                break
            other = self._follow(points[lowest], model, calls, tell)
            if not other.expansions[-1].loss < path.expansions[-1].loss:
                break
            path = _Path(path.points + other.points, path.expansions + other.expansions, *other[2:])
        return path

    def _follow(self, x: np.ndarray, model: Linearized, calls: _Calls, tell) -> _Path:
        how = self._how
        prediction, slopes = calls.several(2, model.linearized, x, how)
        here, damping, measured, trusted = model.expand(x, prediction, slopes), DAMPING, x, how != "exact"
        points, expansions, status = [x], [here], "max_steps"
        tell(0, x, here)
        for number in range(self.rounds):
            if not here.finite or calls.interrupt.asked:
                status = "interrupted" if calls.interrupt.asked else "diverged"
                break
            step = here.step(damping, self.reach, (-FARTHEST - x, FARTHEST - x))
            last, near = np.abs(step).max() < self.tolerance, np.abs(x - measured).max() < CLOSE
            if last and near and trusted:
                status = "converged" if damping <= DAMPING else "stalled"
                break
            # Slopes that come from far away may be wrong enough to stop a step short.
            again = last and not near
            if not again:
                after = calls(model.predict, x + step)
                there = model.expand(x + step, after, corrected(slopes, step, prediction, after))
                falls = here.loss - there.loss
                if how == "exact":
                    trusted = foretold(slopes, step, prediction, after)
                    how, again = (how, False) if trusted else ("two-sided", True)
                if falls > GOOD * here.foretold(step):
                    damping *= BETTER
                if falls > 0:
                    slopes = corrected(slopes, step, prediction, after)
                    x, prediction, here = x + step, after, there
                    points.append(x)
                    expansions.append(here)
                elif x is not measured:
                    again = True
                elif not again:
                    damping *= WORSE
            if again:
                slopes = calls(model.slopes, x, prediction, how)
                here, measured, trusted = model.expand(x, prediction, slopes), x, trusted or how != "exact"
                expansions[-1] = here
            tell(number, x, here)
        return _Path(points, expansions, status, (prediction, slopes), measured, how)

    @property
    def _how(self) -> str:
        if self.exact:
            return "exact"
        return "two-sided" if self.measures else "one-sided"

    def _around(self, path: _Path, model: Linearized, calls: _Calls) -> Surroundings:
        """The loss around the end of a path.

        Second derivatives of predictions matter as far as residuals do. Two seeds tell, but are too few to count them.
        """
        x, (prediction, slopes) = path.points[-1], path.end
        if calls.interrupt.asked:
            return model.surroundings(x, prediction, slopes)
        if np.abs(x - path.measured).max() > CLOSEST:
            slopes = calls(model.slopes, x, prediction, path.how)
        some = calls(model.second_derivatives, x, prediction, slice(FIRST))
        mean = jax.tree.map(lambda leaf: np.broadcast_to(leaf.mean(0), (len(model.keys), *leaf.shape[1:])), some)
        straight, curved = model.expand(x, prediction, slopes), model.expand(x, prediction, slopes, mean)
        if calls.interrupt.asked or not matters(straight.hessian, curved.hessian):
            return model.surroundings(x, prediction, slopes)
        others = calls(model.second_derivatives, x, prediction, slice(FIRST, None))
        second = jax.tree.map(lambda *parts: np.concatenate(parts), some, others)
        return model.surroundings(x, prediction, slopes, second)

    def _ended(self, fit: Fit, paths: list[_Path], best: int, model: Linearized, key, progress, store) -> Fit:
        """The fit after the best path."""
        losses, notes, names = np.array([path.expansions[-1].loss for path in paths]), [], model.names
        path = paths[best]
        if len(losses) > 1:
            lowest, highest = np.nanmin(losses), np.nanmax(losses)
            notes.append(f"{len(losses)} starts ended at losses from {lowest:.3f} to {highest:.3f}.")
        if (
            len(path.points) == 1
            and path.status not in ("converged", "interrupted", *(() if self.measures else ("stalled",)))
            and fit.search is not None
            and len(fit.history.get("loss", ())) <= 1
        ):
            reason = "No step that derivatives foretell to lower the loss does so; the search went on alone."
            return search_closer(fit, reason, key, progress, store)
        every = [fit.candidates[best].point | dict(zip(names, map(jnp.asarray, x), strict=True)) for x in path.points]
        values = [fit.problem.parameters.reported(point) for point in every]
        terms = [expansion.terms for expansion in path.expansions]
        history = {name: np.array([float(getattr(each, name)) for each in terms]) for name in Terms._fields}
        history["finite"] = np.isfinite(history["loss"])
        history |= {f"parameter_{name}": np.array([float(v[name]) for v in values]) for name in names}
        if "loss" in fit.history:
            # Steps of an earlier stage of the same kind come first.
            history = {name: np.concatenate([fit.history[name], history[name]]) for name in history}
        stalled = path.status == "stalled"
        if stalled:
            notes.append("No step lowers the loss any more, although derivatives foretell that one would.")
        status, sentence = verdict(fit.problem, "max_steps" if stalled else path.status, every[-1])
        notes += [sentence] if sentence and sentence not in fit.notes else []
        notes += unreliable(
            history["reliability"][history["finite"]][-1:], len(model.keys) * path.end[0].replicates.shape[1]
        )
        return replace(
            fit,
            candidates=(Candidate(every[-1]),),
            status=status,
            chosen="gauss-newton",
            finished=status == "interrupted",
            history=history,
            notes=(*fit.notes, *(note for note in notes if note not in fit.notes)),
        )

    def cost(self, problem: Problem, candidates: int = 1) -> Cost:
        """See :class:`fitting.optimize.Stage`."""
        one, count, seeds = problem.predictor.cost(), len(problem.parameters.shared), self._seeds(problem)
        batch, sides = problem.at_once(), 2 if self.measures else 1
        differences = turns(seeds * count * sides, batch)
        slopes = turns(seeds, batch) * (1 + TANGENT * count) if self.exact else differences
        second = turns(FIRST * count * (count + 1), batch) if self.measures else 0
        predictions = slopes + turns(seeds, batch) * TYPICAL + turns(count * self.scan, batch) + second
        return Cost(predictions * one.seconds, len(local_devices()) * (1 + self.exact * count) * one.bytes)


@dataclass(frozen=True)
class Refine(GaussNewton):
    """The end of a noisy fit: Gauss-Newton steps by exact derivatives, averaged over many noise seeds, and measured.

    Predictors without noise are left as they are.
    """

    seeds: int = 8
    rounds: int = 8
    tolerance: float = 0.01
    scan: int = 0
    exact: bool = True
    name: str = "refine"

    def run(self, fit: Fit, key, progress: Reporter = silent, store: Store | None = None) -> Fit:
        """See :class:`fitting.optimize.Stage`."""
        return super().run(fit, key, progress, store) if fit.problem.predictor.noisy else fit


class _Calls:
    """Calls functions one after the other, and takes from a record what was called before."""

    def __init__(self, record: Record):
        self.record, self.count, self.interrupt = record, 0, Interrupt()

    def __call__(self, function, *arguments):
        """What a function returns: an array or predictions."""
        return self.several(1, lambda: (function(*arguments),))[0]

    def several(self, count: int, function, *arguments) -> Sequence:
        """As many such results, which one call returns."""
        labels = [f"call_{self.count + i:03d}_" for i in range(count)]
        self.count += count
        known = [self._known(label) for label in labels]
        if all(result is not None for result in known):
            return known
        # In the order in which they are read again: sums over another one differ in their last bits.
        results = [jax.tree.map(lambda leaf: np.asarray(leaf, order="C"), each) for each in function(*arguments)]
        arrays = dict(self.record.arrays)
        for label, result in zip(labels, results, strict=True):
            arrays |= {f"{label}{i}": leaf for i, leaf in enumerate(jax.tree.leaves(result))}
        self.record.arrays = arrays
        self.record.save(arrays)
        return results

    def _known(self, label: str):
        # NumPy's arrays, as functions return them: JAX would compute what follows to other bits.
        leaves: list[Any] = [value for name, value in sorted(self.record.arrays.items()) if name.startswith(label)]
        if len(leaves) > 1:
            return Prediction(leaves[0], leaves[1] if len(leaves) > 2 else None, leaves[-1])
        return leaves[0] if leaves else None
