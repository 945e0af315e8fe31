"""Predict by linear response: connectivity in closed form, without noise, below the bifurcation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fitting.errors import InputError
from fitting.network import Network
from fitting.predict.cost import RESPONSE_SECONDS, Cost, pace
from fitting.predict.predictor import Prediction, Predictor
from fitting.programs import compiled
from fitting.response import (
    Linear,
    cross_spectra,
    departure,
    envelope_connectivity,
    frequency_grid,
    linearize,
    mixed_spectra,
    orthogonalized_connectivity,
    own_modes,
    rightmost_roots,
    unstable_roots,
)
from fitting.response.stability import FAR_LEFT
from fitting.signal import Observation
from fitting.units import magnitude

#: Nearer than this to its steady state, in units of the coupled variable, a network counts as being there.
NEAR = 0.01


@dataclass(frozen=True, eq=False)
class LinearResponse(Predictor):
    """Connectivity and spectra of a network's small fluctuations around its steady state.

    Parameters
    ----------
    network : Network
    observation : Observation
    dt : str or float
        Step of the simulation that is linearised; a plain number is ms.
    frequencies : int
        Number of frequencies that the band is divided into.
    damping : str or float
        Growth rates above minus this (a plain number is in 1/s) are penalised, so that a fit stays where the linear
        response holds: at a bifurcation fluctuations become large and the response is wrong.
    penalty : float
        Weight of that penalty.

    Raises
    ------
    InputError
        If a setting is out of range, or the observation needs what linear response does not know.

    Examples
    --------
    >>> from fitting.data import hcp_aal2
    >>> from fitting.network import Network
    >>> from fitting.predict import LinearResponse
    >>> from fitting.signal import Observation
    >>> network = Network(hcp_aal2(regions=3), parameters={"drive": 0.6})
    >>> LinearResponse(network, Observation(orthogonalize=False)).predict({"k": 0.5}).fc.shape
    (3, 3)
    """

    network: Network
    observation: Observation
    dt: Any = "0.25 ms"
    frequencies: int = 17
    damping: Any = "8 1/s"
    penalty: float = 0.1

    noisy = False
    seconds = float("inf")

    def __post_init__(self):
        self.observation.check_regions(self.network.labels)
        for name, unit in (("dt", "ms"), ("damping", "1/s")):
            object.__setattr__(self, name, float(magnitude(getattr(self, name), unit, name)))
        if self.frequencies < 2:
            raise InputError(f"at least 2 frequencies are needed; got {self.frequencies}")
        if not (np.isfinite(self.damping) and self.penalty >= 0):
            raise InputError(
                f"damping must be finite and penalty not negative; got {self.damping:g} 1/s and {self.penalty:g}"
            )
        if self.observation.log or self.observation.absolute or self.observation.envelope_fs is not None:
            raise InputError(
                "linear response knows neither log envelopes, absolute correlations nor resampled envelopes; "
                "predict by Simulation"
            )

    def growth(self, linear: Linear, observation: Observation) -> Float[Array, " mode"]:
        """Growth rates in 1/s of the modes that are watched: at zero, and on both sides of the band.

        Modes that do not oscillate are among them because nodes may have two steady states. Those in the band are
        found from its sides, as are those beside it, which the score does not see grow. Further away, regions'
        own modes are watched.
        """
        low, high = observation.band
        slowest, fastest = max(low / 2, low - (high - low) / 2), high + (high - low) / 2
        own = own_modes(linear)
        near = (jnp.abs(own.imag) / (2 * np.pi) >= slowest) & (jnp.abs(own.imag) / (2 * np.pi) <= fastest)
        modes = rightmost_roots(linear, jnp.array([0.0, slowest, fastest])).real
        return jnp.concatenate([modes.ravel(), jnp.where(near, 1e3 * FAR_LEFT, own.real)])

    def activity(self, values: Mapping[str, Any], key=None) -> Linear:
        """See :class:`Predictor`: the linear system that small fluctuations obey. The key is not used."""
        return linearize(self.network, values, dt=self.dt)

    def traces(self, activity: Linear) -> Float[Array, "time region"]:
        """See :class:`Predictor`: there are none."""
        return jnp.zeros((0, self.network.regions))

    def observe(self, activity: Linear, observation: Observation, spectrum: bool = False) -> Prediction:
        """See :class:`Predictor`."""
        grid = frequency_grid(observation, self.frequencies)
        connect = orthogonalized_connectivity if observation.orthogonalizes_simulation else envelope_connectivity
        # One call for all frequencies: two would be two chains of LAPACK calls (see fitting.inverse).
        others = observation.frequencies if spectrum else np.zeros(0)
        spectra = mixed_spectra(cross_spectra(activity, np.concatenate([grid, others])), observation)
        fc = connect(spectra[: len(grid)], grid, observation)
        # A steady state that was not found has no response.
        scale = jnp.abs(activity.steady).max() / self.dt
        fc = jnp.where(activity.residual <= 1e4 * jnp.finfo(fc.dtype).eps * scale, fc, jnp.nan)
        power = jnp.diagonal(spectra[len(grid) :], axis1=1, axis2=2).real[None] if spectrum else None
        unstable = jax.nn.softplus(4 * (self.growth(activity, observation) + self.damping)).sum() / 4
        return Prediction(fc[None], power, self.penalty * unstable)

    def predict(self, values: Mapping[str, Any], key=None, spectrum: bool = False) -> Prediction:
        """See :class:`Predictor`."""
        return super().predict(values, key, spectrum)

    def cost(self, gradient: bool = False) -> Cost:
        """See :class:`Predictor`."""
        regions, variables = self.network.regions, len(self.network.node.variables)
        each = sum(cost * regions**power for cost, power in zip(RESPONSE_SECONDS, (2, 3), strict=True))
        seconds = pace() * self.frequencies * each / (1 if gradient else 3)
        complex_bytes = 2 * jnp.result_type(float).itemsize
        return Cost(seconds, 16 * complex_bytes * (self.frequencies + 3 * variables**2) * regions**2)

    def horizons(self) -> Mapping[str, LinearResponse]:
        """See :class:`Predictor`: the exact gradient is always bounded."""
        return {"whole": self}

    def forward_mode(self) -> LinearResponse:
        """See :class:`Predictor`."""
        return self

    @cached_property
    def _settle(self):
        """:meth:`activity`, as a program that is compiled once."""
        return compiled(self.activity)

    @cached_property
    def _grow(self):
        """:meth:`growth` of the predictor's own observation, as a program that is compiled once."""
        return compiled(lambda linear: self.growth(linear, self.observation))

    @cached_property
    def _counted(self) -> dict[bytes, int]:
        """Growing modes by parameter values: a fit and its evaluation ask for the same, which takes seconds."""
        return {}

    def unstable(self, values: Mapping[str, Any]) -> int:
        """See :class:`Predictor`: roots right of the imaginary axis, all delays and frequencies included."""
        key = b"".join(name.encode() + np.asarray(values[name]).tobytes() for name in sorted(values))
        if key not in self._counted:
            linear = self._settle(dict(values))
            finite = bool(np.isfinite(linear.residual))
            self._counted[key] = unstable_roots(linear) if finite else len(linear.steady)
        return self._counted[key]

    def _rounded(self, values: Mapping[str, Any]) -> list[str]:
        """What is to be said where rounding may make the pattern of connectivity."""
        eps = float(jnp.finfo(jnp.result_type(float)).eps)
        if eps < 1e-10:
            return []
        fc = np.asarray(self.predict(values).fc)
        spread = float(np.ptp(fc[np.triu_indices(len(fc), 1)]))
        return [
            f"Predicted connectivity differs by {spread:.1g} between pairs, hardly more than 32 bits round: compute in "
            "64 bits (precision=64, or JAX's setting jax_enable_x64)."
        ] * (spread < 1e3 * eps)

    def remarks(self, values: Mapping[str, Any]) -> list[str]:
        """What is to be known about the steady state that linear response describes."""
        unstable = self.unstable(values)
        if unstable:
            return [f"The steady state is unstable ({unstable} roots): linear response does not hold there."]
        linear = self._settle(dict(values))
        sentences = self._rounded(values)
        slowest = -float(np.max(self._grow(linear)))
        sentences.append(f"Linear response: the slowest mode decays at {slowest:.1f} /s.")
        away = departure(self.network, values, linear.steady, dt=self.dt)
        if away > NEAR:
            sentences.append(
                f"There is more than one attractor: from the node's initial values, the network without noise comes to "
                f"be {away:.2g} away from the steady state that linear response describes."
            )
        return sentences
