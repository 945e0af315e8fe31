"""What is to be reproduced: connectivity, and spectra where they are in model units, with the regions' labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float

from fitting.data import fc_target, good_pieces
from fitting.devices import over_devices, rounds_over_devices
from fitting.errors import InputError
from fitting.programs import compiled
from fitting.progress import Progress, Reporter, silent
from fitting.signal import Observation


@dataclass(frozen=True, eq=False)
class Target:
    """What is to be reproduced.

    Parameters
    ----------
    fc : array (region, region)
        Functional connectivity.
    labels : sequence of str
        Names of the regions.
    spectrum : array (frequency, region), optional
        Power spectral density at the observation's frequencies, in the model's own units, where there is one.
    seconds : float
        Length of the recordings behind it, of all people together; infinite if unknown.
    people : int
        Whose connectivity was averaged, each as long.
    pairs : array of bool (region, region), optional
        Symmetric: the pairs of regions that a fit may see; all unless given. See :meth:`split`.

    Examples
    --------
    >>> from fitting.data import fc_target
    >>> from fitting.objective import Target
    >>> Target.of_matrix(fc_target([[0, 0.2], [0.2, 0]], ["A.L", "A.R"])).labels
    ('A.L', 'A.R')
    """

    fc: Float[Any, "region region"]
    labels: Sequence[str]
    spectrum: Float[Array, "frequency region"] | None = None
    seconds: float = float("inf")
    pairs: Bool[np.ndarray, "region region"] | None = None
    people: int = 1

    def __post_init__(self):
        object.__setattr__(self, "labels", tuple(str(label) for label in self.labels))
        if self.people < 1:
            raise InputError(f"connectivity is that of at least one person; got {self.people}")
        if not self.seconds > 0:
            raise InputError(
                f"connectivity is that of some seconds, or of an unknown length (inf); got {self.seconds:g}"
            )
        if self.fc.shape != (len(self.labels), len(self.labels)):
            raise InputError(f"the target's connectivity is {self.fc.shape}, and it has {len(self.labels)} labels")

    @classmethod
    def of_matrix(cls, matrix: xr.DataArray) -> Target:
        """The target that a labelled matrix is: see :func:`fitting.data.fc_target`."""
        if not isinstance(matrix, xr.DataArray):
            raise InputError("a matrix needs the names of its regions: fitting.data.fc_target(matrix, labels)")
        return cls(jnp.asarray(matrix.values, jnp.result_type(float)), matrix["region"].values.tolist())

    @classmethod
    def of_recordings(
        cls,
        recordings: Sequence[xr.DataArray],
        observation: Observation,
        spectrum: bool = True,
        stretch: float = float("inf"),
        progress: Reporter = silent,
    ) -> Target:
        """Connectivity, and spectra if they are in model units, of one or several recordings.

        Every stretch between bad segments is processed by itself, and stretches shorter than
        :attr:`fitting.signal.Observation.shortest` are left out (see :func:`fitting.data.good_pieces`). Stretches and
        runs of a subject are averaged by their length; subjects count alike.

        Parameters
        ----------
        recordings : sequence of DataArray (time, region)
            See :mod:`fitting.data.objects`; with the same regions in the same order.
        observation : Observation
        spectrum : bool
            Whether spectra are to be part of it.
        stretch : float
            Spectra are the geometric means of those of stretches of so many seconds. The logarithm of an estimate
            depends on how long it was estimated for, so it should be as long as what is compared with it
            (:attr:`fitting.predict.Predictor.stretch`).
        progress : callable, optional
            Told of every recording's connectivity, where there are several.

        Returns
        -------
        Target

        Raises
        ------
        InputError
            If there is none, regions differ, nothing is left of one, or a signal is constant.
        """
        pieces = _pieces(recordings, observation)
        seconds = _seconds_of_subjects(pieces)

        def mean(values):
            return sum(_of_subjects(values, pieces).values(), jnp.zeros(())) / len(seconds)

        density = None
        if spectrum and all(piece.attrs.get("units") == "model" for piece in pieces):
            density = jnp.exp(mean(_of_every(_log_spectrum, (observation, stretch), pieces, silent)))
        fc = mean(_of_every(observation.fc, (), pieces, progress))
        if not np.isfinite(fc).all():
            # Called by itself it says what is wrong, if it knows.
            for piece in pieces:
                observation.fc(jnp.asarray(piece.values), float(piece.attrs["fs"]))
            largest = max(float(np.abs(piece.values).max()) for piece in pieces)
            raise InputError(
                f"connectivity of the recording is not finite: its signals reach {largest:.2g}; scale them to about "
                f"one, or compute in 64 bits"
            )
        return cls(
            fc, recordings[0]["region"].values.tolist(), density, float(sum(seconds.values())), people=len(seconds)
        )

    def check_labels(self, labels: Sequence[str]):
        """Refuse a target whose regions are not these, in this order."""
        if self.labels == tuple(labels):
            return
        foreign = [label for label in self.labels if label not in labels]
        missing = [label for label in labels if label not in self.labels]
        words = "; ".join(
            f"{what}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
            for what, names in (("the network does not have", foreign), ("the target does not have", missing))
            if names
        )
        raise InputError(
            f"the target's regions are not the network's: {words or 'their order differs'}. "
            f"Match them by label first (fitting.data.match)"
        )

    def split(self, fraction: float, seed: int, by: str = "pairs") -> Target:
        """The same target, of which a fit sees a random part of the pairs; the others are held out.

        Parameters
        ----------
        fraction : float
            Share that a fit sees.
        seed : int
        by : str
            Of what: ``"pairs"``, or ``"regions"``; then every pair with one of the other regions is held out.
        """
        if not 0 < fraction < 1:
            raise InputError(f"the fraction of {by} to fit must lie between 0 and 1; got {fraction}")
        regions = self.fc.shape[0]
        rng = np.random.default_rng(seed)
        if by == "regions":
            kept = np.zeros(regions, bool)
            kept[rng.permutation(regions)[: round(fraction * regions)]] = True
            return self.among(kept)
        if by != "pairs":
            raise InputError(f"a target is split by pairs or by regions; got {by!r}")
        upper = np.triu_indices(regions, 1)
        order = rng.permutation(len(upper[0]))
        seen = np.zeros((regions, regions), bool)
        chosen = order[: round(fraction * len(order))]
        seen[upper[0][chosen], upper[1][chosen]] = True
        return replace(self, pairs=seen | seen.T)

    def among(self, regions: Bool[np.ndarray, " region"]) -> Target:
        """The same target, of which a fit sees the pairs among some regions; all other pairs are held out.

        Parameters
        ----------
        regions : bool array (region,)

        Examples
        --------
        >>> import jax.numpy as jnp, numpy as np
        >>> from fitting.objective import Target
        >>> target = Target(jnp.eye(4), ["A.L", "B.L", "C.L", "A.R"])
        >>> target.among(np.array([True, True, True, False])).held_out[:, 3].tolist()
        [True, True, True, False]
        """
        if regions.sum() < 3:
            raise InputError(f"{regions.sum()} of {len(regions)} regions are left to fit; 3 are needed")
        return replace(self, pairs=np.outer(regions, regions) & ~np.eye(len(regions), dtype=bool))

    @property
    def whole(self) -> Target:
        """The same target, all pairs of it."""
        return replace(self, pairs=None)

    @property
    def held_out(self) -> Bool[np.ndarray, "region region"] | None:
        """Pairs that a fit must not see; None if it sees all."""
        return None if self.pairs is None else ~self.pairs & ~np.eye(len(self.pairs), dtype=bool)


def _log_spectrum(observation: Observation, stretch: float, signals, fs: float):
    """Mean logarithm of the power of a recording's stretches; what is left over at its end is not used."""
    signals = observation.resample(signals, fs)
    length = min(len(signals), round(min(stretch, len(signals)) * observation.fs))
    whole = len(signals) // length
    power = jax.vmap(observation.spectrum)(signals[: whole * length].reshape(whole, length, -1))
    return jnp.log(jnp.maximum(power, jnp.finfo(power.dtype).tiny)).mean(0)


