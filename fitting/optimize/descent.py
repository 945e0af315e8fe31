"""The local stage of a fit: Optax on the unconstrained parameters, one compiled step at a time."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fitting.devices import over_devices, over_own_devices
from fitting.errors import InputError
from fitting.network import Network
from fitting.optimize.checkpoint import Checkpoints
from fitting.optimize.interrupt import Interrupt
from fitting.optimize.problem import Problem
from fitting.optimize.response import ResponseProblem

#: Least seconds between two checkpoints.
SAVE_SECONDS = 1.0

#: Noise seeds on which the candidates for the result are compared.
CHECKS = 3


@dataclass(frozen=True)
class Settings:
    """How the optimiser is run.

    Parameters
    ----------
    steps : int
        Largest number of steps; 0 leaves :func:`solve` with its search alone.
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
    most_seeds : int
        Noise seeds that :func:`fitting.optimize.solve` may average in a step where gradients are noisy.
    """

    steps: int = 40
    patience: int = 12
    tolerance: float = 1e-3
    average: int = 10
    fresh_noise: bool = True
    max_bad_steps: int = 5
    clip: float = 1.0
    most_seeds: int = 2

    def __post_init__(self):
        if self.steps < 0 or self.patience < 2 or self.average < 1:
            raise InputError(
                f"average ({self.average}) must be at least 1, patience ({self.patience}) 2, "
                f"steps ({self.steps}) not negative"
            )
        if self.max_bad_steps < 1 or self.most_seeds < 1 or not self.clip > 0 or not self.tolerance >= 0:
            raise InputError(
                f"max_bad_steps ({self.max_bad_steps}) and most_seeds ({self.most_seeds}) must be at least 1, clip "
                f"({self.clip:g}) positive, tolerance ({self.tolerance:g}) not negative"
            )


class Progress(NamedTuple):
    """What is reported after each step."""

    step: int
    steps: int
    loss: float
    fc_correlation: float
    best: float
    seconds: float
    remaining: float


@dataclass
class FitResult:
    """What a fit ends with.

    Attributes
    ----------
    status : str
        ``"converged"``, ``"max_steps"``, ``"diverged"`` or ``"interrupted"``.
    initial, fitted : dict
        Values of all parameters.
    point : dict
        Unconstrained point of ``fitted``.
    history : dict of arrays
        Loss, its terms, gradient norm and every free parameter at each step.
    chosen : str
        Which candidate became the result: ``"best step"``, ``"average"`` or ``"start"``.
    bad_steps : int
        Steps whose loss or gradient was not finite; they were skipped.
    compile_seconds, seconds : float
    memory_bytes : int
        What the compiled step holds at once, beside its inputs.
    """

    status: str
    initial: dict[str, Any]
    fitted: dict[str, Any]
    point: dict[str, Any]
    history: dict[str, np.ndarray]
    chosen: str
    bad_steps: int
    compile_seconds: float
    seconds: float
    memory_bytes: int = 0
    notes: list[str] = field(default_factory=list)


def fit(
    problem: Problem | ResponseProblem,
    optimizer: optax.GradientTransformation,
    settings: Settings | None = None,
    *,
    key,
    on_step: Callable[[Progress], None] | None = None,
    on_compiled: Callable[[float, int], None] | None = None,
    checkpoints: Path | None = None,
    resume: bool = False,
) -> FitResult:
    """Fit the free parameters of a problem by gradient descent through the simulation.

    Parameters
    ----------
    problem : Problem or ResponseProblem
    optimizer : optax.GradientTransformation
    settings : Settings, optional
    key : PRNG key
        Fixes all noise; two runs with the same key take the same steps.
    on_step : callable, optional
        Called after each step.
    on_compiled : callable, optional
        Called once with the seconds that compiling took and the bytes that a step needs.
    checkpoints : Path, optional
        Folder in which steps are saved, at most one a second, and the last.
    resume : bool
        Continue from the last saved step. The steps are the same, and the numbers too, bit for bit,
        as long as the processor's threads add in the same order.

    Returns
    -------
    FitResult

    Raises
    ------
    InputError
        If there is nothing to resume, or what is saved belongs to another fit.

    Notes
    -----
    A step whose loss or gradient is not finite is counted and leaves the optimiser as it was; the
    parameters go halfway back to where the loss was last finite. At the end the
    best step, the average of the last points and the start are compared on noise new to all three.
    """
    settings = settings or Settings()
    parameters = problem.parameters
    if settings.steps < 1:
        raise InputError("a fit by gradients needs at least one step; fit.steps is 0")
    optimizer = optax.chain(optax.clip_by_global_norm(settings.clip), optimizer)
    step_key, check_key = jax.random.split(key)

    advance = guarded_step(problem, optimizer, gradient_over_devices(problem))
    start = parameters.start()
    point, memory = start, optimizer.init(start)
    rows: list[dict[str, Any]] = []
    store = Checkpoints(checkpoints, fingerprint(problem, settings)) if checkpoints else None
    if resume:
        if store is None:
            raise InputError("to resume, name the folder that holds the checkpoints")
        # Killed before the first step was saved, a fit begins anew.
        if not store.is_empty():
            point, memory, rows = store.load(point, memory)
    elif store:
        store.refuse_used()
    saved = time.perf_counter()
    began = time.perf_counter()
    compiled = jax.jit(advance).lower(point, memory, step_key).compile()
    compile_seconds = time.perf_counter() - began
    analysis = compiled.memory_analysis()
    memory_bytes = int(getattr(analysis, "temp_size_in_bytes", 0)) if analysis else 0
    if on_compiled:
        on_compiled(compile_seconds, memory_bytes)

    status = "max_steps"
    with Interrupt() as interrupt:
        while len(rows) < settings.steps:
            if _gave_up(rows, settings):
                status = "diverged"
                break
            if _converged(rows, settings):
                status = "converged"
                break
            if interrupt.asked:
                status = "interrupted"
                if store and rows:
                    store.save(point, memory, rows)
                break
            tick = time.perf_counter()
            number = len(rows)
            here = jax.random.fold_in(step_key, number if settings.fresh_noise else 0)
            values = _plain(parameters.values(point))
            moved, new_memory, terms, norm, finite = jax.block_until_ready(compiled(point, memory, here))
            rows.append(
                {
                    "loss": float(terms.loss),
                    "fc_correlation": float(terms.fc_correlation),
                    "spectrum": float(terms.spectrum),
                    "gradient_norm": float(norm),
                    "finite": bool(finite),
                    "seconds": time.perf_counter() - tick,
                    "point": _plain(point),
                    "values": {p.name: values[p.name] for p in parameters.free},
                }
            )
            point, memory = moved, new_memory
            good = _finite(rows)
            if not rows[-1]["finite"] and good:
                # Halfway back to where the loss was last finite.
                point = {name: (point[name] + good[-1]["point"][name]) / 2 for name in point}
            # Quick steps are not worth saving one by one: what a kill loses is computed again, to the same bits.
            if store and (time.perf_counter() - saved > SAVE_SECONDS or len(rows) == settings.steps):
                store.save(point, memory, rows)
                saved = time.perf_counter()
            if on_step:
                on_step(_progress(rows, settings))
        else:
            if _gave_up(rows, settings):
                status = "diverged"

    chosen, best = _choose(problem, rows, point, start, settings, check_key)
    bad = sum(not row["finite"] for row in rows)
    notes = []
    if chosen == "start":
        notes.append("No step was better than the start on new noise, so the start is the result.")
    if bad:
        notes.append(f"{bad} of {len(rows)} steps had a loss or gradient that was not finite and were skipped")
    return FitResult(
        status,
        _plain(parameters.values(start)),
        _plain(parameters.values(best)),
        _plain(best),
        _history(rows),
        chosen,
        bad,
        compile_seconds,
        time.perf_counter() - began,
        memory_bytes,
        notes,
    )


def gradient_over_devices(problem: Problem | ResponseProblem):
    """Value and gradient of the loss, and its terms; noise seeds are shared out among this process's devices."""
    if isinstance(problem, ResponseProblem) or problem.seeds == 1:
        return jax.value_and_grad(problem.loss, has_aux=True)
    one = jax.value_and_grad(problem.loss_of_seed, has_aux=True)
    every = over_own_devices(lambda key, point: one(point, key), problem.side_by_side(gradient=True))
    return lambda point, key: jax.tree.map(lambda x: x.mean(0), every(problem.keys(key), point))


