"""Targets that are split into pairs to fit and pairs to hold out."""

import numpy as np
import pytest
from problems import target_of

from fitting import InputError


def test_a_target_split_by_regions(rng):
    fc = rng.uniform(size=(10, 10))
    target = target_of(fc + fc.T).split(0.6, 0, "regions")
    degree = target.pairs.sum(0)
    assert sorted(degree) == [0] * 4 + [5] * 6
    # Every pair is on one side; those within the kept regions are seen.
    assert (target.pairs ^ target.held_out ^ np.eye(10, dtype=bool)).all()
    with pytest.raises(InputError, match="by pairs or by regions"):
        target.split(0.5, 0, "lobes")
    with pytest.raises(InputError, match="3 are needed"):
        target.split(0.1, 0, "regions")


def test_a_fit_that_sees_the_pairs_among_some_regions(rng):
    fc = rng.uniform(size=(7, 7))
    left = np.array([True, False, True, True, False, False, True])
    target = target_of(fc + fc.T).among(left)
    for i in range(7):
        for j in range(7):
            assert target.pairs[i, j] == (i != j and left[i] and left[j])
            assert target.held_out[i, j] == (i != j and not (left[i] and left[j]))
    with pytest.raises(InputError, match="2 of 7 regions are left to fit"):
        target.among(np.arange(7) < 2)