def _pieces(recordings: Sequence[xr.DataArray], observation: Observation) -> list[xr.DataArray]:
    """What there is to use of recordings, which must be of the same regions."""
    if isinstance(recordings, xr.DataArray):
        raise InputError("a target is made of a list of recordings, also of one: [recording]")
    if not recordings:
        raise InputError("a target needs at least one recording")
    labels = recordings[0]["region"].values.tolist()
    if any(one["region"].values.tolist() != labels for one in recordings):
        raise InputError("recordings must have the same regions in the same order; match them first")
    pieces = [piece for one in recordings for piece in good_pieces(one, observation.shortest)[0]]
    for piece in pieces:
        _refuse_constant(piece)
    return pieces


def _subject(piece: xr.DataArray) -> str:
    return str(piece.attrs.get("subject", ""))


def _seconds(piece: xr.DataArray) -> float:
    return piece.sizes["time"] / float(piece.attrs["fs"])


def _seconds_of_subjects(pieces: Sequence[xr.DataArray]) -> dict[str, float]:
    return {one: sum(_seconds(p) for p in pieces if _subject(p) == one) for one in map(_subject, pieces)}


def _of_subjects(values: Sequence[Array], pieces: Sequence[xr.DataArray]) -> dict[str, Array]:
    """Means of the values of each subject's pieces, longer ones counting for more."""
    means: dict[str, Array] = {}
    for subject, seconds in _seconds_of_subjects(pieces).items():
        own = [(v, p) for v, p in zip(values, pieces, strict=True) if _subject(p) == subject]
        means[subject] = sum((_seconds(piece) / seconds * value for value, piece in own), jnp.zeros(()))
    return means


