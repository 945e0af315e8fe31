"""Surrogate connectomes and destroyed delays: what they keep, what they score, and what a p-value is worth."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from problems import Powers, labels_of, network_of, target_of

from fitting import InputError
from fitting.data import connectome, hcp_aal2, mixing_matrix
from fitting.evaluate import (
    delay_nulls,
    p_value,
    surrogate_connectomes,
    surrogate_problems,
    surrogate_sensitivity,
    surrogate_test,
)
from fitting.network import Network
from fitting.objective import Objective, Target
from fitting.optimize import Parameter, Problem, Store
from fitting.predict import LinearResponse, Simulation
from fitting.signal import Observation

VALUES = {"k": 1.2, "signal_speed": 4.0, "sigma": 0.01}
KEYS = jax.random.split(jax.random.key(3), 2)


@pytest.fixture(scope="module", params=["simulation", "linear response"])
def problem(directed, request):
    """Six regions and a target of chance, predicted either way."""
    network = network_of(*directed, drive=0.65)
    fc = np.random.default_rng(0).uniform(size=(6, 6))
    observation = Observation(band=(8.0, 12.0), low_pass=None, orthogonalize=False, transient=0.5, trim=0.5)
    predictors = {
        "simulation": Simulation(network, observation, duration=5000.0, dt=0.5),
        "linear response": LinearResponse(network, observation, dt=0.5, frequencies=5),
    }
    k = Parameter("k", 1.2, 0.1, 10.0, scale="log")
    return Problem(predictors[request.param], [k], target_of(fc + fc.T), Objective(spectrum=0.0))


def score_on(problem, network):
    """Mean correlation over the keys, of a network of its own."""
    other = replace(problem, predictor=replace(problem.predictor, network=network))
    return np.mean([float(other.terms(jax.jit(other.predict)(VALUES, key)).fc_correlation) for key in KEYS])


@pytest.mark.parametrize("kind", ["rewired", "distance_preserving"])
def test_surrogates_of_a_complete_connectome_keep_what_they_promise(kind):
    """Degrees and weights exactly; by length classes, the weights of every class."""
    c = hcp_aal2()
    weights, lengths = c.weights.values, c.lengths.values
    upper = np.triu_indices(80, 1)
    classes = np.array_split(np.argsort(lengths[upper], kind="stable"), 10)
    made = surrogate_connectomes(c, kind, 3, seed=1)
    for surrogate in made:
        new = surrogate.weights.values
        np.testing.assert_array_equal((new > 0).sum(0), (weights > 0).sum(0))
        np.testing.assert_array_equal(new, new.T)
        np.testing.assert_array_equal(np.sort(new[upper]), np.sort(weights[upper]))
        same = [np.array_equal(np.sort(new[upper][k]), np.sort(weights[upper][k])) for k in classes]
        assert same == [kind == "distance_preserving"] * 10
        # A tenth of the pairs share a class: little of the real connectome is left beyond what lengths tell.
        within = [np.corrcoef(new[upper][k], weights[upper][k])[0, 1] for k in classes]
        assert abs(np.mean(within)) < 3 / np.sqrt(len(upper[0]))
    assert not np.array_equal(made[0].weights, made[1].weights)


def test_surrogates_of_a_directed_complete_connectome(rng):
    weights = rng.uniform(0.1, 1, (6, 6)) * (1 - np.eye(6))
    lengths = rng.uniform(10, 99, (6, 6)) * (1 - np.eye(6))
    (surrogate,) = surrogate_connectomes(connectome(weights, lengths, labels_of(6)), "rewired", 1, seed=0)
    new = surrogate.weights.values
    assert not np.allclose(new, new.T)
    np.testing.assert_array_equal(np.sort(new.ravel()), np.sort(weights.ravel()))
    assert (np.diag(new) == 0).all()


def test_surrogates_of_a_sparse_connectome(rng):
    """Connections move: degrees and weights exactly, lengths within a tenth of their spread (distance preserving)."""
    pytest.importorskip("netneurotools", reason="the extra surrogates is not installed")
    places = rng.uniform(0, 100, (40, 3))
    lengths = np.linalg.norm(places[:, None] - places[None], axis=2)
    present = np.triu(rng.random((40, 40)) < 0.4 * np.exp(-lengths / 60), 1)
    weights = np.where(present, rng.uniform(0.5, 1, (40, 40)) * np.exp(-lengths / 30), 0)
    labels = [f"R{i:02d}.L" for i in range(40)]
    c = connectome(weights + weights.T, lengths, labels)
    old = c.weights.values
    for kind in ("rewired", "distance_preserving"):
        (surrogate,) = surrogate_connectomes(c, kind, 1, seed=0)
        new = surrogate.weights.values
        np.testing.assert_array_equal((new > 0).sum(0), (old > 0).sum(0))
        np.testing.assert_allclose(np.sort(new[new > 0]), np.sort(old[old > 0]))
        assert ((new > 0) != (old > 0)).mean() > 0.05
        moved = scipy.stats.ks_2samp(lengths[new > 0], lengths[old > 0]).statistic
        assert (moved < 0.1) == (kind == "distance_preserving")
        # Weights follow lengths as before, or not at all, and within a class of length not what they were before.
        follows = scipy.stats.spearmanr(new[new > 0], lengths[new > 0]).statistic
        follow = scipy.stats.spearmanr(old[old > 0], lengths[old > 0]).statistic
        assert follow < -0.6
        assert follows == pytest.approx(follow, abs=0.1) if kind == "distance_preserving" else abs(follows) < 0.15
        stayed = np.triu((new > 0) & (old > 0))
        assert np.mean(new[stayed] == old[stayed]) < 0.25


def test_connections_that_move_to_where_no_length_is_known_take_the_shortest_way(rng):
    """By Floyd and Warshall's loop; networks in two pieces are refused."""
    pytest.importorskip("netneurotools", reason="the extra surrogates is not installed")
    labels = [f"R{i:02d}.L" for i in range(20)]
    weights = np.triu(rng.random((20, 20)) * (rng.random((20, 20)) < 0.5), 1)
    weights = weights + weights.T
    lengths = np.where(weights > 0, 10 + 90 * (lambda a: a + a.T)(np.triu(rng.random((20, 20)), 1)), 0)
    way = np.where(weights > 0, lengths, np.inf)
    for k in range(20):
        way = np.minimum(way, way[:, [k]] + way[[k]])
    (surrogate,) = surrogate_connectomes(connectome(weights, lengths, labels), "rewired", 1, seed=0)
    new, moved = surrogate.weights.values > 0, surrogate.lengths.values
    assert (new & (weights == 0)).sum() > 20
    np.testing.assert_allclose(moved[new], np.where(weights > 0, lengths, way)[new])
    apart = weights.copy()
    apart[:5, 5:] = apart[5:, :5] = 0
    with pytest.raises(InputError, match="lead to no way"):
        surrogate_connectomes(connectome(apart, lengths * (apart > 0), labels), "rewired", 1, seed=0)


