"""What a predictor is: the one thing that fits, searches and scores know about a model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float

from fitting.network import Network
from fitting.predict.cost import Cost
from fitting.signal import Observation


class Prediction(NamedTuple):
    """What a network with some parameters is expected to show.

    Attributes
    ----------
    replicates : array (replicate, region, region)
        Connectivity, estimated once or several times with noise of its own: what replicates share is no noise.
    spectra : array (replicate, frequency, region) or None
        Power spectral density of each replicate at the observation's frequencies, in the model's units, where it was
        asked for.
    penalty : array ()
        What is added to any loss, such as a price for coming close to instability.
    """

    replicates: Float[Array, "replicate region region"]
    spectra: Float[Array, "replicate frequency region"] | None
    penalty: Float[Array, ""]

    @property
    def fc(self) -> Float[Array, "region region"]:
        """Connectivity: the mean of the replicates."""
        return self.replicates.mean(0)


@runtime_checkable
class Predictor(Protocol):
    """Anything that predicts. A predictor is a frozen dataclass; a new one is one file.

    Attributes
    ----------
    network : Network
    observation : Observation
        How what the network does becomes connectivity: the same as for the data.
    dt : float
        Step in ms of the simulation that is run, or linearised.
    noisy : bool
        Whether predictions depend on the key. Those that do are averaged over seeds, and uncertainty is measured on
        seeds; those that do not have a likelihood.
    seconds : float
        Length of the recording that a prediction is like; infinite for one without noise.
    replicates : int
        How many a prediction has.
    stretch : float
        Length of the recording that each of them is like.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    network: Network
    observation: Observation
    dt: Any
    noisy: bool
    replicates: int = 1

    @property
    def seconds(self) -> float:
        """See above."""

    @property
    def stretch(self) -> float:
        """See above."""
        return self.seconds / self.replicates

    def activity(self, values: Mapping[str, Any], key) -> Any:
        """What the network does with these parameter values: a tree of arrays, pure and differentiable."""

    def observe(self, activity: Any, observation: Observation, spectrum: bool = False) -> Prediction:
        """What is seen of that; ``spectrum`` asks for spectra."""

    def traces(self, activity: Any) -> Float[Array, "time region"]:
        """Signals at the observation's rate, to look at; none where the predictor makes none."""

    def predict(self, values: Mapping[str, Any], key, spectrum: bool = False) -> Prediction:
        """What this predictor's own observation sees of the network, by a program that the first call compiles."""
        self.network.check_parameters(values)
        return self._program(dict(values), key, spectrum)

    @cached_property
    def _program(self):
        def predict(values, key, spectrum):
            return self.observe(self.activity(values, key), self.observation, spectrum)

        return jax.jit(predict, static_argnums=2)

    def cost(self, gradient: bool = False) -> Cost:
        """What one prediction, or its value and gradient, needs."""

    def horizons(self) -> Mapping[str, Predictor]:
        """Predictors with the same values but other gradients, the exact one first, by what they are called."""

    def forward_mode(self) -> Predictor:
        """The same predictor, open to forward-mode derivatives."""

    def unstable(self, values: Mapping[str, Any]) -> int:
        """Number of growing modes that spoil the prediction; none where predictions hold everywhere."""

    def remarks(self, values: Mapping[str, Any]) -> list[str]:
        """Sentences that a reader of a fit with these values must know."""
