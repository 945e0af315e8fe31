"""Several recordings: what is good in them, averages over a group, and leaving one out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import xarray as xr

from fitting.errors import InputError


def good_pieces(recording: xr.DataArray, shortest: float) -> tuple[list[xr.DataArray], float]:
    """The stretches of a recording between its bad segments.

    A filter smears an artefact over its surroundings, so bad segments are cut out before anything is filtered.

    Parameters
    ----------
    recording : DataArray (time, region)
        See :func:`fitting.data.recording`.
    shortest : float
        Shorter stretches than this, in s, are left out too.

    Returns
    -------
    pieces : list of DataArray (time, region)
    left_out : float
        Seconds that are in none of them.

    Raises
    ------
    InputError
        If nothing is left.

    Examples
    --------
    >>> import numpy as np
    >>> from fitting.data import good_pieces, recording
    >>> r = recording(np.zeros((1000, 2)), 100.0, ["A.L", "A.R"], bad=[(3.0, 4.0), (4.5, 5.0)])
    >>> pieces, left_out = good_pieces(r, shortest=1.0)
    >>> [p.sizes["time"] for p in pieces], left_out
    ([300, 500], 2.0)
    """
    fs = float(recording.attrs["fs"])
    good = np.asarray(recording["good"].values, bool) if "good" in recording.coords else np.ones(len(recording), bool)
    edges = np.flatnonzero(np.diff(np.r_[False, good, False]))
    kept = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if (b - a) / fs >= shortest]
    if not kept:
        longest = np.max(edges[1::2] - edges[::2], initial=0) / fs
        raise InputError(
            f"recording {recording.attrs.get('provenance', '')}: no stretch without bad segments is as long as "
            f"{shortest:g} s; the longest has {longest:g} s"
        )
    left_out = len(recording) - sum(int(b - a) for a, b in kept)
    return [recording.isel(time=slice(a, b)) for a, b in kept], left_out / fs


def divide(
    recordings: Sequence[xr.DataArray], share: float, by: str, seed: int = 0
) -> tuple[list[xr.DataArray], list[xr.DataArray]]:
    """Recordings to fit and recordings to hold out.

    Parameters
    ----------
    recordings : sequence of DataArray (time, region)
    share : float
        To hold out, between 0 and 1.
    by : str
        ``"time"``: the end of every recording; ``"runs"`` or ``"subjects"``: whole ones, at least one on either side.
    seed : int
        Chooses runs or subjects.

    Returns
    -------
    seen, unseen : list of DataArray

    Raises
    ------
    InputError
        If there are fewer than two runs or subjects.

    Examples
    --------
    >>> import numpy as np
    >>> from fitting.data import divide, recording
    >>> r = recording(np.zeros((1000, 2)), 100.0, ["A.L", "A.R"])
    >>> [[p.sizes["time"] for p in part] for part in divide([r], 0.3, "time")]
    [[700], [300]]
    """
    if not 0 < share < 1:
        raise InputError(f"the share to hold out must lie between 0 and 1; got {share}")
    if by == "time":
        ends = [round((1 - share) * r.sizes["time"]) for r in recordings]
        first = [r.isel(time=slice(end)) for r, end in zip(recordings, ends, strict=True)]
        return first, [r.isel(time=slice(end, None)) for r, end in zip(recordings, ends, strict=True)]
    if by == "runs":
        names = [str(number) for number in range(len(recordings))]
    elif by == "subjects":
        names = [str(r.attrs.get("subject", "")) for r in recordings]
    else:
        raise InputError(f"recordings are divided by time, runs or subjects; got {by!r}")
    every = sorted(set(names))
    if len(every) < 2:
        raise InputError(f"holding out {by} needs at least two; the data have {len(every)}")
    count = min(max(1, round(share * len(every))), len(every) - 1)
    out = set(np.random.default_rng(seed).permutation(every)[:count].tolist())
    pairs = list(zip(recordings, names, strict=True))
    return [r for r, name in pairs if name not in out], [r for r, name in pairs if name in out]


def group_average(matrices: Mapping[str, xr.DataArray]) -> xr.DataArray:
    """Mean connectivity over subjects, of the regions that all have.

    Parameters
    ----------
    matrices : mapping of subject to DataArray (region, other)

    Returns
    -------
    DataArray (region, other)

    Raises
    ------
    InputError
        If there are none, or their regions differ: match them to the connectome's first.

    Examples
    --------
    >>> from fitting.data import fc_target, group_average
    >>> fc = {s: fc_target([[0, r], [r, 0]], ["A.L", "A.R"]) for s, r in (("01", 0.2), ("02", 0.4))}
    >>> round(float(group_average(fc)[0, 1]), 6)
    0.3
    """
    if not matrices:
        raise InputError("an average needs at least one subject")
    first, *others = matrices
    for subject in others:
        if matrices[subject]["region"].values.tolist() != matrices[first]["region"].values.tolist():
            raise InputError(
                f"the regions of subject {subject} are not those of {first}, in that order; match them first"
            )
    mean = xr.concat(list(matrices.values()), "subject", join="exact", combine_attrs="drop").mean("subject")
    return mean.assign_attrs(matrices[first].attrs | {"provenance": f"mean of {len(matrices)} subjects"})


def leave_one_out(matrices: Mapping[str, xr.DataArray]) -> Iterator[tuple[str, xr.DataArray, xr.DataArray]]:
    """Each subject's connectivity beside the mean of all others.

    Parameters
    ----------
    matrices : mapping of subject to DataArray (region, other)
        At least two.

    Yields
    ------
    subject : str
    others : DataArray (region, other)
        The mean without this subject, to fit.
    own : DataArray (region, other)
        This subject's, to score.

    Examples
    --------
    >>> from fitting.data import fc_target, leave_one_out
    >>> fc = {s: fc_target([[0, r], [r, 0]], ["A.L", "A.R"]) for s, r in (("01", 0.2), ("02", 0.4), ("03", 0.6))}
    >>> [(s, round(float(others[0, 1]), 6), float(own[0, 1])) for s, others, own in leave_one_out(fc)]
    [('01', 0.5, 0.2), ('02', 0.4, 0.4), ('03', 0.3, 0.6)]
    """
    if len(matrices) < 2:
        raise InputError(f"leaving one subject out needs at least two; got {len(matrices)}")
    for subject, own in matrices.items():
        yield subject, group_average({other: m for other, m in matrices.items() if other != subject}), own
