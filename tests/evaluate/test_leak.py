"""What pairs that are held out of one matrix share with the fitted ones, and what is left of that elsewhere."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import Formula, network_of, target_of

from fitting import InputError
from fitting.data import hcp_aal2
from fitting.evaluate import chance_variance, held_out_baselines, independent_targets, leak_of_baselines, leak_of_fit
from fitting.objective import Target
from fitting.optimize import Parameter, Problem
from fitting.predict import Prediction
from fitting.signal import Observation

OBSERVATION = Observation(low_pass=1.0)


@pytest.fixture(scope="module")
def split():
    """A target of 40 regions and a minute, of which a fit sees 70 % of the pairs; its matrix does not matter."""
    c = hcp_aal2(regions=40)
    return c, Target(jnp.zeros((40, 40)), c["target"].values.tolist(), seconds=60.0).split(0.7, 0)


def within(scores, errors=3.0):
    """Whether a mean is zero within so many standard errors."""
    return abs(np.mean(scores)) < errors * np.std(scores, ddof=1) / np.sqrt(len(scores))


def test_independent_targets_are_as_long_and_processed_as_the_data(split):
    """Their spread over pairs is that of correlations of so many effective samples, and their mean is zero."""
    _, target = split
    first, second = (np.asarray(t.fc) for t in independent_targets(target, OBSERVATION, jax.random.key(0), 2))
    upper = np.triu_indices(40, 1)
    assert abs(np.corrcoef(first[upper], second[upper])[0, 1]) < 3 / np.sqrt(len(upper[0]))
    short = replace(target, seconds=15.0)
    (other,) = independent_targets(short, OBSERVATION, jax.random.key(0), 1)
    # The trim takes a second from both ends: 58 s against 13 s.
    ratio = np.asarray(other.fc)[upper].var() / first[upper].var()
    assert ratio == pytest.approx(58 / 13, rel=0.25)
    np.testing.assert_array_equal(other.pairs, target.pairs)
    assert other.labels == target.labels


def test_chance_has_the_share_of_a_target_that_is_noise(split, rng):
    """A matrix made of structure and of one draw of noise, in known parts; 780 pairs scatter by some 10 %."""
    _, target = split
    upper = np.triu_indices(40, 1)
    (noise,) = independent_targets(target, OBSERVATION, jax.random.key(5), 1)
    structure = np.zeros((40, 40))
    structure[upper] = rng.standard_normal(780) * np.asarray(noise.fc)[upper].std() * np.sqrt(3)
    mixed = replace(target, fc=noise.fc + structure + structure.T)
    assert chance_variance(mixed, OBSERVATION, jax.random.key(6)) == pytest.approx(0.25, abs=0.05)
    assert chance_variance(noise, OBSERVATION, jax.random.key(6)) == pytest.approx(1.0, abs=0.2)


@pytest.mark.slow
def test_held_out_pairs_of_noise_are_predicted_and_other_noise_is_not(split):
    """Two loadings per region, fitted to independent signals: 12 data sets, scored on themselves and on others."""
    c, target = split
    noise = [np.asarray(t.fc, float) for t in independent_targets(target, OBSERVATION, jax.random.key(1), 24)]
    own = [held_out_baselines(c, fc, target.pairs)["rank_two"] for fc in noise[:12]]
    other = [
        held_out_baselines(c, fc, target.pairs, unseen)["rank_two"]
        for fc, unseen in zip(noise[:12], noise[12:], strict=True)
    ]
    leak = leak_of_baselines(c, target, OBSERVATION, jax.random.key(2), 5)["rank_two"]
    assert leak > 0.05
    assert np.mean(own) > 0.05
    assert np.mean(own) - 3 * np.std(own, ddof=1) / np.sqrt(12) > 0
    assert within(other)


def test_people_are_shared_out_among_devices_and_averaged(split):
    """Two data sets of three people: no order of regions changes a sum, which is that of a plain loop over the keys."""
    _, target = split
    group = replace(target, people=3, seconds=60.0)
    made = [np.asarray(each.fc) for each in independent_targets(group, OBSERVATION, jax.random.key(3), 2)]
    keys = jax.random.split(jax.random.split(jax.random.key(3))[0], 6)
    signals = [jax.random.normal(key, (2000, 40), jnp.float32) for key in keys]
    people = np.array([OBSERVATION.fc(each, OBSERVATION.fs) for each in signals], float)
    for fc, three in zip(made, (people[:3], people[3:]), strict=True):
        np.testing.assert_array_equal(fc, fc.T)
        np.testing.assert_array_equal(np.diag(fc), 0.0)
        assert fc.sum() == pytest.approx(three.sum() / 3, rel=1e-6)
    (one,) = independent_targets(replace(target, seconds=20.0), OBSERVATION, jax.random.key(3), 1)
    person = jax.random.split(jax.random.split(jax.random.key(3))[0], 1)[0]
    alone = OBSERVATION.fc(jax.random.normal(person, (2000, 40), jnp.float32), OBSERVATION.fs)
    np.testing.assert_allclose(np.sort(np.ravel(one.fc)), np.sort(np.ravel(alone)), rtol=1e-5, atol=1e-7)


def test_large_groups_are_used_again_in_new_orders(split):
    """Two data sets of 25 people, the same ones: one sum, and nothing else in common; as noisy as a mean of 25."""
    _, target = split
    group, upper, done = replace(target, people=25, seconds=500.0), np.triu_indices(40, 1), []
    first, second = (
        np.asarray(t.fc)[upper] for t in independent_targets(group, OBSERVATION, jax.random.key(5), 2, done.append)
    )
    assert [p.done for p in done] == list(range(1, 26))
    assert first.sum() == pytest.approx(second.sum(), rel=1e-9)
    assert abs(np.corrcoef(first, second)[0, 1]) < 3 / np.sqrt(780)
    one = replace(target, seconds=20.0)
    alone = [np.asarray(t.fc)[upper].var() for t in independent_targets(one, OBSERVATION, jax.random.key(6), 8)]
    # 780 pairs know a variance to about 5 %.
    assert first.var() == pytest.approx(np.mean(alone) / 25, rel=0.2)


def test_people_in_new_orders_leak_as_new_people(split):
    """Of every baseline, the mean score of 12 data sets of the same 21 people, and of 12 of new ones each."""
    c, target = split
    group = replace(target, people=21, seconds=21 * 6.0)
    again = leak_of_baselines(c, group, OBSERVATION, jax.random.key(7), 12)
    new = [leak_of_baselines(c, group, OBSERVATION, key, 1) for key in jax.random.split(jax.random.key(8), 12)]
    for name, leak in again.items():
        scores = np.array([one[name] for one in new])
        assert abs(scores.mean() - leak) < 3 * np.sqrt(2 / 12) * scores.std(ddof=1), name


@pytest.mark.slow
def test_the_mean_of_several_people_leaks_less_than_one(split):
    """Errors that three pairs of regions have in common average out: the leak has to be that of as many people."""
    c, target = split
    group, keys = replace(target, people=4, seconds=240.0), jax.random.split(jax.random.key(4), 32)
    one, several = ([leak_of_baselines(c, t, OBSERVATION, k, 1)["rank_one"] for k in keys] for t in (target, group))
    error = np.sqrt((np.var(several, ddof=1) + np.var(one, ddof=1)) / 32)
    assert np.mean(one) - np.mean(several) > 2 * error


def test_the_leak_is_what_independent_signals_score():
    """Of every baseline, the held-out score less its leak is zero within three standard errors: 20 data sets each."""
    few = hcp_aal2(regions=16)
    target = Target(jnp.zeros((16, 16)), few["target"].values.tolist(), seconds=60.0).split(0.7, 0)
    every = independent_targets(target, OBSERVATION, jax.random.key(3), 20)
    scored = [held_out_baselines(few, np.asarray(t.fc, float), target.pairs) for t in every]
    done = []
    leaks = leak_of_baselines(few, target, OBSERVATION, jax.random.key(4), 20, done.append)
    assert [p.done for p in done] == list(range(1, 21))
    assert leaks.keys() == scored[0].keys()
    for name, leak in leaks.items():
        scores = np.array([one[name] for one in scored])
        # Both are means of 20.
        error = np.sqrt(2) * scores.std(ddof=1) / np.sqrt(20)
        assert abs(scores.mean() - leak) < 3 * error, name


@dataclass(frozen=True, eq=False)
class Scaled(Formula):
    """Connectivity of chance, times k."""

    def observe(self, activity, observation, spectrum=False):
        return Prediction(activity * CHANCE[None], None, jnp.zeros(()))


CHANCE = jnp.asarray(np.random.default_rng(0).standard_normal((6, 6)))


def test_chance_of_several_people_is_the_mean_of_as_many_matrices(rng):
    """Four people of 15 s leave a quarter of the variance of one, and about as much as one of 60 s."""
    labels = [f"R{i}" for i in range(20)]
    fc = rng.normal(0, 0.2, (20, 20))
    one = Target(jnp.asarray(fc + fc.T), labels, seconds=15.0)
    observation = Observation(low_pass=None)
    chance = [
        chance_variance(target, observation, jax.random.key(1), 6)
        for target in (one, replace(one, seconds=60.0, people=4), replace(one, seconds=60.0))
    ]
    assert 0.7 < chance[1] / chance[2] < 1.6
    pairs, people = np.triu_indices(20, 1), replace(one, seconds=60.0, people=4)
    means = [np.asarray(t.fc)[pairs].var() for t in independent_targets(people, observation, jax.random.key(2), 6)]
    assert 0.7 < chance[1] / (np.mean(means) / np.asarray(one.fc)[pairs].var()) < 1.4
    with pytest.raises(InputError, match="at least one person; got 0"):
        replace(one, people=0)


def test_the_leak_of_a_fit_is_the_mean_over_data_sets_that_it_is_fitted_to(directed):
    """Refits see the problem with independent signals in the target's place, and are scored on pairs held out."""
    network = network_of(*directed)
    target = target_of(CHANCE, seconds=30.0).split(0.6, 0)
    predictor = Scaled(network, Observation(orthogonalize=False), lambda values, key: values["k"])
    problem, seen = Problem(predictor, [Parameter("k", 1.0, -2.0, 2.0)], target), []

    def refit(other):
        seen.append(other)
        return problem.parameters.point({"k": 0.5 if len(seen) == 1 else -0.5})

    found = leak_of_fit(problem, refit, jax.random.key(0), 2)
    held_out = np.triu(problem.target.held_out, 1)
    scores = [
        sign * np.corrcoef(np.asarray(CHANCE)[held_out], np.asarray(other.target.fc)[held_out])[0, 1]
        for sign, other in zip((1, -1), seen, strict=True)
    ]
    assert found == pytest.approx(np.mean(scores), abs=1e-12)
    assert not np.array_equal(seen[0].target.fc, seen[1].target.fc)
    for other in seen:
        np.testing.assert_array_equal(other.target.pairs, problem.target.pairs)