def guarded_step(
    problem: Problem | ResponseProblem, optimizer: optax.GradientTransformation, gradient_of: Callable | None = None
):
    """One step, ``(point, memory, key)`` to ``(point, memory, terms, norm, finite)``; it stays where not finite."""
    gradient_of = gradient_of or jax.value_and_grad(problem.loss, has_aux=True)

    def advance(point, memory, key):
        (loss, terms), gradient = gradient_of(point, key)
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        safe = jax.tree.map(lambda g: jnp.where(finite, g, 0.0), gradient)
        updates, new_memory = optimizer.update(safe, memory, point)
        new_point = optax.apply_updates(point, updates)
        keep = lambda new, old: jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)  # noqa: E731
        return keep(new_point, point), keep(new_memory, memory), terms, norm, finite

    return advance


def _plain(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(value) for name, value in tree.items()}


def _finite(rows) -> list[dict[str, Any]]:
    return [row for row in rows if row["finite"]]


def _gave_up(rows, settings: Settings) -> bool:
    last = rows[-settings.max_bad_steps :]
    return len(last) == settings.max_bad_steps and not any(row["finite"] for row in last)


def _converged(rows, settings: Settings) -> bool:
    """Whether the loss has stopped falling, judged against its own scatter from step to step."""
    losses = [row["loss"] for row in _finite(rows)]
    n = settings.patience
    if len(losses) < 2 * n:
        return False
    before, after = np.array(losses[-2 * n : -n]), np.array(losses[-n:])
    noise = np.sqrt(before.var(ddof=1) / n + after.var(ddof=1) / n)
    return bool(before.mean() - after.mean() < max(settings.tolerance, noise))


