"""Targets that are split into pairs to fit and pairs to hold out."""

import jax.numpy as jnp
import numpy as np
import pytest
from problems import labels_of, target_of

from fitting import InputError
from fitting.data import match, recording
from fitting.objective import Target, subject_connectivity, target
from fitting.programs import compiled
from fitting.progress import Progress
from fitting.signal import Observation


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


def test_a_constant_part_of_the_signals_costs_no_digits(float32, rng):
    """As amplifiers add it: a million times what varies, in 32 bits."""
    signals, observation = rng.standard_normal((2000, 4)), Observation(orthogonalize=False)
    plain, shifted = (
        Target.of_recordings([recording(signals + offset, 100.0, labels_of(4))], observation).fc for offset in (0, 1e6)
    )
    np.testing.assert_allclose(shifted, plain, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: target_of(np.eye(3), seconds=-3.0), "of some seconds, or of an unknown length"),
        (lambda: Target.of_matrix(np.eye(3)), "needs the names of its regions"),
        (lambda: Target.of_recordings(recording(np.eye(3), 1.0, labels_of(3)), Observation()), "also of one"),
        (lambda: match(labels_of(3), np.eye(3)), "is a recording or a connectivity matrix"),
    ],
)
def test_what_is_no_target_gets_a_sentence(call, words, unchecked):
    with pytest.raises(InputError, match=words):
        call()


def test_recordings_that_are_alike_are_shared_out_and_others_are_not_lost(rng):
    """Seven runs of three lengths, rates and subjects, mixed: each subject's mean, by a plain loop, and theirs."""
    observation, labels, told = Observation(low_pass=1.0), ["A.L", "B.L", "C.L"], []
    kinds = [(30, 100.0, "1"), (20, 100.0, "2"), (30, 100.0, "3"), (20, 200.0, "1"), (30, 100.0, "2")]
    kinds += [(20, 100.0, "1"), (30, 100.0, "1")]
    runs = [
        recording(rng.standard_normal((round(seconds * fs), 3)), fs, labels, subject=subject, run=str(number))
        for number, (seconds, fs, subject) in enumerate(kinds)
    ]
    fcs = [np.asarray(observation.fc(jnp.asarray(r.values - r.values.mean(0)), r.fs)) for r in runs]
    own = {
        "1": (30 * fcs[0] + 20 * fcs[3] + 20 * fcs[5] + 30 * fcs[6]) / 100,
        "2": (20 * fcs[1] + 30 * fcs[4]) / 50,
        "3": fcs[2],
    }
    found = subject_connectivity(runs, observation, told.append)
    assert list(found) == ["1", "2", "3"]
    for subject, fc in own.items():
        np.testing.assert_allclose(found[subject].values, fc, rtol=1e-9, atol=1e-12)
        assert found[subject]["region"].values.tolist() == labels
    assert told[-1] == Progress("connectivity", 7, 7)
    assert [p.done for p in told] == sorted({p.done for p in told})
    target = Target.of_recordings(runs, observation, progress=told.append)
    np.testing.assert_allclose(target.fc, sum(own.values()) / 3, rtol=1e-9, atol=1e-12)
    assert (target.seconds, target.people) == (180.0, 3)
    with pytest.raises(InputError, match="the same regions in the same order"):
        subject_connectivity([runs[0], runs[1].isel(region=[1, 0, 2])], observation)
    told.clear()
    Target.of_recordings(runs[:1], observation, progress=told.append)
    assert not told


def test_recordings_of_one_observation_share_a_program_and_other_observations_do_not(rng, monkeypatch):
    programs = []
    monkeypatch.setattr(target, "compiled", lambda function: programs.append(function) or compiled(function))
    two = [recording(rng.standard_normal((800, 3)), 100.0, ["A.L", "A.R", "B.L"]) for _ in range(2)]
    for number, observation in enumerate((Observation(), Observation(band=(13.0, 30.0))), 1):
        for one in two:
            fc = Target.of_recordings([one], observation, spectrum=False).fc
            np.testing.assert_allclose(fc, observation.fc(jnp.asarray(one.values), 100.0), rtol=1e-9, atol=1e-12)
        assert len(programs) == number
