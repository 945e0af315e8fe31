"""The best that any model could score: connectivity estimated from minutes of recording is noisy itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from fitting.data import good_pieces, leave_one_out
from fitting.evaluate.agreement import pearson
from fitting.objective import Target, subject_connectivity
from fitting.progress import Reporter, silent
from fitting.signal import Observation


class Ceiling(NamedTuple):
    """The noise ceiling of a target.

    Attributes
    ----------
    reliability : float
        Correlation that a second, equally long measurement would have with the target.
    ceiling : float
        Correlation that the connectivity without noise would have with the target: the best possible score.
    how : str
        In words.
    halves : array (2, region, region) or None
        What it follows from.
    length : float
        Of the whole in halves; more than two, as each half loses its own ends to filters.
    """

    reliability: float
    ceiling: float
    how: str
    halves: Float[np.ndarray, "2 region region"] | None = None
    length: float = 2.0


def spearman_brown(r, length: float):
    r"""Reliability of a measurement that is so many times longer: :math:`n r / (1 + (n - 1) r)`.

    Spearman, British Journal of Psychology 3, 1910, 271-295; Brown, ibid., 296-322.

    Examples
    --------
    >>> from fitting.evaluate.reliability import spearman_brown
    >>> spearman_brown(0.5, 2.0)
    0.6666666666666666
    """
    return length * r / (1 + (length - 1) * r)


def split_half_ceiling(
    recordings: Sequence[xr.DataArray], observation: Observation, progress: Reporter = silent
) -> Ceiling | None:
    r"""Noise ceiling from the two halves of every recording.

    Halves correlate by r, so whole recordings do as :func:`spearman_brown` says, and connectivity without noise
    correlates with the target by the root of that. Filters take ``observation.trim`` from both ends of every half, so
    the whole is a little more than two of them.

    Parameters
    ----------
    recordings : sequence of DataArray (time, region)
        Those that the target is made of.
    observation : Observation
    progress : callable, optional

    Returns
    -------
    Ceiling or None
        None where halves are too short to be processed, or do not agree at all.

    Examples
    --------
    >>> import numpy as np
    >>> from fitting.data import recording
    >>> from fitting.evaluate import split_half_ceiling
    >>> from fitting.signal import Observation
    >>> noise = np.random.default_rng(0).standard_normal((6000, 4))
    >>> signals = noise + [[3.0, 3.0, 0.5, 0.0]] * np.random.default_rng(1).standard_normal((6000, 1))
    >>> one = recording(signals, 100.0, ["A.L", "A.R", "B.L", "B.R"])
    >>> 0.9 < split_half_ceiling([one], Observation(orthogonalize=False)).ceiling <= 1
    True
    """
    first, second, whole, half = [], [], 0.0, 0.0
    for recording in recordings:
        for piece in good_pieces(recording, observation.shortest)[0]:
            middle, fs = piece.sizes["time"] // 2, float(piece.attrs["fs"])
            whole += _freedom(piece.sizes["time"] / fs, observation)
            if middle / fs < observation.shortest:
                continue
            half += _freedom(middle / fs, observation)
            first.append(piece.isel(time=slice(middle)))
            second.append(piece.isel(time=slice(middle, 2 * middle)))
    if not first:
        return None
    one, other = (
        np.asarray(Target.of_recordings(part, observation, False, progress=progress).fc) for part in (first, second)
    )
    upper = np.triu_indices(len(one), 1)
    r = pearson(one[upper], other[upper])
    if not r > 0:
        return None
    reliability = spearman_brown(r, whole / half)
    words = (
        f"halves of the recording correlate by {r:.3f}, so two recordings as long as it would by {reliability:.3f} "
        f"(Spearman-Brown)"
    )
    return Ceiling(reliability, float(np.sqrt(reliability)), words, np.stack([one, other]), whole / half)


def _freedom(seconds: float, observation: Observation) -> float:
    """Degrees of freedom of envelopes: the variance of a correlation goes with their inverse."""
    return observation.effective_samples(seconds - 2 * observation.trim) - 1


def group_ceiling(
    recordings: Sequence[xr.DataArray], observation: Observation, progress: Reporter = silent
) -> tuple[float, float] | None:
    """:func:`subject_ceiling` of the connectivity of every subject; None of fewer than two."""
    if len({str(one.attrs.get("subject", "")) for one in recordings}) < 2:
        return None
    matrices = subject_connectivity(recordings, observation, progress)
    return subject_ceiling(matrices) if len(matrices) > 1 else None


def subject_ceiling(matrices: Mapping[str, xr.DataArray]) -> tuple[float, float]:
    """Bounds of the noise ceiling of a group: how well the others' mean predicts a subject.

    Parameters
    ----------
    matrices : mapping of subject to DataArray (region, other)
        At least two subjects, with the same regions.

    Returns
    -------
    lower : float
        Mean correlation of each subject's connectivity with the mean of all others (leave-one-subject-out).
    upper : float
        The same with what correlates best with all on average: the mean of every subject's connectivity after its
        own mean and spread have been made those of the others. No model can do better, and the best one lies between
        the two (Nili et al., PLoS Computational Biology 10, 2014, e1003553).

    Examples
    --------
    >>> from fitting.data import fc_target
    >>> from fitting.evaluate import subject_ceiling
    >>> names = ["A.L", "A.R", "B.L"]
    >>> one = fc_target([[0, 0.1, 0.2], [0.1, 0, 0.4], [0.2, 0.4, 0]], names)
    >>> two = fc_target([[0, 0.1, 0.3], [0.1, 0, 0.4], [0.3, 0.4, 0]], names)
    >>> lower, upper = subject_ceiling({"01": one, "02": two})
    >>> lower < upper < 1
    True
    """
    parts = [(own.values, others.values) for _, others, own in leave_one_out(matrices)]
    pairs = np.triu_indices(len(parts[0][0]), 1)
    everyone = [own[pairs] for own, _ in parts]
    best = np.mean([(x - x.mean()) / (x.std() or 1.0) for x in everyone], axis=0)
    lower = [pearson(own[pairs], others[pairs]) for own, others in parts]
    return float(np.mean(lower)), float(np.mean([pearson(own, best) for own in everyone]))