def _progress(rows, settings: Settings) -> Progress:
    row = rows[-1]
    good = [r["loss"] for r in _finite(rows)]
    typical = float(np.median([r["seconds"] for r in rows[-10:]]))
    return Progress(
        len(rows),
        settings.steps,
        row["loss"],
        row["fc_correlation"],
        min(good) if good else float("nan"),
        row["seconds"],
        typical * (settings.steps - len(rows)),
    )


def _choose(problem: Problem | ResponseProblem, rows, last, start, settings: Settings, key):
    """The best of the average of the last points, the best step and the start, on noise new to all of them."""
    good = _finite(rows)
    if not good:
        return "start", start
    recent = [row["point"] for row in good[-settings.average :]] + [_plain(last)]
    average = {name: jnp.asarray(np.mean([point[name] for point in recent], axis=0)) for name in last}
    best = jax.tree.map(jnp.asarray, min(good, key=lambda row: row["loss"])["point"])
    candidates = {"average": average, "best step": best, "start": start}
    points = jax.tree.map(lambda *x: jnp.repeat(jnp.stack(x), CHECKS, axis=0), *candidates.values())
    keys = jnp.tile(jax.random.split(key, CHECKS), len(candidates))
    losses = over_devices(lambda one: problem.loss(*one)[0])((points, keys)).reshape(len(candidates), CHECKS)
    scores = dict(zip(candidates, losses.mean(1), strict=True))
    chosen = min(candidates, key=lambda name: scores[name] if np.isfinite(scores[name]) else np.inf)
    return chosen, candidates[chosen]


def _history(rows) -> dict[str, np.ndarray]:
    if not rows:
        return {}
    names = ("loss", "fc_correlation", "spectrum", "gradient_norm", "finite", "seconds")
    history = {name: np.array([row[name] for row in rows]) for name in names}
    for name in rows[0]["values"]:
        history[f"parameter_{name}"] = np.stack([row["values"][name] for row in rows])
    return history


def fingerprint(problem: Problem | ResponseProblem, settings: Settings) -> dict[str, Any]:
    """What must agree between a checkpoint and the fit that continues from it."""
    return {
        "regions": problem.network.regions,
        "node": problem.network.node.model,
        "network": _network(problem.network),
        "start": problem.start,
        "duration": problem.duration,
        "dt": problem.dt,
        "seeds": problem.seeds,
        "free": {
            p.name: [_listed(v) for v in (p.lower, p.upper, p.prior, p.prior_weight)] + [p.scale, p.per_region]
            for p in problem.parameters.free
        },
        "fixed": {p.name: _listed(p.value) for p in problem.parameters.parameters if not p.free},
        # Six digits: threads that add in another order change the last ones from process to process.
        "target": float(f"{np.abs(np.asarray(problem.target.fc, float)).sum():.5e}"),
        "pairs": None if problem.target.pairs is None else zlib.crc32(np.packbits(problem.target.pairs).tobytes()),
        "observation": str(problem.observation),
        "objective": str(problem.objective),
        "response": problem.settings if isinstance(problem, ResponseProblem) else None,
        "fresh_noise": settings.fresh_noise,
        "x64": jnp.result_type(float) == jnp.float64,
    }


def _network(network: Network) -> list[Any]:
    """What decides a network's activity beside its parameters."""
    sums = [float(f"{np.abs(matrix).sum():.5e}") for matrix in (network.weights, network.lengths)]
    settings = {name: np.asarray(value, float).tolist() for name, value in sorted(network.parameters.items())}
    return [*sums, network.coupling, network.noise, network.interpolation, network.drive, settings]


def _listed(value):
    return None if value is None else np.asarray(value, float).tolist()
