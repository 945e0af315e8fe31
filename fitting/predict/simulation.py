"""Predict by simulation: noisy, and true wherever the network goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fitting.errors import InputError
from fitting.network import Adjoint, Network, simulate, steps_of
from fitting.predict.cost import Cost, connectivity_seconds, simulation_cost
from fitting.predict.predictor import Prediction, Predictor
from fitting.response import steady_state
from fitting.signal import Observation
from fitting.units import magnitude

#: Where simulations may start.
STARTS = ("node", "steady")

#: Horizons in ms that gradients are cut at where the exact one cannot be followed.
HORIZONS = (1000.0, 250.0)


@dataclass(frozen=True, eq=False)
class Simulation(Predictor):
    """Connectivity and spectra of simulated activity.

    Parameters
    ----------
    network : Network
    observation : Observation
    duration, dt : str or float
        Length and step of each simulation, the transient included; plain numbers are ms.
    replicates : int
        Parts that each simulation is divided into. Noise lowers correlations, and parts do not share it: what they
        have in common tells how much of the connectivity is noise.
    start : str
        Where simulations start: at the ``node``'s initial values, or at the network's ``steady`` state (see
        :func:`fitting.response.steady_state`). They differ where a network has several attractors.
    adjoint : str
        See :class:`fitting.network.Adjoint`.
    horizon : str or float, optional
        See :class:`fitting.network.Adjoint`.
    precision : int, optional
        Bits of the numbers that are simulated, 32 or 64: JAX's default unless given. Half of them take little more than
        half the time.

    Raises
    ------
    InputError
        If simulations are too short to be observed, or their steps too long for the band.

    Examples
    --------
    >>> import jax
    >>> from fitting.data import hcp_aal2
    >>> from fitting.network import Network
    >>> from fitting.predict import Simulation
    >>> from fitting.signal import Observation
    >>> simulation = Simulation(Network(hcp_aal2(regions=3)), Observation(), duration="10 s", dt="1 ms")
    >>> simulation.predict({"k": 0.5}, jax.random.key(0)).fc.shape
    (3, 3)
    """

    network: Network
    observation: Observation
    duration: Any = "30 s"
    dt: Any = "0.25 ms"
    replicates: int = 2
    start: str = "node"
    adjoint: str = "block"
    horizon: Any = None
    precision: int | None = None

    noisy = True

    def __post_init__(self):
        for name in ("duration", "dt", "horizon"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, float(magnitude(value, "ms", name)))
        steps_of(self.duration, self.dt)
        Adjoint(self.adjoint, self.horizon)
        if self.horizon is not None:
            steps_of(self.horizon, self.dt)
        if self.start not in STARTS:
            raise InputError(f"unknown start {self.start!r}; choose from {', '.join(STARTS)}")
        if self.precision not in (None, 32, 64):
            raise InputError(f"precision must be 32 or 64 bits; got {self.precision}")
        if self.precision == 64 and jnp.result_type(float) != jnp.float64:
            raise InputError("JAX computes in 32 bits; 64 need its setting jax_enable_x64 (of scripts, precision=64)")
        if self.replicates < 1:
            raise InputError(f"replicates must be at least 1; got {self.replicates}")
        observation, highest = self.observation, 500.0 / self.dt
        observation.check_regions(self.network.labels)
        if observation.band[1] >= highest:
            raise InputError(
                f"steps of {self.dt:g} ms hold nothing above {highest:g} Hz, but the band reaches "
                f"{observation.band[1]:g} Hz. Lower dt"
            )
        needed = 2 * observation.trim + 1
        if self.stretch < needed * (1 - 1e-9):
            raise InputError(
                f"a simulation of {self.duration / 1000:g} s leaves {self.seconds:g} s after the transient of "
                f"{observation.transient:g} s; {self.replicates} replicates of at least {needed:g} s are needed. Raise "
                "duration (plain numbers are in ms)"
            )

    @property
    def seconds(self) -> float:
        """Length of what is observed in s: without the transient."""
        return self.duration / 1000 - self.observation.transient

    @property
    def dtype(self):
        """Of the numbers that are simulated."""
        return jnp.result_type(f"float{self.precision}" if self.precision else float)

    def activity(self, values: Mapping[str, Any], key) -> Float[Array, "time region"]:
        """See :class:`Predictor`: the coupled variable at every step."""
        state = steady_state(self.network, values, dt=self.dt) if self.start == "steady" else None
        return simulate(
            self.network,
            values,
            duration=self.duration,
            dt=self.dt,
            key=key,
            state=state,
            adjoint=Adjoint(self.adjoint, self.horizon),
            dtype=self.dtype,
        ).rates

    def _settled(self, activity, observation: Observation) -> Float[Array, "samples region"]:
        fs = 1000.0 / self.dt
        return observation.mixed(observation.resample(observation.settled(activity, fs), fs))

    def traces(self, activity: Float[Array, "time region"]) -> Float[Array, "samples region"]:
        """See :class:`Predictor`."""
        return self._settled(activity, self.observation)

    def observe(
        self, activity: Float[Array, "time region"], observation: Observation, spectrum: bool = False
    ) -> Prediction:
        """See :class:`Predictor`."""
        signals = self._settled(activity, observation)
        length = signals.shape[0] // self.replicates
        parts = signals[: length * self.replicates].reshape(self.replicates, length, -1)
        spectra = jax.vmap(observation.spectrum)(parts) if spectrum else None
        return Prediction(jax.vmap(observation.simulated_fc)(parts), spectra, jnp.zeros(()))

    def cost(self, gradient: bool = False) -> Cost:
        """See :class:`Predictor`."""
        run = simulation_cost(self.network, duration=self.duration, dt=self.dt, gradient=gradient, dtype=self.dtype)
        observed = connectivity_seconds(self.observation, self.network.regions, self.duration / 1000, gradient, True)
        return Cost(run.seconds + observed, run.bytes)

    def horizons(self) -> Mapping[str, Simulation]:
        """See :class:`Predictor`."""
        return {"whole": self} | {f"{horizon:g} ms": replace(self, horizon=horizon) for horizon in HORIZONS}

    def forward_mode(self) -> Simulation:
        """See :class:`Predictor`."""
        return replace(self, adjoint="forward")

    def unstable(self, values: Mapping[str, Any]) -> int:
        """See :class:`Predictor`: simulations go wherever the network goes."""
        return 0

    def remarks(self, values: Mapping[str, Any]) -> list[str]:
        """See :class:`Predictor`: there are none."""
        return []
