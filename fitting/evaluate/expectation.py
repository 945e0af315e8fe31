"""What a fit and its evaluation will need, said before anything is compiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fitting.devices import device_count, free_bytes, local_devices, on_gpu
from fitting.errors import InputError
from fitting.evaluate.evaluation import EvaluationSettings
from fitting.optimize import Problem, Stage
from fitting.predict import Cost, Predictor
from fitting.units import in_words

#: Memory of a process that has imported everything and compiles, beside the numbers of simulations.
PROCESS_BYTES = 700_000_000

#: On an H200, programs with a gradient took 30 to 55 s to compile; on a CPU 3 to 14 s.
GPU_COMPILING = "several minutes of compiling for the GPU (a CPU is sooner ready for a few candidates)"


@dataclass(frozen=True)
class Expectation:
    """What is to be expected: see :func:`expect`.

    Attributes
    ----------
    stages : dict of Cost
        Seconds on all devices, without compiling, and bytes of the whole process.
    available : int
        Bytes that are free on the device.
    compiling : str
        How long compiling takes, in words.
    """

    stages: Mapping[str, Cost]
    available: int
    compiling: str = "up to a minute of compiling"

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return sum(cost.seconds for cost in self.stages.values())

    @property
    def largest(self) -> str:
        """The stage that needs most memory."""
        return max(self.stages, key=lambda name: self.stages[name].bytes)

    def refuse(self):
        """Refuse what does not fit into memory.

        Raises
        ------
        InputError
        """
        size = self.stages[self.largest].bytes
        if size > self.available:
            raise InputError(
                f"the {self.largest} would need about {size / 1e9:.1f} GB of memory, and {self.available / 1e9:.1f} GB "
                f"are free; lower duration, raise dt, or compute fewer at once"
            )

    def __str__(self):
        long = [f"{name} {in_words(cost.seconds)}" for name, cost in self.stages.items() if cost.seconds >= 1]
        stages = f" ({', '.join(long)})" if long else ""
        return (
            f"Expected: {self.stages[self.largest].bytes / 1e9:.1f} GB of memory, about {in_words(self.seconds)}"
            f"{stages}, and {self.compiling} unless that was done before."
        )


def expect(
    problem: Problem,
    stages: Sequence[Stage],
    evaluation: EvaluationSettings,
    predictor: Predictor | None = None,
    *,
    stored: bool = False,
    recording: Cost | None = None,
    available: int | None = None,
) -> Expectation:
    """Time and memory of a fit and its evaluation, within a factor of about two.

    Parameters
    ----------
    problem : Problem
    stages : sequence of Stage
        All their steps are counted, though a fit may converge before.
    evaluation : EvaluationSettings
    predictor : Predictor, optional
        What verifies the fit; the one that is fitted unless given.
    stored : bool
        The fit is there already; stages are what its evaluation fits again.
    recording : Cost, optional
        Of a recording that is simulated first.
    available : int, optional
        Bytes; those that are free unless given.

    Returns
    -------
    Expectation

    Examples
    --------
    >>> import numpy as np
    >>> from fitting.data import hcp_aal2
    >>> from fitting.evaluate import EvaluationSettings, expect
    >>> from fitting.network import Network
    >>> from fitting.objective import Target
    >>> from fitting.optimize import Descent, Parameter, Problem, Search
    >>> from fitting.predict import Simulation
    >>> from fitting.signal import Observation
    >>> network = Network(hcp_aal2(regions=3))
    >>> simulation, target = Simulation(network, Observation()), Target(np.ones((3, 3)), network.labels)
    >>> problem = Problem(simulation, [Parameter("k", 1.0, 0.1, 5.0)], target)
    >>> sorted(expect(problem, [Search(), Descent()], EvaluationSettings()).stages)
    ['descent', 'evaluation', 'search']
    """
    measured = any(getattr(stage, "measures", False) for stage in stages)
    verified = evaluation.cost(problem, predictor or problem.predictor, measured)
    costs = {} if recording is None else {"recording": recording}
    fitted, candidates = {}, 1
    for stage in stages:
        fitted[stage.name] = stage.cost(problem, candidates)
        candidates = getattr(stage, "handed_on", candidates)
    costs |= {} if stored else fitted
    if evaluation.refits:
        largest = max((cost.bytes for cost in fitted.values()), default=0)
        costs["fits again"] = Cost(evaluation.refits * sum(cost.seconds for cost in fitted.values()), largest)
    together = min(len(local_devices()), evaluation.fresh_seeds)
    costs["evaluation"] = Cost(verified.seconds / device_count(), together * verified.bytes)
    # A process holds so many bytes of simulations, and resamples them once.
    whole = {name: Cost(cost.seconds, int(PROCESS_BYTES + 1.2 * cost.bytes)) for name, cost in costs.items()}
    free = free_bytes() if available is None else available
    return Expectation(whole, free, GPU_COMPILING) if on_gpu() else Expectation(whole, free)