def subject_connectivity(
    recordings: Sequence[xr.DataArray], observation: Observation, progress: Reporter = silent
) -> dict[str, xr.DataArray]:
    """Connectivity of every subject, over all its recordings: what :meth:`Target.of_recordings` is the mean of.

    Parameters
    ----------
    recordings : sequence of DataArray (time, region)
    observation : Observation
    progress : callable, optional
        Told of every recording, where there are several.

    Returns
    -------
    dict of DataArray (region, other)
        By subject.

    Raises
    ------
    InputError
        If there is none, regions differ, nothing is left of one, or a signal is constant.

    Examples
    --------
    >>> import numpy as np
    >>> from fitting.data import recording
    >>> from fitting.objective import subject_connectivity
    >>> from fitting.signal import Observation
    >>> signals = np.random.default_rng(0).standard_normal((2, 1000, 2))
    >>> two = [recording(x, 100.0, ["A.L", "A.R"]).assign_attrs(subject=name) for x, name in zip(signals, ("01", "02"))]
    >>> sorted(subject_connectivity(two, Observation()))
    ['01', '02']
    """
    pieces = _pieces(recordings, observation)
    means = _of_subjects(_of_every(observation.fc, (), pieces, progress), pieces)
    return {subject: fc_target(np.asarray(fc), pieces[0]["region"].values.tolist()) for subject, fc in means.items()}


@lru_cache(maxsize=16)
def _alone(function, settings, fs: float):
    """A compiled function of one piece, with an axis of pieces in front; the same one for the same settings."""
    program = compiled(partial(function, *settings, fs=fs))
    return lambda signals: program(signals[0])[None]


def _of_every(function, settings: tuple, pieces: Sequence[xr.DataArray], progress: Reporter) -> list[Array]:
    """A function of settings, signals and their rate, of every piece; pieces that are alike go to all devices."""
    alike: dict[tuple, list[int]] = {}
    for number, piece in enumerate(pieces):
        alike.setdefault((piece.shape, piece.dtype, float(piece.attrs["fs"])), []).append(number)
    values: dict[int, Array] = {}
    for (_, _, fs), numbers in alike.items():
        one = partial(function, *settings, fs=fs)
        every = over_devices(one) if len(numbers) > 1 else _alone(function, settings, fs)
        for some in rounds_over_devices(len(numbers)):
            # Means are taken off before they fill the digits that 32 bits have.
            signals = (pieces[number].values for number in numbers[some])
            centred = np.stack([x - x.mean(0, dtype=float) for x in signals])
            values |= zip(numbers[some], map(jnp.asarray, every(jnp.asarray(centred))), strict=True)
            if len(pieces) > 1:
                progress(Progress("connectivity", len(values), len(pieces)))
    return [values[number] for number in range(len(pieces))]


def _refuse_constant(piece: xr.DataArray):
    # A constant has no envelope: what is computed of it is rounding.
    spread, size = np.ptp(piece.values, axis=0), np.abs(piece.values).max(axis=0)
    still = piece["region"].values[spread <= 1e-9 * size]
    if len(still):
        raise InputError(
            f"the recording {piece.attrs.get('provenance', '')} is constant in {', '.join(still)}, so that it "
            f"has no connectivity there; leave these regions out of the recording and of the connectome"
        )
