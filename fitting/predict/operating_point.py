"""Where a network works: its rest, stability, spectra and connectivity at some parameter values, in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fitting.predict.linear_response import LinearResponse
from fitting.programs import compiled
from fitting.response import cross_spectra


class OperatingPoint(NamedTuple):
    """A network at some parameter values, by linear response.

    Attributes
    ----------
    activity : array (region,)
        Steady state of the variable that regions see of each other.
    power : array (frequency, region)
        Power spectral density of that variable, in the model's units.
    fc : array (region, region)
        Envelope connectivity; not finite where no steady state was found.
    growth : array ()
        Growth rate in 1/s of the slowest mode that is watched (:meth:`LinearResponse.growth`): if it is positive, the
        steady state is unstable and nothing else here holds.
    """

    activity: Float[Array, " region"]
    power: Float[Array, "frequency region"]
    fc: Float[Array, "region region"]
    growth: Float[Array, ""]


def operating_point(predictor: LinearResponse, frequencies) -> Callable[[Mapping[str, Any]], OperatingPoint]:
    """A function of parameter values that is compiled once, so that the next values take a fraction of a second.

    Parameters
    ----------
    predictor : LinearResponse
    frequencies : array (frequency,)
        In Hz, of the spectra.

    Returns
    -------
    callable
        Of a mapping of parameter values; returns an :class:`OperatingPoint`.

    Examples
    --------
    >>> from fitting.data import hcp_aal2
    >>> from fitting.network import Network
    >>> from fitting.predict import LinearResponse, operating_point
    >>> from fitting.signal import Observation
    >>> network = Network(hcp_aal2(regions=3), parameters={"drive": 0.6})
    >>> at = operating_point(LinearResponse(network, Observation(orthogonalize=False)), [5.0, 10.0])
    >>> at({"k": 0.5}).power.shape, bool(at({"k": 0.5}).growth < 0)
    ((2, 3), True)
    """
    hz = np.asarray(frequencies, float)

    def at(values: Mapping[str, Any]) -> OperatingPoint:
        linear = predictor.activity(values)
        power = jnp.diagonal(cross_spectra(linear, hz), axis1=1, axis2=2).real
        fc = predictor.observe(linear, predictor.observation).fc
        growth = predictor.growth(linear, predictor.observation).max()
        return OperatingPoint(linear.steady[:, linear.coupled], power, fc, growth)

    return compiled(at)
