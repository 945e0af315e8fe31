"""The local stage of a fit: Optax on the unconstrained parameters."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fitting.devices import local_devices, turns
from fitting.errors import InputError
from fitting.objective import least_reliability
from fitting.optimize.fit import Candidate, Fit, ranked
from fitting.optimize.interrupt import Interrupt
from fitting.optimize.problem import Problem, repeated
from fitting.optimize.storage import Record, Store, identity
from fitting.predict import Cost, Predictor
from fitting.progress import Progress, Reporter, silent

#: Least seconds between two savings.
SAVE_SECONDS = 1.0

#: Noise seeds on which the candidates for the result are compared.
CHECKS = 3

Optimizer: TypeAlias = optax.GradientTransformation

#: Numbers that are kept of each step.
MEASURES = ("loss", "fc_correlation", "spectrum", "reliability", "gradient_norm", "finite", "seconds")

#: What is kept besides: whether modes grew when that was last asked.
KEPT = (*MEASURES, "grows")

#: Steps after which a predictor without noise is asked whether modes grow.
STABILITY_STEPS = 100

#: Unconstrained values beyond which a parameter counts as being at its bound: within a hundredth of their distance.
AT_BOUND = 4.6

#: Settings that say how far a descent goes, not which way: one that is gone on with may have others.
LENGTHS = ("steps", "patience", "tolerance", "max_bad_steps", "average", "name")


def _checked(learning_rate) -> float:
    try:
        rate = float(learning_rate)
    except (TypeError, ValueError):
        rate = np.nan
    if not rate > 0:
        raise InputError(f"learning_rate must be a positive number; got {learning_rate!r}")
    return rate


def adam(steps: int = 0, learning_rate: float = 0.3, final: float = 0.1) -> Optimizer:
    """Adam that forgets large early gradients soon: later ones are a hundred times smaller.

    The learning rate falls to the share ``final`` along a cosine over ``steps`` steps, or stays where there are none.
    """
    rate = _checked(learning_rate)
    rate = optax.cosine_decay_schedule(rate, steps, alpha=final) if steps else rate
    return optax.adam(rate, b1=0.8, b2=0.9)


def sgd(steps: int = 0, learning_rate: float = 0.5, final: float = 1.0, momentum: float = 0.8) -> Optimizer:
    """Descent with momentum; its learning rate falls as that of :func:`adam`, or stays where ``final`` is 1."""
    rate = _checked(learning_rate)
    rate = optax.cosine_decay_schedule(rate, steps, alpha=final) if steps and final != 1 else rate
    return optax.sgd(rate, momentum=momentum)


@dataclass(frozen=True)
class Descent:
    """Follow the gradient from the best candidate.

    A step whose loss or gradient is not finite is counted and leaves the optimiser as it was; the
    parameters go halfway back to where the loss was last finite. At the end the best step, the average of the last
    points and the first point are compared, on noise new to all three where there is noise.

    Parameters
    ----------
    optimizer : optax.GradientTransformation, optional
        :func:`fitting.optimize.adam` unless given.
    steps : int
        Largest number of steps.
    patience : int
        The fit has converged when the mean loss of the last ``patience`` steps is no longer better
        than that of the ``patience`` steps before, by more than the noise in that difference.
    tolerance : float
        Smallest improvement that counts, in units of the loss.
    average : int
        The last so many points are averaged into one more candidate for the result: averaging
        removes the noise that fresh seeds put on each step (Polyak and Juditsky, 1992).
    fresh_noise : bool
        Draw new noise at every step; otherwise all steps share one key.
    max_bad_steps : int
        Give up after so many steps in a row whose loss or gradient is not finite.
    clip : float
        Largest gradient norm; longer gradients are shortened to it.
    name : str
    """

    optimizer: Optimizer | None = None
    steps: int = 10
    patience: int = 10
    tolerance: float = 1e-3
    average: int = 10
    fresh_noise: bool = True
    max_bad_steps: int = 5
    clip: float = 1.0
    name: str = "descent"

    def __post_init__(self):
        if self.steps < 1 or self.patience < 2 or self.average < 1:
            raise InputError(
                f"steps ({self.steps}) and average ({self.average}) must be at least 1, patience ({self.patience}) 2"
            )
        if self.max_bad_steps < 1 or not self.clip > 0 or not self.tolerance >= 0:
            raise InputError(
                f"max_bad_steps ({self.max_bad_steps}) must be at least 1, clip ({self.clip:g}) positive, "
                f"tolerance ({self.tolerance:g}) not negative"
            )

    def run(self, fit: Fit, key, progress: Reporter = silent, store: Store | None = None) -> Fit:
        """See :class:`fitting.optimize.Stage`."""
        problem, step_key, check_key = fit.problem, *jax.random.split(key)
        health = fit.gradients
        seeds = max(problem.seeds, health.seeds if health is not None and health.usable else 1)
        own = self.optimizer or adam(self.steps)
        optimizer = optax.chain(optax.clip_by_global_norm(self.clip), own)
        start = jax.tree.map(jnp.asarray, fit.candidates[0].point)
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in LENGTHS}
        settings |= {"optimizer": own, "problem": replace(problem, seeds=seeds), "start": start}
        settings |= {"key": jax.random.key_data(key).tolist()}
        record = (store or Store()).record(self.name, identity(settings))
        rows, point, memory = _restore(record, start, optimizer.init(start))
        progress(Progress(self.name, len(rows), self.steps, "compiling"))
        steps = guarded_steps(problem, optimizer, seeds)
        status, rows, point = self._descend(problem, steps, (rows, point, memory), step_key, record, progress)
        chosen, best = self._choose(problem, seeds, rows, point, start, check_key)
        status, sentence = verdict(problem, status, best)
        bad = sum(not row["finite"] for row in rows)
        notes = [sentence] if sentence else []
        if chosen == "start":
            noise = " on new noise" if problem.predictor.noisy else ""
            notes.append(f"No step was better than the start{noise}, so the start is the result.")
        if bad:
            notes.append(f"{bad} of {len(rows)} steps had a loss or gradient that was not finite and were skipped.")
        notes.extend(unreliable([row["reliability"] for row in _finite(rows)], problem.predictor.replicates))
        return replace(
            fit,
            candidates=(Candidate(best),),
            status=status,
            chosen=chosen,
            finished=status == "interrupted",
            history=_history(rows),
            bad_steps=bad,
            around=None,  # of another point
            notes=(*fit.notes, *notes),
        )

    def _descend(self, problem: Problem, steps: Callable, state, key, record: Record, progress: Reporter):
        """Take steps until one of the reasons to stop; returns it, a row for each step, and the last point."""
        rows, point, memory = state
        saved = time.perf_counter()
        with Interrupt() as interrupt:
            while True:
                status = self._reason_to_stop(rows, interrupt)
                if status:
                    record.save(_packed(rows, point, memory))
                    return status, rows, point
                tick = time.perf_counter()
                here = jax.random.fold_in(key, len(rows) if self.fresh_noise else 0)
                values = _plain(problem.parameters.reported(point))
                ((moved, new_memory, terms, norm, finite),) = jax.block_until_ready(steps([(point, memory)], here))
                seconds = time.perf_counter() - tick
                numbers = (*map(float, (*terms, norm)), bool(finite), seconds)
                row: dict[str, Any] = dict(zip(MEASURES, numbers, strict=True))
                row["point"], row["values"], row["grows"] = _plain(point), values, False
                rows.append(row)
                point, memory = moved, new_memory
                good = _finite(rows)
                if not row["finite"] and good:
                    # Halfway back to where the loss was last finite.
                    point = {name: (point[name] + good[-1]["point"][name]) / 2 for name in point}
                if not problem.predictor.noisy and len(rows) % STABILITY_STEPS == 0:
                    row["grows"] = problem.predictor.unstable(problem.parameters.values(point)) > 0
                # Quick steps are not worth saving one by one: what a kill loses is computed again, to the same bits.
                if time.perf_counter() - saved > SAVE_SECONDS:
                    record.save(_packed(rows, point, memory))
                    saved = time.perf_counter()
                text = f"loss {row['loss']:.4f} r {row['fc_correlation']:.3f}"
                progress(Progress(self.name, len(rows), self.steps, text, values))

    def _reason_to_stop(self, rows, interrupt: Interrupt) -> str:
        last = rows[-self.max_bad_steps :]
        if len(last) == self.max_bad_steps and not any(row["finite"] for row in last):
            return "diverged"
        asked = [row["grows"] for row in rows[STABILITY_STEPS - 1 :: STABILITY_STEPS]]
        if len(asked) > 1 and all(asked[-2:]):
            return "unstable"
        # Be it by the last step: what follows is not done either.
        if interrupt.asked:
            return "interrupted"
        if len(rows) >= self.steps:
            return "max_steps"
        return "converged" if self._converged(rows) else ""

    def _converged(self, rows) -> bool:
        """Whether the loss has stopped falling, judged against its own scatter from step to step."""
        losses, n = [row["loss"] for row in _finite(rows)], self.patience
        if len(losses) < 2 * n:
            return False
        before, after = np.array(losses[-2 * n : -n]), np.array(losses[-n:])
        noise = np.sqrt(before.var(ddof=1) / n + after.var(ddof=1) / n)
        return bool(before.mean() - after.mean() < max(self.tolerance, noise))

    def _choose(self, problem: Problem, seeds: int, rows, last, start, key):
        """The best of the average of the last points, the best step and the start, on noise new to all of them."""
        good = _finite(rows)
        if not good:
            return "start", start
        recent = [row["point"] for row in good[-self.average :]] + [_plain(last)]
        average = {name: jnp.asarray(np.mean([point[name] for point in recent], axis=0)) for name in last}
        lowest = min(good, key=lambda row: row["loss"])
        best = jax.tree.map(jnp.asarray, lowest["point"])
        # The start comes before the best step, which it may be.
        candidates = {"average": average, "start": start, "best step": best}
        if problem.predictor.noisy:
            each = CHECKS * seeds
            points = jax.tree.map(lambda *x: jnp.repeat(jnp.stack(x), each, axis=0), *candidates.values())
            terms, _ = problem.evaluated(points, jnp.tile(jax.random.split(key, each), len(candidates)))
            losses = np.asarray(terms.loss).reshape(len(candidates), each).mean(1)
        else:
            # Without noise the others' losses are known, and the program of the steps tells this one.
            terms, _ = problem.gradients(repeated(average, 1), key[None])
            losses = np.array([terms.loss[0], rows[0]["loss"], lowest["loss"]])
        chosen = list(candidates)[int(np.argmin(ranked(losses)))]
        return chosen, candidates[chosen]

    def cost(self, problem: Problem, candidates: int = 1) -> Cost:
        """See :class:`fitting.optimize.Stage`."""
        forward, backward = problem.predictor.cost(), problem.predictor.cost(gradient=True)
        each = turns(problem.seeds, problem.at_once(gradient=True))
        checks = turns(3 * CHECKS, problem.at_once()) * forward.seconds
        seconds = self.steps * each * backward.seconds + (checks if problem.predictor.noisy else backward.seconds)
        return Cost(seconds, min(len(local_devices()), problem.seeds) * backward.bytes)


@dataclass(frozen=True)
class Polish(Descent):
    """Follow another predictor's gradient from where the fit is: simulations, say, after linear response.

    Parameters
    ----------
    predictor : Predictor
        Of the fit's network.
    """

    predictor: Predictor | None = None
    name: str = "polish"

    def run(self, fit: Fit, key, progress: Reporter = silent, store: Store | None = None) -> Fit:
        """See :class:`fitting.optimize.Stage`."""
        if self.predictor is None:
            raise InputError("a polish needs the predictor to polish with")
        predictor = replace(self.predictor, network=fit.problem.network)
        fit = replace(fit, problem=replace(fit.problem, predictor=predictor), gradients=None)
        return super().run(fit, key, progress, store)

    def cost(self, problem: Problem, candidates: int = 1) -> Cost:
        """See :class:`fitting.optimize.Stage`."""
        return super().cost(replace(problem, predictor=self.predictor or problem.predictor), candidates)


def verdict(problem: Problem, status: str, point) -> tuple[str, str]:
    """The status of a descent that ended at a point, and a sentence where it is not what it seems."""
    if status in ("diverged", "interrupted"):
        return status, ""
    growing = problem.predictor.unstable(problem.parameters.values(point))
    if growing:
        return "unstable", f"The fit ended where {growing} modes grow. Lower k or drive, or raise the damping."
    ends = {p.name: float(point[p.name]) for p in problem.parameters.shared if abs(float(point[p.name])) > AT_BOUND}
    if ends:
        words = ", ".join(f"{name} at its {'upper' if x > 0 else 'lower'} bound" for name, x in ends.items())
        return (
            "at_bounds",
            f"The fit ended with {words}: widen it, or fix the parameter. A target without signal ends there, too.",
        )
    return status, ""


def unreliable(reliabilities, replicates: int) -> list[str]:
    """What to say where predictions, by the share that replicates have in common, are too noisy for the loss."""
    reliability = float(np.median(reliabilities)) if len(reliabilities) else 1.0
    least = least_reliability(replicates)
    if reliability >= least:
        return []
    return [
        f"Parts of a prediction share {max(reliability, 0.0):.0%} of the variance of their connectivity, less than the "
        f"{least:.0%} that the loss can correct for: it was biased towards strong connectivity. Lengthen "
        "the simulation, or leave out the low-pass of envelopes."
    ]


def guarded_steps(problem: Problem, optimizer: Optimizer, seeds: int):
    """One step of each of several candidates, with the same noise seeds for all of them.

    A function of pairs of a point and the optimiser's memory, and of a key, that returns ``(point, memory, terms, norm,
    finite)`` for each; one stays where its loss or gradient is not finite.
    """

    @jax.jit
    def advance(point, memory, terms, gradient):
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(terms.loss) & jnp.isfinite(norm)
        safe = jax.tree.map(lambda g: jnp.where(finite, g, 0.0), gradient)
        updates, new_memory = optimizer.update(safe, memory, point)
        new_point = optax.apply_updates(point, updates)
        keep = lambda new, old: jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)  # noqa: E731
        return keep(new_point, point), keep(new_memory, memory), terms, norm, finite

    def steps(states, key):
        count = len(states)
        points = jax.tree.map(lambda *each: np.repeat(np.stack(each), seeds, axis=0), *(point for point, _ in states))
        every = problem.gradients(points, jnp.tile(jax.random.split(key, seeds), count))
        means = jax.tree.map(lambda x: x.reshape(count, seeds, *x.shape[1:]).mean(1), every)
        each = jax.device_put([jax.tree.map(lambda x: x[number], means) for number in range(count)])  # noqa: B023
        return [advance(*state, *own) for state, own in zip(states, each, strict=True)]

    return steps


def _plain(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(value) for name, value in tree.items()}


def _finite(rows) -> list[dict[str, Any]]:
    return [row for row in rows if row["finite"]]


def _history(rows) -> dict[str, np.ndarray]:
    if not rows:
        return {}
    history = {name: np.array([row[name] for row in rows]) for name in MEASURES}
    return history | {
        f"parameter_{name}": np.stack([row["values"][name] for row in rows]) for name in rows[0]["values"]
    }


def _packed(rows, point, memory) -> dict[str, np.ndarray]:
    """Everything that a descent goes on from, as arrays."""
    arrays = {f"state_{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves((point, memory)))}
    if rows:
        arrays |= {name: np.array([row[name] for row in rows]) for name in KEPT}
        for group in ("point", "values"):
            arrays |= {f"{group}:{n}": np.stack([np.asarray(row[group][n]) for row in rows]) for n in rows[0][group]}
    return arrays


def _restore(record: Record, point, memory):
    """Rows, point and the optimiser's memory from a record; as given where it is empty."""
    arrays = record.arrays
    if not arrays:
        return [], point, memory
    old, structure = jax.tree.flatten((point, memory))
    leaves = [arrays.get(f"state_{i}", np.zeros(0)) for i in range(len(old))]
    point, memory = jax.tree.unflatten(structure, [jnp.asarray(a, b.dtype) for a, b in zip(leaves, old, strict=True)])
    rows = []
    for i in range(len(arrays.get("loss", ()))):
        # Earlier versions did not keep whether modes grew.
        row: dict[str, Any] = {"grows": False} | {name: arrays[name][i].item() for name in KEPT if name in arrays}
        for group in ("point", "values"):
            names = [n.partition(":")[2] for n in arrays if n.startswith(f"{group}:")]
            row[group] = {n: np.asarray(arrays[f"{group}:{n}"][i]) for n in names}
        rows.append(row)
    return rows, point, memory
