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

    Coupling and drive are lowered in the unconstrained space, as far as their bounds allow: by the fewest steps that
    make it stable, found by bisection.

    Parameters
    ----------
    step : float
        How far each is lowered at a time.
    most : int
        Largest number of such steps.
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
        problem, start = fit.problem, dict(fit.candidates[0].point)
        names = [name for name in PUSHING if name in start]

        def lowered(moves: int):
            return start | {name: jnp.asarray(start[name]) - moves * self.step for name in names}

        def growing(moves: int) -> int:
            count = problem.predictor.unstable(problem.parameters.values(lowered(moves)))
            text = f"{count} unstable modes" if count else "stable"
            progress(Progress(self.name, moves if count else self.most, self.most, text))
            return count

        count, move = growing(0), 0
        if count:
            # The lowest start first: where that one is unstable, there is no need to try those between.
            if not names or growing(self.most):
                fixed = [name for name in PUSHING if name not in start]
                ways = [f"lower the values or the lower bounds of {' and '.join(names)}"] if names else []
                ways += [f"fit {' and '.join(fixed)} as well, or lower the network's"] if fixed else []
                raise InputError(
                    f"the start is unstable ({count} modes grow){', and so is the lowest one' if names else ''}; "
                    f"{', '.join(ways)}, or scale the connectome's weights"
                )
            unstable, move = 0, self.most
            while move - unstable > 1:
                between = (unstable + move) // 2
                unstable, move = (between, move) if growing(between) else (unstable, between)
        point = lowered(move) if move else start
        fc = np.asarray(problem.predicted(point, key).fc)
        pairs = fc[np.triu_indices(len(fc), 1)]
        if not np.isfinite(pairs).all() or np.ptp(pairs) < max(1e-9, 10 * np.finfo(pairs.dtype).eps):
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

    def cost(self, problem: Problem, candidates: int = 1) -> Cost:
        """See :class:`fitting.optimize.Stage`."""
        return problem.predictor.cost()
