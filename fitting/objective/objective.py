"""Losses: how a prediction is compared with a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from fitting.errors import InputError
from fitting.objective.target import Target
from fitting.predict import Prediction
from fitting.signal import fc_correlation, upper_pairs

#: Least share of their variance that replicates are taken to have in common: what they may be corrected by ends here.
LEAST_RELIABILITY = 0.25

#: What connectivity is compared by.
MEASURES = ("correlation", "concordance")


class Terms(NamedTuple):
    """A loss, and what it is made of.

    Attributes
    ----------
    loss : array ()
        What a fit makes small.
    fc_correlation : array ()
        Pearson correlation of predicted and target connectivity, over the pairs that the fit may see.
    spectrum : array ()
        Mean squared difference of log10 power over frequencies and regions (zero where a target has no spectra).
    reliability : array ()
        Share of the variance of connectivity that replicates of the prediction share; one for a single replicate.
    """

    loss: Float[Array, ""]
    fc_correlation: Float[Array, ""]
    spectrum: Float[Array, ""]
    reliability: Float[Array, ""]


def disattenuated_correlation(
    replicates: Float[Array, "replicate region region"] | Sequence[Float[Array, "region region"]],
    target: Float[Array, "region region"],
    pairs: Bool[np.ndarray, "region region"] | None = None,
) -> Float[Array, ""]:
    """Correlation with a target, corrected for the noise that replicates of a prediction do not share.

    Parameters
    ----------
    replicates : array (replicate, region, region)
        Connectivity, estimated several times; of one replicate the correlation is the plain one.
    target : array (region, region)
    pairs : array of bool (region, region), optional
        Pairs to compare; all unless given.

    Returns
    -------
    array ()
        Unbiased by noise in the replicates, so it may exceed one by chance. Replicates that do not agree
        are taken to share a least part of their variance (two of them a quarter): the correction is bounded, so
        that no candidate can win by parts that disagree.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fitting.objective import disattenuated_correlation
    >>> a = jnp.array([[0.0, 1.0, 2.0], [1.0, 0.0, 4.0], [2.0, 4.0, 0.0]])
    >>> round(float(disattenuated_correlation([a, a], a)), 4)
    1.0
    """
    return _disattenuated_correlation(*_chosen(replicates, target, pairs))


@jax.jit
def _disattenuated_correlation(values, t):
    t = t - t.mean()
    mean, total, shared = _moments(values)
    size = jnp.maximum(shared, least_reliability(len(values)) * total) * (t**2).mean()
    # Where nothing varies nothing correlates; what is not finite stays so.
    constant = size <= 0
    covariance = ((mean - mean.mean()) * t).mean()
    return jnp.where(constant, 0.0, covariance / jnp.sqrt(jnp.where(constant, 1.0, size)))


def concordance(
    replicates: Float[Array, "replicate region region"] | Sequence[Float[Array, "region region"]],
    target: Float[Array, "region region"],
    pairs: Bool[np.ndarray, "region region"] | None = None,
) -> Float[Array, ""]:
    r"""Lin's concordance with a target: the correlation, lowered by whatever sets means and spreads apart.

    :math:`2 \mathrm{cov}(m, t) / (\mathrm{var}(m) + \mathrm{var}(t) + (\bar m - \bar t)^2)`. The variance of m is what
    replicates share, so that noise in short simulations does not count as spread, but at least the part of their own
    that :func:`least_reliability` gives.

    Parameters
    ----------
    replicates : array (replicate, region, region)
        Connectivity, estimated once or several times.
    target : array (region, region)
    pairs : array of bool (region, region), optional
        Pairs to compare; all unless given.

    Returns
    -------
    array ()
        One where both agree exactly.

    References
    ----------
    Lin, Biometrics 45 (1989), 255-268.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fitting.objective import concordance
    >>> a = jnp.array([[0.0, 1.0, 2.0], [1.0, 0.0, 4.0], [2.0, 4.0, 0.0]])
    >>> round(float(concordance([a], a)), 4), round(float(concordance([2 * a], a)), 4)
    (1.0, 0.4706)
    """
    return _concordance(*_chosen(replicates, target, pairs))


@jax.jit
def _concordance(values, t):
    mean, total, shared = _moments(values)
    apart = (mean.mean() - t.mean()) ** 2
    size = jnp.maximum(shared, least_reliability(len(values)) * total) + t.var() + apart
    covariance = ((mean - mean.mean()) * (t - t.mean())).mean()
    constant = size <= 0
    return jnp.where(constant, 0.0, 2 * covariance / jnp.where(constant, 1.0, size))


def _chosen(replicates, target, pairs):
    """Replicates (replicate, pair) and the target (pair), each pair once."""
    rows, columns = upper_pairs(target.shape[0], pairs)
    return jnp.asarray(replicates)[:, rows, columns], jnp.asarray(target)[rows, columns]


def _moments(values):
    """Mean of replicates, their mean variance, and the variance that they share."""
    total, shared = _products(values - values.mean(1, keepdims=True))
    return values.mean(0), total, shared


def _products(parts):
    """Mean square of replicates (replicate, ...), and mean product of two of them (of one, its square)."""
    flat = parts.reshape(len(parts), -1)
    count, size = flat.shape
    # On GPUs the default is fewer digits.
    products = jnp.matmul(flat, flat.T, precision="highest") / size
    total = jnp.trace(products) / count
    others = (products * (1 - jnp.eye(count, dtype=products.dtype))).sum()
    return total, others / (count * (count - 1)) if count > 1 else total


def least_reliability(count: int) -> float:
    """Least share of their variance that so many replicates are taken to have in common.

    That of two is a quarter: their mean then shares two fifths of its variance with another such mean, and so does that
    of more replicates which share less.
    """
    return 0.4 / (count - 0.4 * (count - 1)) if count > 1 else LEAST_RELIABILITY


def spectral_distance(
    spectra: Float[Array, "replicate frequency region"], target: Float[Array, "frequency region"]
) -> Float[Array, ""]:
    """Mean squared difference of log10 power; of several replicates, the mean product of their differences.

    A square would count the noise of an estimated spectrum as well, which depends on the parameters: the best ones
    would be those whose spectra scatter least. Products of replicates whose noise is their own leave it out.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fitting.objective import spectral_distance
    >>> target = jnp.ones((4, 2))
    >>> float(spectral_distance(jnp.stack([10 * target, 10 * target]), target))
    1.0
    >>> round(float(spectral_distance(jnp.stack([10 * target, 0.1 * target]), target)), 6)
    -1.0
    """
    return _spectral_distance(spectra, jnp.asarray(target))


@jax.jit
def _spectral_distance(spectra, target):
    return _products(_log_power(spectra) - _log_power(target))[1]


def _log_power(spectra):
    """log10, and that of the least normal number for silence, whose derivatives of any order are zero."""
    tiny = jnp.finfo(spectra.dtype).tiny
    silent = spectra <= tiny
    return jnp.where(silent, jnp.log10(tiny), jnp.log10(jnp.where(silent, 1.0, spectra)))


@dataclass(frozen=True)
class Objective:
    """The loss unless another is given: connectivity and, where there are some, spectra.

    ``loss = fc (1 - r) + spectrum mean (log10 P_model - log10 P_target)^2``, where ``r`` is the
    correlation of connectivity matrices and ``P`` the power spectral density of each region.
    Connectivity alone ignores how large the activity is; the spectral term sees it, but only a
    target in the model's own units has one (an MEG recording in tesla has none).

    Parameters
    ----------
    fc, spectrum : float
        Weights. Spectra of short simulations scatter far less than connectivity does, whose noise would decide the
        parameters if both counted alike: with a weight of 3, 10 and 20 the best k of a simulation of 28 s scatters by
        6, 2.5 and 2 (unconstrained, times 0.01), the best speed by 31, 27 and 24; more than 20 gains little.
    measure : str
        ``"correlation"``, which is blind to the level and scale of connectivity, or ``"concordance"``, which is not
        (:func:`concordance`); then ``r`` above is Lin's coefficient.
    disattenuate : bool
        Divide the correlation by the reliability of the predicted connectivity. A simulation of
        seconds has noisy connectivity, and noise lowers a correlation: without the correction the
        best parameters are those that make connectivity strong, not those that make it right. The
        correction compares the replicates of each prediction (see Notes). The reported
        ``fc_correlation`` is never corrected.
    sampling_variance : float
        Multiply the correlation by what noise of this variance in every pair would leave of it: what a noise-free
        prediction is expected to score as a finite recording. Weak connectivity, however right, drowns in the noise of
        its estimate. One over :meth:`fitting.signal.Observation.effective_samples` is that of so many seconds. It has
        no part in a concordance, which asks for the target's own level: there it would reward connectivity that is too
        strong.

    Notes
    -----
    With connectivity ``m1`` and ``m2`` of two halves of a simulation, ``t`` of the target, and their
    mean ``m``, the corrected correlation is ``cov(m, t) / sqrt(cov(m1, m2) var(t))`` over pairs of
    regions: noise that the halves do not share leaves both covariances unbiased (Spearman, American
    Journal of Psychology 15, 1904, 72-101).

    Examples
    --------
    >>> from fitting.objective import Objective
    >>> Objective(spectrum=0.0).fc
    1.0
    """

    fc: float = 1.0
    spectrum: float = 20.0
    measure: str = "correlation"
    disattenuate: bool = True
    sampling_variance: float = 0.0

    def __post_init__(self):
        if self.fc < 0 or self.spectrum < 0 or self.fc + self.spectrum == 0:
            raise InputError(f"weights must not be negative nor all zero; got fc {self.fc}, spectrum {self.spectrum}")
        if self.measure not in MEASURES:
            raise InputError(f"unknown measure {self.measure!r}; choose from {', '.join(MEASURES)}")
        if not self.sampling_variance >= 0:
            raise InputError(f"sampling_variance must not be negative; got {self.sampling_variance:g}")

    def __call__(self, prediction: Prediction, target: Target) -> Float[Array, ""]:
        """The loss of a prediction."""
        replicates = prediction.replicates if self.disattenuate else prediction.fc[None]
        if self.measure == "concordance":
            similarity = concordance(replicates, target.fc, target.pairs)
        else:
            similarity = self._correlation(replicates, target)
        loss = self.fc * (1 - similarity)
        if self.spectrum and prediction.spectra is not None and target.spectrum is not None:
            spectra = prediction.spectra if self.disattenuate else prediction.spectra.mean(0, keepdims=True)
            loss = loss + self.spectrum * spectral_distance(spectra, target.spectrum)
        return loss

    def _correlation(self, replicates, target: Target):
        if len(replicates) > 1:
            similarity = disattenuated_correlation(replicates, target.fc, target.pairs)
        else:
            similarity = fc_correlation(replicates[0], target.fc, target.pairs)
        if self.sampling_variance:
            variance = jnp.var(replicates.mean(0)[upper_pairs(target.fc.shape[0], target.pairs)])
            # A root has no slope at zero; what is not finite stays so.
            constant = variance <= 0
            share = jnp.where(constant, 1.0, variance) / (variance + self.sampling_variance)
            similarity = jnp.where(constant, 0.0, similarity * jnp.sqrt(share))
        return similarity


def terms_of(loss: Float[Array, ""], prediction: Prediction, target: Target) -> Terms:
    """A loss beside the measures that every fit reports, whatever its loss is."""
    distance = jnp.zeros(())
    if prediction.spectra is not None and target.spectrum is not None:
        distance = spectral_distance(prediction.spectra, target.spectrum)
    values, _ = _chosen(prediction.replicates, target.fc, target.pairs)
    correlation = fc_correlation(prediction.fc, target.fc, target.pairs)
    return Terms(loss, correlation, distance, _reliability(values))


@jax.jit
def _reliability(values):
    _, total, shared = _moments(values)
    return jnp.where(total <= 0, 1.0, shared / jnp.where(total <= 0, 1.0, total))