@pytest.mark.parametrize(
    ("kind", "count", "words"),
    [("lost", 1, "unknown kind of surrogate 'lost'"), ("rewired", 0, "at least one surrogate")],
)
def test_unknown_surrogates_are_refused(kind, count, words):
    with pytest.raises(InputError, match=words):
        surrogate_connectomes(hcp_aal2(), kind, count, seed=0)


@pytest.mark.slow
def test_p_values_are_uniform_under_the_null(rng):
    """The real connectome being one of its surrogates: 400 tests with 19 surrogates, chi-square over the 20 values."""
    c = hcp_aal2().isel(target=slice(20), source=slice(20))
    upper = np.triu_indices(20, 1)
    ps = []
    for trial in range(400):
        real, *others = surrogate_connectomes(c, "distance_preserving", 20, seed=trial)
        target = rng.standard_normal(len(upper[0]))
        scores = [np.corrcoef(s.weights.values[upper], target)[0, 1] for s in (real, *others)]
        ps.append(p_value(scores[0], scores[1:]))
    counts = np.bincount(np.rint(np.array(ps) * 20).astype(int), minlength=21)[1:]
    assert counts.sum() == 400
    assert scipy.stats.chisquare(counts).pvalue > 0.001
    # A surrogate that has no score counts against the real one.
    assert p_value(0.5, [np.nan, 0.1, 0.2]) == 0.5


@pytest.mark.slow
def test_surrogate_scores_are_those_of_networks_of_their_own(problem, directed):
    """One program for all connectomes gives what each gives alone; the model is scored on all pairs."""
    weights, lengths = directed
    other = weights[::-1, ::-1].copy()
    made = [
        connectome(w, np.where(w > 0, own, 0.0), labels_of(6)) for w, own in ((other, lengths[::-1, ::-1]), directed)
    ]
    alone = [score_on(problem, network_of(c.weights, c.lengths, drive=0.65)) for c in reversed(made)]
    split = replace(problem, target=problem.target.split(0.5, 0))
    found = surrogate_sensitivity(split, VALUES, made[:1], KEYS)
    np.testing.assert_allclose([found.score, *found.surrogates], alone, rtol=1e-6)
    assert alone[0] != pytest.approx(alone[1], abs=0.01)
    # Nothing was fitted on the surrogate: that is no test.
    assert not found.refitted
    assert found.p is None


