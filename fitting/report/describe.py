"""Tables that say what data hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from rich.table import Table

from fitting.data import good_pieces, isolated
from fitting.signal import Observation


def _table(title: str, rows: Mapping[str, str]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _span(values: np.ndarray, unit: str) -> str:
    low, middle, high = np.percentile(values, (0, 50, 100))
    return f"{low:.3g} to {high:.3g}{unit and ' '}{unit}, median {middle:.3g}"


def describe_connectome(connectome: xr.Dataset, speed: float) -> Table:
    """Regions, connections, lengths and delays of a connectome.

    Parameters
    ----------
    connectome : Dataset
        See :func:`fitting.data.connectome`.
    speed : float
        At which delays are given, in m/s.

    Returns
    -------
    rich.table.Table

    Examples
    --------
    >>> from fitting.data import hcp_aal2
    >>> from fitting.report import describe_connectome
    >>> describe_connectome(hcp_aal2(), 12.0).row_count
    12
    """
    weights, lengths = connectome.weights.values, connectome.lengths.values
    off = ~np.eye(len(weights), dtype=bool)
    linked = (weights > 0) & off
    sides = connectome["hemisphere"].values.tolist()
    skew = np.abs(weights - weights.T)[off].max(initial=0.0) / max(weights[off].max(initial=0.0), 1e-300)
    logs = np.log10(weights[linked])
    between = linked & (connectome["hemisphere"].values[:, None] != connectome["hemisphere"].values)
    rows = {
        "source": str(connectome.attrs.get("provenance") or "unknown"),
        "regions": f"{len(weights)}: {sides.count('L')} left, {sides.count('R')} right, {sides.count('')} of neither; "
        f"atlas {connectome.attrs.get('atlas') or 'not named'}",
        "connections": f"{linked.sum()} of {off.sum()} ({100 * linked.sum() / max(off.sum(), 1):.0f} %), "
        f"{100 * between.sum() / max(linked.sum(), 1):.0f} % of them between hemispheres",
        "connections of a region": _span(linked.sum(1), ""),
        "isolated": ", ".join(isolated(connectome)) or "none",
        "scale of weights": str(connectome.attrs.get("weights", "as they are")),
        "diagonal": str(connectome.attrs.get("diagonal", "none")),
        "weights": f"{weights[linked].min():.2g} to {weights[linked].max():.2g}, over {np.ptp(logs):.1f} decades",
        "input of a region, times k": _span(weights.sum(1), ""),
        "symmetry": "symmetric" if skew < 1e-6 else f"directed: by up to {100 * skew:.3g} % of the largest weight",
        "lengths": _span(lengths[linked], "mm"),
        f"delays at {speed:g} m/s": _span(lengths[linked] / speed, "ms"),
    }
    return _table("Connectome", rows)


def describe_data(
    recordings: Sequence[xr.DataArray],
    fc,
    dropped: Sequence[str],
    observation: Observation,
    baselines: Mapping[str, float],
) -> Table:
    """Recordings, what of them is used, and the connectivity that a fit is to reproduce.

    Parameters
    ----------
    recordings : sequence of DataArray (time, region)
        Empty if the data are a matrix.
    fc : array (region, region)
    dropped : sequence of str
        Regions of the data that the connectome does not have.
    observation : Observation
    baselines : mapping of str to float
        Correlations of ``fc`` with what is known without any model.

    Returns
    -------
    rich.table.Table
    """
    fc = np.asarray(fc)
    upper = fc[np.triu_indices(len(fc), 1)]
    rows = {"matched": f"{len(fc)} regions", "dropped": ", ".join(dropped) or "none"}
    if recordings:
        used = {id(r): good_pieces(r, observation.shortest) for r in recordings}
        seconds = [sum(p.sizes["time"] for p in used[id(r)][0]) / r.attrs["fs"] for r in recordings]
        subjects = sorted({str(r.attrs.get("subject", "")) for r in recordings})
        named = f" ({', '.join(subjects)})" if any(subjects) else ""
        rows |= {
            "recordings": f"{len(recordings)}, of {len(subjects)} subject(s){named}; {_span(np.array(seconds), 's')}",
            "left out": f"{sum(used[id(r)][1] for r in recordings):.3g} s in bad segments and short stretches",
            "sampling": ", ".join(sorted({f"{r.attrs['fs']:g} Hz" for r in recordings})),
            "units": ", ".join(sorted({str(r.attrs.get("units")) or "not named" for r in recordings})),
        }
    rows |= {
        "observation": str(observation) if recordings else "a matrix, processed already",
        "connectivity": f"{_span(upper, '')}, standard deviation {upper.std():.3g}",
    }
    rows |= {f"r with {name.replace('_', ' ')}": f"{value:.3f}" for name, value in baselines.items()}
    return _table("Data", rows)
