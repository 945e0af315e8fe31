"""What a fit and its evaluation will need, said before anything is compiled."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fitting.devices import device_count, free_bytes, local_devices, side_by_side
from fitting.errors import InputError
from fitting.evaluate.evaluation import EvaluationSettings
from fitting.network.estimate import foretell, pace
from fitting.optimize import Problem, ResponseProblem, SearchSettings, Settings
from fitting.optimize.descent import CHECKS
from fitting.optimize.strategy import HEALTH_SEEDS, RACE_STEPS

#: Memory of a process that has imported everything and compiles, beside the numbers of simulations.
PROCESS_BYTES = 700_000_000

#: Seconds of a value and gradient of orthogonalised envelope connectivity: per pair of regions and sample.
CONNECTIVITY_SECONDS = 1.1e-8

#: Seconds of a value and gradient by linear response, per frequency: times regions squared, and cubed.
RESPONSE_SECONDS = (1.5e-6, 1.2e-9)


@dataclass(frozen=True)
class Expectation:
    """What is to be expected: see :func:`expect`.

    Attributes
    ----------
    steps : int
        Of one simulation in the fit.
    seconds : dict
        By stage; without compiling.
    memory : dict
        Bytes by stage, each with the settings that decide it.
    available : int
        Bytes that are free on the device.
    """

    steps: int
    seconds: dict[str, float]
    memory: dict[str, tuple[int, str]]
    available: int

    @property
    def bytes(self) -> int:
        """Memory of the stage that needs most."""
        return max(size for size, _ in self.memory.values())

    def refuse(self):
        """Refuse what does not fit into memory, with the settings to change.

        Raises
        ------
        InputError
        """
        stage, (size, change) = max(self.memory.items(), key=lambda item: item[1][0])
        if size > self.available:
            raise InputError(
                f"{stage} would need about {size / 1e9:.1f} GB of memory, and {self.available / 1e9:.1f} GB are free; "
                f"lower {change}"
            )

    def __str__(self):
        stages = ", ".join(f"{stage} {_words(seconds)}" for stage, seconds in self.seconds.items() if seconds >= 1)
        return (
            f"Expected: {self.steps:,} steps in each simulation, {self.bytes / 1e9:.1f} GB of memory, about "
            f"{_words(sum(self.seconds.values()))} ({stages}), and a minute of compiling unless that was done before."
        )


def _words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def expect(
    problem: Problem,
    settings: Settings | None,
    searching: SearchSettings | None,
    evaluation: EvaluationSettings,
    response: ResponseProblem | None = None,
    recording: float | None = None,
    available: int | None = None,
) -> Expectation:
    """Steps, memory and time of a fit and its evaluation, within a factor of about two.

    Parameters
    ----------
    problem : Problem
    settings : Settings or None
        Of the local stage; all its steps are counted, though a fit may converge before. Without them nothing is fitted.
    searching : SearchSettings, optional
        Of the global stage, if there is one.
    evaluation : EvaluationSettings
    response : ResponseProblem, optional
        What is fitted instead, where that is linear response.
    recording : float, optional
        Length in ms of a recording that is simulated first.
    available : int, optional
        Bytes; those that are free unless given.

    Returns
    -------
    Expectation

    Examples
    --------
    >>> import numpy as np, jax.numpy as jnp
    >>> from fitting.evaluate import EvaluationSettings, expect
    >>> from fitting.network import Network
    >>> from fitting.objective import Target
    >>> from fitting.optimize import Parameter, Parameters, Problem, SearchSettings, Settings
    >>> from fitting.signal import Observation
    >>> network = Network(np.ones((3, 3)), np.full((3, 3), 50.0))
    >>> parameters = Parameters([Parameter("k", 1.0, 0.1, 5.0)], network)
    >>> problem = Problem(network, parameters, Target(jnp.ones((3, 3))), Observation(), duration=30_000.0, dt=0.5)
    >>> expected = expect(problem, Settings(), SearchSettings(), EvaluationSettings())
    >>> expected.steps, sorted(expected.seconds)
    (60000, ['evaluation', 'fit', 'search'])
    """
    network, dt, devices = problem.network, problem.dt, device_count()
    run = foretell(network, duration=problem.duration, dt=dt)
    gradient = foretell(network, duration=problem.duration, dt=dt, gradient=True)
    long = evaluation.duration or problem.duration
    fresh = foretell(network, duration=long, dt=dt)
    speed = pace()
    observed = _connectivity(problem, problem.duration) * speed
    observed_long = _connectivity(problem, long) * speed
    forward, backward = run.seconds + observed / 4, gradient.seconds + observed
    seconds: dict[str, float] = {}
    memory: dict[str, tuple[int, str]] = {}
    own = len(local_devices())
    if recording is not None:
        made = foretell(network, duration=recording, dt=dt)
        seconds["recording"] = made.seconds
        memory["The recording"] = _bytes(2 * made.bytes), "data.duration"
    if settings is None:
        pass
    elif response is None:
        if searching is not None:
            most = searching.batch or side_by_side(run.bytes)
            rounds = _rounds(searching.population, most, devices) * searching.generations
            rounds += _rounds(3 * searching.finalists, most, devices) * searching.seeds
            seconds["search"] = rounds * forward
            batch = min(most, math.ceil(searching.population / devices))
            memory["The search"] = _bytes(own * batch * run.bytes), "search.batch or simulation.duration"
        healthy = math.ceil(HEALTH_SEEDS / devices)
        local = healthy * (backward + 2 * forward) + backward
        if searching is not None:
            local += RACE_STEPS * math.ceil(searching.finalists / devices) * backward
        turns = math.ceil(problem.seeds / own)
        seconds["fit"] = local + settings.steps * turns * backward + math.ceil(3 * CHECKS / devices) * forward
        memory["The fit"] = (
            _bytes(min(own, HEALTH_SEEDS) * gradient.bytes),
            "simulation.duration or raise simulation.dt",
        )
    else:
        each = (
            speed
            * response.frequencies
            * sum(cost * network.regions**power for cost, power in zip(RESPONSE_SECONDS, (2, 3), strict=True))
        )
        seconds["fit"] = settings.steps * each
        globals_ = sum(not p.per_region for p in response.parameters.free)
        seconds["profiles"] = globals_ * evaluation.profile_points * evaluation.profile_steps * each
    simulations = math.ceil(evaluation.fresh_seeds / devices) + math.ceil(evaluation.initial_seeds / devices)
    seconds["evaluation"] = simulations * (fresh.seconds + observed_long / 2)
    if settings is not None and response is None:
        count = sum(not p.per_region for p in problem.parameters.free)
        crosses = evaluation.identifiability_seeds * (1 + 2 * count + count * (count - 1))
        surrogates = 2 * (evaluation.surrogates + 1) if evaluation.surrogates else 0
        seconds["evaluation"] += math.ceil((crosses + surrogates) / devices) * forward
        nulls = math.ceil(evaluation.null_seeds / devices)
        for kind in ("zero", "mean") if nulls else ():
            seconds["evaluation"] += nulls * foretell(network.of_delays(kind), duration=long, dt=dt).seconds
    together = min(own * side_by_side(fresh.bytes), evaluation.fresh_seeds)
    memory["The evaluation"] = _bytes(together * fresh.bytes), "evaluation.duration or raise simulation.dt"
    return Expectation(run.steps, seconds, memory, free_bytes() if available is None else available)


def _rounds(elements: int, batch: int, devices: int) -> int:
    """How often a device computes a batch, each as long as its elements one after the other on a CPU."""
    each = math.ceil(elements / devices)
    return each if local_devices()[0].platform == "cpu" else math.ceil(each / batch)


def _connectivity(problem: Problem, duration: float) -> float:
    samples = duration / 1000 * problem.observation.fs
    full = CONNECTIVITY_SECONDS * problem.network.regions**2 * samples
    return full if problem.observation.orthogonalizes_simulation else full / 10


def _bytes(simulations: int) -> int:
    """Of a process that holds so many bytes of simulations, and resamples them once."""
    return int(PROCESS_BYTES + 1.2 * simulations)
