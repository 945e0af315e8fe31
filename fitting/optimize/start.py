"""Begin where the predictor works."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np

from fitting.errors import InputError
from fitting.optimize.fit import Candidate, Fit
from fitting.optimize.problem import Problem
from fitting.optimize.storage import Store
from fitting.predict import Cost
from fitting.progress import Progress, Reporter, silent

#: Parameters that push a network towards instability, in the order in which they are lowered.
PUSHING = ("k", "drive")


@dataclass(frozen=True)
class StableStart:
    """Move a start that is unstable until it is stable, and refuse one that predicts nothing.

    Coupling and drive are lowered in the unconstrained space, as far as their bounds allow.

    Parameters
    ----------
    step : float
        How far each is lowered at a time.
    most : int
        Largest number of such moves.
    name : str
    """

    step: float = 0.75
    most: int = 12
    name: str = "start"

    def run(self, fit: Fit, key, progress: Reporter = silent, store: Store | None = None) -> Fit:
        """See :class:`fitting.optimize.Stage`.

        Raises
        ------
        InputError
            If no start within the bounds is stable, or connectivity there is the same for all pairs.
        """
        problem, point = fit.problem, dict(fit.candidates[0].point)
        names = [name for name in PUSHING if name in point]
        for move in range(self.most + 1):
            growing = problem.predictor.unstable(problem.parameters.values(point))
            progress(Progress(self.name, move, None, f"{growing} unstable modes" if growing else "stable"))
            if not growing:
                break
            if move == self.most or not names:
                raise InputError(
                    f"the start is unstable ({growing} modes grow), and so is all that was tried below it; lower the "
                    f"values or the lower bounds of {' and '.join(PUSHING)}, or scale the connectome's weights"
                )
            point |= {name: jnp.asarray(point[name]) - self.step for name in names}
        fc = np.asarray(problem.compiled_predict(problem.parameters.values(point), key).fc)
        pairs = fc[np.triu_indices(len(fc), 1)]
        if not np.isfinite(pairs).all() or np.ptp(pairs) < 1e-9:
            words = "is not finite" if not np.isfinite(pairs).all() else f"is {pairs[0]:.2g} for all pairs"
            raise InputError(
                f"there is nothing to follow at the start: connectivity {words}; raise k, or move the start"
            )
        if not move:
            return fit
        values = problem.parameters.values(point)
        moved = ", ".join(f"{name} to {float(np.mean(values[name])):.3g}" for name in names)
        note = f"The start was unstable and was moved: {moved}."
        return replace(fit, candidates=(Candidate(point),), start=point, notes=(*fit.notes, note))

    def cost(self, problem: Problem) -> Cost:
        """See :class:`fitting.optimize.Stage`."""
        return problem.predictor.cost()
