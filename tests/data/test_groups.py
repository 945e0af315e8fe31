"""Recordings divided into some to fit and some to hold out."""

import pytest
import xarray as xr
from problems import labels_of

from fitting import InputError
from fitting.data import divide, recording


def test_recordings_are_divided_by_runs_and_subjects(rng):
    every = [
        recording(rng.standard_normal((500, 6)), 100.0, labels_of(6)).assign_attrs(subject=subject, run=run)
        for subject in ("01", "02", "03")
        for run in ("1", "2")
    ]
    seen, unseen = divide(every, 0.3, "subjects", seed=0)
    assert len({r.attrs["subject"] for r in unseen}) == 1
    assert {r.attrs["subject"] for r in seen}.isdisjoint({r.attrs["subject"] for r in unseen})
    assert len(seen) == 4
    seen, unseen = divide(every, 0.34, "runs", seed=0)
    assert (len(seen), len(unseen)) == (4, 2)
    with pytest.raises(InputError, match="needs at least two; the data have 1"):
        divide(every[:1], 0.5, "runs")
    with pytest.raises(InputError, match="time, runs or subjects"):
        divide(every, 0.5, "halves")


def test_time_is_divided_at_one_moment(rng):
    (one,) = (recording(rng.standard_normal((1000, 6)), 100.0, labels_of(6)),)
    (first,), (last,) = divide([one], 0.25, "time")
    xr.testing.assert_identical(xr.concat([first, last], "time"), one)