@pytest.mark.slow
def test_delay_nulls_are_networks_with_those_delays(problem, directed):
    """The one delay is that of the mean length, every fibre counted by its weight."""
    found = delay_nulls(problem, VALUES, KEYS)
    weights, lengths = directed
    mean = np.average(lengths[weights > 0], weights=weights[weights > 0])
    assert mean != pytest.approx(lengths[weights > 0].mean(), rel=0.01)
    for name, length in (("as_fitted", lengths), ("zero_delays", 0.0), ("one_delay", mean)):
        network = network_of(weights, np.where(weights > 0, length, 0.0), drive=0.65)
        assert found[name] == pytest.approx(score_on(problem, network), rel=1e-6)
    assert len(set(found.values())) == 3


def power_problem(c, fc):
    network = Network(c)
    predictor = Powers(network, Observation(orthogonalize=False))
    return Problem(predictor, [Parameter("k", 1.0, 0.05, 4.0)], Target(jnp.asarray(fc), network.labels))


def best_power(problem):
    """A refit, as thorough for every connectome."""
    seen = ~np.eye(8, dtype=bool) if problem.target.pairs is None else problem.target.pairs
    weights, fc = (np.asarray(x)[np.triu(seen, 1)] for x in (problem.network.weights, problem.target.fc))
    ks = np.geomspace(0.1, 3.0, 12)
    return {"k": float(ks[np.argmax([np.corrcoef(weights**k, fc)[0, 1] for k in ks])])}


def refit_power(problem):
    """The same, as an unconstrained point."""
    return problem.parameters.point(best_power(problem))


@pytest.mark.slow
def test_p_values_of_refitted_surrogates_are_uniform_under_the_null(rng):
    """The real connectome is one of its own surrogates, and all are fitted alike.

    200 tests with 9 surrogates, chi-square over the 10 values. Scores of the same surrogates without a fit of their own
    are too low, so that the real connectome, whose parameter was fitted, seems to matter.
    """
    c, keys = hcp_aal2().isel(target=slice(8), source=slice(8)), jax.random.split(jax.random.key(0), 1)
    fitted, kept, upper = [], [], np.triu_indices(8, 1)
    with jax.disable_jit():  # hundreds of networks: to compile each takes longer than to compute it
        for trial in range(200):
            fc = rng.standard_normal((8, 8))
            problem, *others = surrogate_problems(power_problem(c, fc + fc.T), "rewired", 10, seed=trial)
            values = best_power(problem)
            found = surrogate_test(problem, values, others, refit_power, keys)
            fitted.append(found.p)
            same = [np.corrcoef(s.network.weights[upper] ** values["k"], (fc + fc.T)[upper])[0, 1] for s in others]
            kept.append(p_value(found.score, same))

    def uniform(ps):
        counts = np.bincount(np.rint(np.array(ps) * 10).astype(int), minlength=11)[1:]
        assert counts.sum() == 200
        return scipy.stats.chisquare(counts).pvalue

    assert uniform(fitted) > 0.001
    assert uniform(kept) < 0.001
    assert np.mean(kept) < np.mean(fitted)


def test_surrogates_are_fitted_as_the_real_connectome_was(rng):
    """Every refit is of the same problem on another connectome; scores are of the pairs that were held out."""
    c = hcp_aal2().isel(target=slice(8), source=slice(8))
    fc = rng.standard_normal((8, 8))
    problem = power_problem(c, fc + fc.T)
    split = replace(problem, target=problem.target.split(0.6, 0))
    keys = jax.random.split(jax.random.key(0), 1)
    for one in (problem, split):
        seen, made = [], surrogate_problems(one, "rewired", 3, seed=0)

        def refit(other, seen=seen):
            seen.append(other)
            return refit_power(other)

        done = []
        found = surrogate_test(one, {"k": 0.7}, made, refit, keys, done.append, "rewired connectomes")
        assert [p.done for p in done] == [0, 1, 2, 3]
        assert done[0].stage == "fits of rewired connectomes"
        pairs = np.triu(~np.eye(8, dtype=bool) if one is problem else split.target.held_out, 1)
        expected = [
            np.corrcoef(s.network.weights[pairs] ** k, (fc + fc.T)[pairs])[0, 1]
            for s, k in zip([one, *made], [0.7, *(best_power(other)["k"] for other in seen)], strict=True)
        ]
        np.testing.assert_allclose([found.score, *found.surrogates], expected, rtol=1e-9)
        connectomes = surrogate_connectomes(c, "rewired", 3, seed=0)
        for other, surrogate in zip(seen, connectomes, strict=True):
            np.testing.assert_array_equal(other.network.weights, surrogate.weights)
            assert other.target is one.target
        assert found.refitted
        assert found.p == (1 + sum(score >= expected[0] for score in expected[1:])) / 4


