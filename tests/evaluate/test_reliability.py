"""Noise ceilings against plain loops, and what they promise."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from problems import labels_of

from fitting import InputError
from fitting.data import fc_target, recording
from fitting.evaluate import split_half_ceiling, subject_ceiling
from fitting.signal import Observation, fc_correlation


@pytest.mark.slow
def test_the_split_half_ceiling_is_what_connectivity_without_noise_scores(rng):
    """Long recordings of known connectivity: the score of the truth is the ceiling, within what 8 draws tell."""
    mixing = rng.standard_normal((12, 12)) * 0.35 + np.eye(12)
    labels = [f"{name}.{side}" for name in ("PreCG", "SFG", "INS", "CUN", "LING", "PCUN") for side in "LR"]
    observation = Observation(orthogonalize=False, low_pass=None)
    draws = [recording(rng.standard_normal((4000, 12)) @ mixing, 100.0, labels) for _ in range(9)]
    fcs = [np.asarray(observation.fc(jnp.asarray(r.values), 100.0)) for r in draws]
    truth = np.asarray(observation.fc(jnp.asarray(rng.standard_normal((200_000, 12)) @ mixing), 100.0))
    scores = [float(fc_correlation(jnp.asarray(truth), jnp.asarray(fc))) for fc in fcs]
    ceilings = [split_half_ceiling([r], observation).ceiling for r in draws]
    error = np.hypot(np.std(scores, ddof=1), np.std(ceilings, ddof=1)) / 3
    assert np.mean(scores) < 0.99  # or there would be nothing to see
    assert abs(np.mean(scores) - np.mean(ceilings)) < 3 * error
    # And a second recording correlates with the first as the reliability says.
    pairs = [float(fc_correlation(jnp.asarray(a), jnp.asarray(b))) for a, b in itertools.pairwise(fcs)]
    reliabilities = [split_half_ceiling([r], observation).reliability for r in draws]
    spread = np.hypot(np.std(pairs, ddof=1), np.std(reliabilities, ddof=1)) / 3
    assert abs(np.mean(pairs) - np.mean(reliabilities)) < 3 * spread


def test_no_ceiling_without_halves(rng):
    short = recording(rng.standard_normal((350, 6)), 100.0, labels_of(6))
    assert split_half_ceiling([short], Observation(orthogonalize=False)) is None


def test_subject_ceilings_against_plain_loops(rng):
    fcs = {}
    for subject in "abcd":
        m = rng.uniform(size=(6, 6))
        fcs[subject] = fc_target((m + m.T) * (1 - np.eye(6)) / 2, labels_of(6))
    upper = np.triu_indices(6, 1)
    values = np.array([fc.values[upper] for fc in fcs.values()])
    lower = [np.corrcoef(values[i], np.delete(values, i, 0).mean(0))[0, 1] for i in range(4)]
    standard = [(v - np.mean(v)) / np.std(v) for v in values]
    higher = [np.corrcoef(values[i], np.mean(standard, 0))[0, 1] for i in range(4)]
    assert subject_ceiling(fcs) == (pytest.approx(np.mean(lower)), pytest.approx(np.mean(higher)))
    with pytest.raises(InputError, match="at least two"):
        subject_ceiling({"a": fcs["a"]})


def test_no_model_is_above_the_upper_subject_ceiling(rng):
    """Of subjects whose connectivity differs in size: the best of many models near theirs, by its mean correlation."""
    upper, shared = np.triu_indices(8, 1), rng.standard_normal(28)
    values = [scale * (shared + rng.standard_normal(28)) for scale in (10, 1, 1, 1, 1)]
    fcs = {}
    for subject, each in enumerate(values):
        m = np.zeros((8, 8))
        m[upper] = each
        fcs[str(subject)] = fc_target(m + m.T, labels_of(8))
    highest = subject_ceiling(fcs)[1]

    def score(model):
        return np.mean([np.corrcoef(model, each)[0, 1] for each in values])

    best = max(score(rng.dirichlet(np.ones(5)) @ [v / np.std(v) for v in values]) for _ in range(2000))
    assert score(np.mean(values, 0)) < best <= highest
    assert best == pytest.approx(highest, abs=0.01)
