"""A fitting problem: what predicts, what may change, what is to be reproduced, and what a difference costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fitting.devices import over_devices, side_by_side
from fitting.errors import InputError
from fitting.objective import Objective, Target, Terms, terms_of
from fitting.optimize.parameters import Parameters
from fitting.predict import Prediction, Predictor
from fitting.programs import compiled


def repeated(point: Mapping[str, Any], count: int) -> dict[str, np.ndarray]:
    """A point as so many equal points (element, ...), for :meth:`Problem.evaluated`."""
    return {name: np.repeat(np.asarray(value)[None], count, axis=0) for name, value in point.items()}


def _floats(points: Mapping[str, Any]) -> dict[str, Any]:
    return {name: jnp.asarray(value, jnp.result_type(float)) for name, value in points.items()}


@dataclass(frozen=True, eq=False)
class Problem:
    """What is fitted to what.

    Parameters
    ----------
    predictor : Predictor
        Its network gets room for the signal speeds that the parameters can reach.
    parameters : sequence of Parameter
        Held as :class:`Parameters`.
    target : Target
        Of the network's regions, in its order.
    loss : callable
        Differentiable function of a :class:`fitting.predict.Prediction` and the target.
    seeds : int
        Noise seeds averaged in each evaluation of the loss.

    Raises
    ------
    InputError
        If the target has other regions than the network, or a parameter does not fit the network.

    Examples
    --------
    >>> import jax
    >>> from fitting.data import fc_target, hcp_aal2
    >>> from fitting.network import Network
    >>> from fitting.objective import Target
    >>> from fitting.optimize import Parameter, Problem
    >>> from fitting.predict import Simulation
    >>> from fitting.signal import Observation
    >>> c = hcp_aal2(regions=3)
    >>> target = Target.of_matrix(fc_target(c.weights.values, list(c.target.values)))
    >>> simulation = Simulation(Network(c), Observation(), duration="10 s", dt="1 ms")
    >>> problem = Problem(simulation, [Parameter("k", 1.0, 0.1, 5.0)], target)
    >>> loss, terms = problem.value(problem.parameters.start(), jax.random.key(0))
    >>> loss.shape
    ()
    """

    predictor: Predictor
    parameters: Any
    target: Target
    loss: Callable[[Prediction, Target], Float[Array, ""]] = field(default_factory=Objective)
    seeds: int = 1

    def __post_init__(self):
        if self.seeds < 1:
            raise InputError(f"at least one noise seed is needed; got {self.seeds}")
        network = self.predictor.network
        self.target.check_labels(network.labels)
        parameters = Parameters(tuple(self.parameters), network)
        if parameters.speeds != network.bounds.speed:
            network = network.for_speeds(*parameters.speeds)
            object.__setattr__(self, "predictor", replace(self.predictor, network=network))
        object.__setattr__(self, "parameters", replace(parameters, network=network))

    @property
    def network(self):
        """The predictor's network."""
        return self.predictor.network

    @property
    def observation(self):
        """The predictor's observation."""
        return self.predictor.observation

    def predicted_by(self, predictor: Predictor) -> Problem:
        """The same problem by another predictor: this very one, with what it has compiled, by its own."""
        return self if predictor is self.predictor else replace(self, predictor=predictor)

    def predict(self, values: Mapping[str, Any], key) -> Prediction:
        """Prediction of parameter values, with spectra if the target has some."""
        predictor = self.predictor
        # Not the predictor's own predict: a program within a program holds the connectome's numbers.
        activity = predictor.activity(values, key)
        return predictor.observe(activity, predictor.observation, self.target.spectrum is not None)

    @cached_property
    def compiled_predict(self) -> Callable[[Mapping[str, Any], Any], Prediction]:
        """:meth:`predict` as a program that is compiled once, for whoever calls it."""
        return compiled(self.predict)

    def terms(self, prediction: Prediction) -> Terms:
        """Terms of the loss of a prediction."""
        return terms_of(self.loss(prediction, self.target), prediction, self.target)

    def total(self, point: Mapping[str, Any], prediction: Prediction) -> Terms:
        """As :meth:`terms`, of the prediction at an unconstrained point, penalties and priors included in the loss."""
        terms = self.terms(prediction)
        return terms._replace(loss=terms.loss + prediction.penalty + self.parameters.penalty(point))

    def value_of_seed(self, point: Mapping[str, Any], key) -> tuple[Float[Array, ""], Terms]:
        """As :meth:`value`, for the one noise seed of this very key."""
        terms = self.total(point, self.predict(self.parameters.values(point), key))
        return terms.loss, terms

    def value(self, point: Mapping[str, Any], key) -> tuple[Float[Array, ""], Terms]:
        """Loss at an unconstrained point, penalties and priors included, averaged over noise seeds from ``key``."""
        if self.seeds == 1:
            return self.value_of_seed(point, self.keys(key)[0])
        each = jax.lax.map(lambda key: self.value_of_seed(point, key), self.keys(key))
        return jax.tree.map(jnp.mean, each)

    def value_and_grad(self, point: Mapping[str, Any], key) -> tuple[tuple[Float[Array, ""], Terms], dict[str, Any]]:
        """Loss and terms, and the gradient, averaged over noise seeds from ``key``: for steps of one's own."""
        one = jax.value_and_grad(self.value_of_seed, has_aux=True)
        if self.seeds == 1:
            return one(point, self.keys(key)[0])
        each = jax.lax.map(lambda key: one(point, key), self.keys(key))
        return jax.tree.map(lambda x: x.mean(0), each)

    def evaluated(self, points: Mapping[str, Any], keys, batch: int | None = None) -> tuple[Terms, Prediction]:
        """Terms and predictions of many unconstrained points, each with the one noise seed of its key, on all devices.

        One program serves whoever asks for losses, or for predictions alone: searches, steps and checks.

        Parameters
        ----------
        points : mapping of arrays (element, ...)
        keys : PRNG keys (element,)
        batch : int, optional
            Elements that a device computes side by side: :meth:`at_once` unless given.

        Returns
        -------
        Terms, Prediction
            Trees of NumPy arrays (element, ...).
        """
        return self._evaluated(batch or self.at_once())((_floats(points), keys))

    @cached_property
    def _evaluated(self):
        def one(element):
            point, key = element
            prediction = self.predict(self.parameters.values(point), key)
            return self.total(point, prediction), prediction

        return cache(lambda batch: over_devices(one, batch))

    def gradients(self, points: Mapping[str, Any], keys) -> tuple[Terms, dict[str, np.ndarray]]:
        """Terms at many unconstrained points, each with the one noise seed of its key, and gradients of their losses.

        On all devices, by one program for whoever follows gradients: checks of them, races and descents.

        Parameters
        ----------
        points : mapping of arrays (element, ...)
        keys : PRNG keys (element,)

        Returns
        -------
        Terms, dict
            NumPy arrays (element, ...).
        """
        return self._gradients((_floats(points), keys))

    @cached_property
    def _gradients(self):
        def one(element):
            (_, terms), gradient = jax.value_and_grad(self.value_of_seed, has_aux=True)(*element)
            return terms, gradient

        return over_devices(one, self.at_once(gradient=True))

    def predicted(self, point: Mapping[str, Any], key) -> Prediction:
        """The prediction at one unconstrained point, of the one noise seed of this very key."""
        _, predictions = self.evaluated(repeated(point, 1), key[None])
        return jax.tree.map(lambda x: jnp.asarray(x[0]), predictions)

    def losses(self, points: Mapping[str, Any], keys, batch: int | None = None) -> Terms:
        """Terms of many unconstrained points (element, ...), each averaged over the noise seeds of its key."""
        seeds = self._every_key(keys)
        every = {name: np.repeat(np.asarray(value), self.seeds, axis=0) for name, value in points.items()}
        terms, _ = self.evaluated(every, seeds, batch)
        return jax.tree.map(lambda x: x.reshape(-1, self.seeds).mean(1), terms)

    def keys(self, key):
        """Keys of the noise seeds that follow from one key."""
        return jax.random.split(key, self.seeds)

    @cached_property
    def _every_key(self):
        return jax.jit(lambda keys: jax.vmap(self.keys)(keys).ravel())

    def at_once(self, gradient: bool = False) -> int:
        """Predictions that a device computes side by side: see :func:`fitting.devices.side_by_side`."""
        return side_by_side(self.predictor.cost(gradient).bytes)