def test_refits_that_a_kill_interrupts_are_not_made_again(rng, tmp_path):
    """Those that were done are read, the others made; those of another target are others."""
    c = hcp_aal2().isel(target=slice(8), source=slice(8))
    fc = rng.standard_normal((8, 8))
    problem = power_problem(c, fc + fc.T)
    keys, fitted = jax.random.split(jax.random.key(0), 1), []

    def refit(other, most=4):
        if len(fitted) == most:
            raise KeyboardInterrupt
        fitted.append(other.network.weights)
        return refit_power(other)

    def test(store, refit, problem=problem, settings="ten steps"):
        made = surrogate_problems(problem, "rewired", 4, seed=0)
        return surrogate_test(problem, {"k": 0.7}, made, store.kept(refit, "refit", settings), keys)

    whole = test(Store(), refit)
    fitted.clear()
    with pytest.raises(KeyboardInterrupt):
        test(Store(tmp_path), lambda other: refit(other, 2))
    assert len(list(tmp_path.glob("refit_*.npz"))) == 2
    resumed = test(Store(tmp_path, resume=True), refit)
    np.testing.assert_array_equal(fitted, [s.weights.values for s in surrogate_connectomes(c, "rewired", 4, seed=0)])
    np.testing.assert_array_equal(resumed.surrogates, whole.surrogates)
    test(Store(tmp_path, resume=True), lambda other: refit(other, 9), power_problem(c, 2 * (fc + fc.T)))
    assert len(fitted) == len(list(tmp_path.glob("refit_*.npz"))) == 8
    with pytest.raises(InputError, match="already holds a fit"):
        test(Store(tmp_path), refit)
    # Nor are those that were made otherwise.
    test(Store(tmp_path, resume=True), lambda other: refit(other, 13), settings="twenty steps")
    assert len(fitted) == 12


def test_mixing_matrices_are_those_of_other_regions(rng):
    """Every region keeps what leaks into it and out of it, in another place; networks that are not mixed have none."""
    c = hcp_aal2().isel(target=slice(8), source=slice(8))
    problem = power_problem(c, np.zeros((8, 8)))
    with pytest.raises(InputError, match="simulations are not mixed"):
        surrogate_problems(problem, "random_mixing", 1, seed=0)
    matrix = mixing_matrix(np.eye(8) + 0.3 * rng.random((8, 8)), problem.network.labels)
    observation = replace(problem.observation, mixing=matrix)
    mixed = replace(problem, predictor=replace(problem.predictor, observation=observation))
    others = surrogate_problems(mixed, "random_mixing", 5, seed=0)
    for other in others:
        new = other.observation.mixing
        assert list(new["region"].values) == list(problem.network.labels)
        order = [int(np.argmin(abs(np.diag(matrix.values) - own))) for own in np.diag(new.values)]
        assert sorted(order) == list(range(8))
        np.testing.assert_array_equal(new.values, matrix.values[order][:, order])
        assert (other.network, other.target) == (mixed.network, mixed.target)
    assert len({other.observation.mixing.values.tobytes() for other in others}) == 5
    with pytest.raises(InputError, match="at least one surrogate"):
        surrogate_problems(mixed, "random_mixing", 0, seed=0)


def test_a_surrogate_without_a_score_counts_against_the_real_connectome(rng):
    c = hcp_aal2().isel(target=slice(8), source=slice(8))
    fc = rng.standard_normal((8, 8))
    problem = power_problem(c, fc + fc.T)
    made, keys = surrogate_problems(problem, "rewired", 3, seed=0), jax.random.split(jax.random.key(0), 1)
    found = surrogate_test(problem, best_power(problem), made, lambda other: {"k": np.nan}, keys)
    assert np.isnan(found.surrogates).all()
    assert found.p == 1.0
