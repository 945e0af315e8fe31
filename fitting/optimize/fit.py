"""A fit is a list of stages, each of which takes it from one state to the next."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from fitting.errors import InputError
from fitting.optimize.problem import Problem
from fitting.optimize.storage import Store
from fitting.predict import Cost
from fitting.progress import Reporter, silent


class Candidate(NamedTuple):
    """An unconstrained point, and its mean loss and correlation on noise that it was not chosen by."""

    point: dict[str, Any]
    loss: float = float("nan")
    fc_correlation: float = float("nan")


class SearchResult(NamedTuple):
    """What a search has to tell.

    Attributes
    ----------
    stage : Search
        With its settings.
    candidates : tuple of Candidate
        The best first; each at least a third of the first spread away from all better ones.
    history : dict of arrays (generation, candidate)
        ``loss``, ``fc_correlation`` and ``parameter_NAME``; NaN where a prediction failed.
    evaluations : int
    seconds : float
    """

    stage: Any
    candidates: tuple[Candidate, ...]
    history: dict[str, np.ndarray]
    evaluations: int
    seconds: float


class GradientHealth(NamedTuple):
    """What gradients are worth at a point.

    Attributes
    ----------
    usable : bool
    reason : str
        Why, with the numbers.
    horizon : str
        Which of the predictor's gradients it is: the first that is usable (see
        :meth:`fitting.predict.Predictor.horizons`).
    seeds : int
        Noise seeds that a step should average.
    norm : dict
        Norm of the mean gradient by horizon: how it grows tells chaos from order.
    agreement : float
        Change of the loss that the gradient foretells over the change that is measured, for a step
        against the gradient with the same noise. One if the loss is smooth.
    forward_error : float
        Relative difference of forward and reverse mode, along the gradient; NaN where it was not asked for.
    signal_to_noise : dict
        By parameter: mean over standard deviation over noise seeds (for parameters per region, of the norm).
    """

    usable: bool
    reason: str
    horizon: str
    seeds: int
    norm: dict[str, float]
    agreement: float
    forward_error: float
    signal_to_noise: dict[str, float]


class RaceResult(NamedTuple):
    """How a race went.

    Attributes
    ----------
    winner : int
        Number of the winner among the candidates.
    losses : array (step, candidate)
        NaN after a candidate has dropped out, and where a loss is not finite.
    """

    winner: int
    losses: np.ndarray


@dataclass(frozen=True)
class Fit:
    """Where a fit is: what every stage takes and returns.

    Attributes
    ----------
    declared : Problem
        As it was given: what is fitted again starts from it.
    problem : Problem
        As it is solved now, with the horizon that gradients are followed with.
    candidates : tuple of Candidate
        Points to go on from, the best first.
    start : dict
        Unconstrained point that the fit began with.
    status : str
        ``"converged"``, ``"max_steps"``, ``"unstable"``, ``"at_bounds"``, ``"diverged"`` or ``"interrupted"``.
    chosen : str
        Which candidate is the result: ``"start"``, ``"search"``, ``"best step"``, ``"average"`` or ``"gauss-newton"``.
    finished : bool
        Later stages have nothing to do.
    history : dict of arrays
        Loss, its terms and every free parameter at each step of the local stages.
    bad_steps : int
        Steps whose loss or gradient was not finite; they were skipped.
    search, gradients, race, around
        What these stages have to tell, where they took part; the last one is :class:`fitting.optimize.Refine`.
    seconds, compile_seconds : float
    notes : tuple of str
        Sentences that a reader must know.
    """

    declared: Problem
    problem: Problem
    candidates: tuple[Candidate, ...]
    start: Mapping[str, Any]
    status: str = "max_steps"
    chosen: str = "start"
    finished: bool = False
    history: Mapping[str, np.ndarray] = field(default_factory=dict)
    bad_steps: int = 0
    search: SearchResult | None = None
    gradients: GradientHealth | None = None
    race: RaceResult | None = None
    around: Any = None
    seconds: float = 0.0
    compile_seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @classmethod
    def begin(cls, problem: Problem) -> Fit:
        """The state before the first stage: the parameters' own values.

        Raises
        ------
        InputError
            If no parameter is free.
        """
        if not problem.parameters.free:
            raise InputError("there is nothing to fit: no parameter is free")
        start = problem.parameters.start()
        return cls(problem, problem, (Candidate(start),), start)

    @property
    def point(self) -> dict[str, Any]:
        """Unconstrained point of the best candidate."""
        return {name: np.asarray(value) for name, value in self.candidates[0].point.items()}

    @property
    def fitted(self) -> dict[str, Any]:
        """Values of all parameters, of the best candidate."""
        return self._values(self.candidates[0].point)

    @property
    def initial(self) -> dict[str, Any]:
        """Values of all parameters that the fit began with."""
        return self._values(self.start)

    def reported(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """What a reader is told of a point: see :meth:`Parameters.reported`."""
        return {name: np.asarray(value) for name, value in self.problem.parameters.reported(point).items()}

    def _values(self, point) -> dict[str, Any]:
        return {name: np.asarray(value) for name, value in self.problem.parameters.values(point).items()}


@runtime_checkable
class Stage(Protocol):
    """One part of a strategy: a frozen dataclass of settings.

    Attributes
    ----------
    name : str
        Names its key, its file and its progress.
    """

    @property
    def name(self) -> str:
        """See above."""

    def run(self, fit: Fit, key, progress: Reporter = silent, store: Store | None = None) -> Fit:
        """Take a fit further; the key fixes all noise, and the store keeps what must survive a kill."""

    def cost(self, problem: Problem, candidates: int = 1) -> Cost:
        """What the stage needs at most, where it begins with so many candidates: seconds on all devices, and bytes."""


def ranked(losses) -> np.ndarray:
    """Losses to be compared: what is not finite is worse than all that is.

    Examples
    --------
    >>> import numpy as np
    >>> from fitting.optimize.fit import ranked
    >>> int(np.argmin(ranked([np.nan, 2.0, -np.inf])))
    1
    """
    return np.where(np.isfinite(losses), losses, np.inf)


def stage_key(key, name: str):
    """The key of a stage, or of another part of the work, derived from one key by its name."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
