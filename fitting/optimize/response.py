"""A fitting problem that is solved by linear response: connectivity in closed form, without noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal
from jaxtyping import Array, Float

from fitting.errors import InputError
from fitting.network import Network
from fitting.objective import Objective, Target, Terms
from fitting.optimize.parameters import Parameters
from fitting.response import (
    band_response,
    cross_spectra,
    envelope_connectivity,
    frequency_grid,
    linearize,
    orthogonalized_connectivity,
    own_modes,
    rightmost_roots,
)
from fitting.response.stability import FAR
from fitting.signal import Observation, fc_correlation, low_pass, upper_pairs


def check_response(
    observation: Observation,
    frequencies: int = 17,
    damping: float = 8.0,
    penalty: float = 0.1,
    spread: float = 0.0,
    seconds: float | None = None,
):
    """Refuse settings of a linear response, whatever its target is; see :class:`ResponseProblem`."""
    if frequencies < 2:
        raise InputError(f"at least 2 frequencies are needed; got {frequencies}")
    if not (np.isfinite(damping) and penalty >= 0 and spread >= 0):
        raise InputError(
            f"damping must be finite, penalty and spread not negative; got {damping:g} 1/s, {penalty:g} and {spread:g}"
        )
    if seconds is not None and not seconds > 0:
        raise InputError(f"seconds must be positive; got {seconds:g}")
    if observation.log or observation.absolute or observation.envelope_fs is not None:
        raise InputError(
            "linear response knows neither log envelopes, absolute correlations nor resampled envelopes; "
            "use solver=simulate"
        )


@dataclass(frozen=True, eq=False)
class ResponseProblem:
    """What is fitted to what, with the network's linear response in the place of simulations.

    Has the interface of :class:`fitting.optimize.Problem`, so the same optimisers fit it; its loss
    ignores the key.

    Parameters
    ----------
    network, parameters, target, observation, objective, dt
        See :class:`fitting.optimize.Problem`.
    frequencies : int
        Number of frequencies that the band is divided into.
    damping : float
        Growth rates above minus this (in 1/s) are penalised, so that a fit stays where the linear
        response holds: at a bifurcation fluctuations become large and the response is wrong.
    penalty : float
        Weight of that penalty.
    spread : float
        Weight of the variance over regions of per-region parameters (in the unconstrained space):
        what the data do not ask for stays alike in all regions.
    seconds : float, optional
        Fit the score that a simulation of this length is expected to have, instead of that of an
        infinitely long one: weak connectivity, however right, drowns in the noise of its estimate.
        The sampling variance of each correlation is taken as one over the effective number of
        independent envelope samples (Bartlett's formula for low-passed noise).
    """

    network: Network
    parameters: Parameters
    target: Target
    observation: Observation
    objective: Objective = field(default_factory=Objective)
    dt: float = 0.25
    frequencies: int = 17
    damping: float = 8.0
    penalty: float = 0.1
    spread: float = 0.0
    seconds: float | None = None

    #: A response has no noise to average and no duration.
    seeds = 1
    duration = 0.0
    start = "steady"

    def __post_init__(self):
        check_response(self.observation, self.frequencies, self.damping, self.penalty, self.spread, self.seconds)
        self.target.check_regions(self.network.regions)

    @property
    def settings(self) -> list[float | None]:
        """What decides the loss beside target, network and observation; a resumed fit must have the same."""
        return [self.frequencies, self.damping, self.penalty, self.spread, self.seconds]

    @property
    def watched(self) -> tuple[float, ...]:
        """Frequencies in Hz near which modes are kept stable: at zero, and on both sides of the band.

        Modes that do not oscillate are among them because nodes may have two steady states. Those in the band are
        found from its sides, as are those beside it, which the score does not see grow. Further away, regions'
        own modes are watched.
        """
        low, high = self.observation.band
        width = high - low
        return (0.0, max(low / 2, low - width / 2), high + width / 2)

    def side_by_side(self, gradient: bool = False, duration: float | None = None) -> int:
        """Responses that a device computes at once: one, as batches of LAPACK calls can hang on a CPU."""
        return 1

    def respond(
        self, values: Mapping[str, Any]
    ) -> tuple[Float[Array, "region region"], Float[Array, " root"], Float[Array, "frequency region"] | None]:
        """Connectivity, growth rates of the slowest modes (1/s), and power where the loss sees spectra."""
        grid = frequency_grid(self.observation, self.frequencies)
        linear = linearize(self.network, values, dt=self.dt)
        connect = orthogonalized_connectivity if self.observation.orthogonalizes_simulation else envelope_connectivity
        # One call for all frequencies: two would be two chains of LAPACK calls (see fitting.response.inverse).
        seen = np.zeros(0)
        if self.objective.sees_spectra(self.target):
            seen = self.objective.frequencies(self.observation.fs)
        spectra = cross_spectra(linear, np.concatenate([grid, seen]))
        fc = connect(spectra[: len(grid)], grid, self.observation)
        # A steady state that was not found has no response.
        scale = jnp.abs(linear.steady).max() / self.dt
        fc = jnp.where(linear.residual <= 1e4 * jnp.finfo(fc.dtype).eps * scale, fc, jnp.nan)
        slowest, fastest = self.watched[1:]
        own = own_modes(linear)
        near = (jnp.abs(own.imag) / (2 * np.pi) >= slowest) & (jnp.abs(own.imag) / (2 * np.pi) <= fastest)
        modes = [rightmost_roots(linear, f).real for f in self.watched]
        growth = jnp.concatenate([*modes, jnp.where(near, 1e3 * FAR, own.real)])
        power = jnp.diagonal(spectra[len(grid) :], axis1=1, axis2=2).real if len(seen) else None
        return fc, growth, power

    @property
    def effective_samples(self) -> float:
        """Independent samples of an envelope in ``seconds``: ``T (integral of P)^2 / (integral of P^2)``."""
        observation = self.observation
        frequencies = np.linspace(0, observation.fs / 2, 200_001)
        if observation.low_pass is None:
            power = band_response(observation, frequencies)
        else:
            sos = low_pass(observation.low_pass, observation.fs, observation.order)
            power = np.abs(scipy.signal.sosfreqz(sos, frequencies, fs=observation.fs)[1]) ** 4
        width = 2 * power.sum() ** 2 / (power**2).sum() * (frequencies[1] - frequencies[0])
        return float(width * (self.seconds or 0.0))

    def evaluate(
        self, values: Mapping[str, Any], key=None, duration: float | None = None
    ) -> tuple[Terms, Float[Array, "region region"]]:
        """Terms of the loss (without what is added for the optimiser's sake) and connectivity."""
        return self._compare(values)[:2]

    def _compare(self, values):
        fc, growth, power = self.respond(values)
        correlation = fc_correlation(fc, self.target.fc, self.target.pairs)
        distance = jnp.zeros(())
        if power is not None and self.target.spectrum is not None:
            distance = self.objective.spectral_distance(power, self.target.spectrum)
        expected = correlation
        if self.seconds is not None:
            upper = upper_pairs(self.network.regions, self.target.pairs)
            variance = jnp.var(fc[upper])
            expected = correlation * jnp.sqrt(variance / (variance + 1 / self.effective_samples))
        loss = self.objective.fc * (1 - expected) + self.objective.spectrum * distance
        return Terms(loss, correlation, distance), fc, growth

    def loss(self, point: Mapping[str, Any], key=None) -> tuple[Float[Array, ""], Terms]:
        """Loss at an unconstrained point, penalties and priors included."""
        terms, _, growth = self._compare(self.parameters.values(point))
        unstable = jax.nn.softplus(4 * (growth + self.damping)).sum() / 4
        spread = sum(jnp.var(point[p.name]) for p in self.parameters.free if p.per_region)
        loss = terms.loss + self.penalty * unstable + self.spread * spread + self.parameters.penalty(point)
        return loss, terms._replace(loss=loss)
