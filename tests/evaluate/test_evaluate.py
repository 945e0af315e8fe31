"""Baselines against independent arithmetic; identifiability on losses whose answer is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fitting import InputError
from fitting.data import hcp_aal2, match, read_fc
from fitting.evaluate import (
    held_out_baselines,
    identifiability,
    profile_likelihood,
    profile_loss,
    response_information,
    structural_baselines,
)
from fitting.evaluate.information import _dyadic_variance
from fitting.network import Network
from fitting.objective import Target, Terms
from fitting.optimize import Parameter, Parameters, ResponseProblem
from fitting.signal import Observation, fc_correlation


def test_the_regression_is_the_multiple_correlation(meg_fc_path):
    """Of the matrix with weights, log weights and length: from their correlation matrix alone."""
    c = hcp_aal2()
    fc, _ = match(c["target"].values.tolist(), read_fc(meg_fc_path))
    found = structural_baselines(c, fc.values)
    upper = np.triu_indices(80, 1)
    y = fc.values[upper]
    weights, lengths = c.weights.values[upper], c.lengths.values[upper]
    log = np.log(weights + 1e-4 * weights.max())
    assert found["log_structural_weights"] == pytest.approx(np.corrcoef(log, y)[0, 1], abs=1e-10)
    r = np.corrcoef([y, weights, log, lengths])
    multiple = np.sqrt(r[0, 1:] @ np.linalg.solve(r[1:, 1:], r[0, 1:]))
    assert found["linear_regression"] == pytest.approx(multiple, abs=1e-9)


def test_baselines_refuse_other_regions():
    with pytest.raises(InputError, match="connectivity is"):
        structural_baselines(hcp_aal2(), np.zeros((3, 3)))


class Bowl:
    """A problem with a known loss: curvature 4 in a, none in b, noise of known size in the slopes."""

    duration, seeds = 10_000.0, 1

    def side_by_side(self):
        return 1

    def __init__(self, noise):
        from types import SimpleNamespace

        from fitting.optimize import Parameter

        self.noise = noise
        a, b = Parameter("a", 1.0, 0.0, 2.0), Parameter("b", 1.0, 0.0, 2.0)
        self.parameters = SimpleNamespace(free=(a, b))
        self.observation = SimpleNamespace(transient=0.0)
        self.target = SimpleNamespace(seconds=10.0)

    def loss(self, point, key):
        tilt = self.noise * jax.random.normal(key, (2,))
        value = 2 * point["a"] ** 2 + tilt[0] * point["a"] + tilt[1] * point["b"]
        return value, Terms(value, value, value)


def test_identifiability_knows_what_the_loss_can_see(unchecked):
    point = {"a": jnp.zeros(()), "b": jnp.zeros(())}
    found = identifiability(Bowl(0.1), point, jax.random.key(0), seeds=30)
    assert found["a"].identifiable
    assert not found["b"].identifiable
    assert "not more than its spread" in found["b"].reason
    # sd of the best point is 0.1 / 4 unconstrained; the sigmoid's slope at its middle is 1/2.
    low, high = found["a"].interval
    # The recording's noise counts as much as the simulation's here: sqrt(2) wider.
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(2) * 0.1 / 4 / 2, rel=0.4)


def test_intervals_know_that_parameters_trade_off(unchecked):
    """Curvature 4 in a and b with a cross term: the interval is that of the inverse Hessian, not of its diagonal."""

    class Valley(Bowl):
        def loss(self, point, key):
            tilt = self.noise * jax.random.normal(key, (2,))
            a, b = point["a"], point["b"]
            value = 2 * a**2 + 2 * b**2 + 3.2 * a * b + tilt[0] * a + tilt[1] * b
            return value, Terms(value, value, value)

    point = {"a": jnp.zeros(()), "b": jnp.zeros(())}
    low, high = identifiability(Valley(0.1), point, jax.random.key(0), seeds=40)["a"].interval
    inverse = np.linalg.inv([[4.0, 3.2], [3.2, 4.0]])
    sd = np.sqrt(2 * 0.1**2 * (inverse @ inverse)[0, 0])
    assert high - low == pytest.approx(2 * 1.96 * sd / 2, rel=0.3)


def test_a_profile_of_the_loss_is_that_of_a_likelihood(unchecked):
    """Where the loss is a paraboloid, the deviance is (x / sd)^2 with the sandwich's sd, whatever the loss's unit."""

    class Valley(Bowl):
        def loss(self, point, key):
            tilt = self.noise * jax.random.normal(key, (2,))
            a, b = point["a"], point["b"]
            value = self.unit * (2 * a**2 + 2 * b**2 + 3.2 * a * b + tilt[0] * a + tilt[1] * b)
            return value, Terms(value, value, value)

    point = {"a": jnp.zeros(()), "b": jnp.zeros(())}
    found = []
    for Valley.unit in (1.0, 7.0):
        profile = profile_loss(Valley(0.1), point, "a", jax.random.key(0), points=8, seeds=40, step=0.25)
        sandwich = identifiability(Valley(0.1), point, jax.random.split(jax.random.key(0))[0], seeds=40)["a"]
        sd = (sandwich.interval[1] - sandwich.interval[0]) / 2 / 1.96
        # Quadratic around its own lowest value: second differences are those of (x / sd)^2.
        x = 2 * np.arctanh(profile.values - 1)  # the unconstrained value: bounds are 0 and 2
        curvature = np.polyfit(x, profile.deviance, 2)[0]
        assert curvature == pytest.approx((1 / 2 / sd) ** 2, rel=0.02)  # the sigmoid's slope at its middle is 1/2
        width = profile.identifiability.interval[1] - profile.identifiability.interval[0]
        assert width == pytest.approx(2 * 1.96 * sd, rel=0.25)  # straight lines between few values
        found.append(profile.deviance)
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-3)


def test_a_profile_of_the_loss_refuses_what_it_cannot_follow(unchecked):
    point = {"a": jnp.zeros(()), "b": jnp.zeros(())}
    with pytest.raises(InputError, match="no free parameter of all regions is called 'c'"):
        profile_loss(Bowl(0.1), point, "c", jax.random.key(0))
    with pytest.raises(InputError, match="2 seeds"):
        profile_loss(Bowl(0.1), point, "a", jax.random.key(0), seeds=1)


def test_identifiability_admits_when_noise_wins(unchecked):
    point = {"a": jnp.zeros(()), "b": jnp.zeros(())}
    found = identifiability(Bowl(30.0), point, jax.random.key(0), seeds=30)
    assert not found["a"].identifiable
    assert "most of what the bounds allow" in found["a"].reason


def test_held_out_baselines_are_what_they_say(rng):
    """A matrix that is one predictor plus a little noise is predicted by it on pairs that were not fitted."""
    c = hcp_aal2()
    loading = rng.uniform(0.5, 1.5, 80)
    noise = 0.01 * rng.standard_normal((80, 80))
    seen = np.triu(rng.random((80, 80)) < 0.7, 1)
    seen = seen | seen.T
    product = np.outer(loading, loading) + noise + noise.T
    found = held_out_baselines(c, product, seen)
    assert found["rank_one"] > 0.99 > found["region_effects"]
    added = loading[:, None] + loading[None, :] - 0.01 * c.lengths.values + noise + noise.T
    found = held_out_baselines(c, added, seen)
    assert found["region_effects_and_geometry"] > 0.99 > found["region_effects"]


def test_held_out_baselines_on_the_meg_matrix(meg_fc_path):
    """Not seen pairs are predicted by region effects at about 0.5, with geometry at about 0.7."""
    c = hcp_aal2()
    fc, _ = match(c["target"].values.tolist(), read_fc(meg_fc_path))
    seen = Target(jnp.asarray(fc.values)).split(0.7, 0).pairs
    found = held_out_baselines(c, fc.values, seen)
    assert 0.45 < found["region_effects"] < 0.58
    assert 0.62 < found["region_effects_and_geometry"] < 0.73


def test_information_tells_a_visible_parameter_from_an_invisible_one(directed):
    network = Network(*directed, drive=0.7, speed_bounds=(1.0, 20.0))
    parameters = Parameters(
        [
            Parameter("k", 3.0, 0.1, 30.0, scale="log"),
            Parameter("sigma", 0.02, 0.001, 0.1, scale="log"),
        ],
        network,
    )
    observation = Observation(low_pass=0.5, orthogonalize=False)
    blank = ResponseProblem(network, parameters, Target(jnp.ones((6, 6))), observation)
    fc = blank.respond({"k": 3.0, "sigma": 0.02})[0]
    noise = 0.002 * np.random.default_rng(0).standard_normal((6, 6))
    problem = ResponseProblem(network, parameters, Target(fc + noise + noise.T), observation)
    found = response_information(problem, parameters.start())
    assert found["k"].identifiable
    assert found["k"].interval[0] < 3.0 < found["k"].interval[1]
    assert not found["sigma"].identifiable


@pytest.fixture(scope="module")
def noisy_problem():
    """Six regions, whose matrix is the response at k 3 and 8 m/s plus noise on every pair."""
    rng = np.random.default_rng(3)
    weights = rng.uniform(0, 1, (6, 6)) * (1 - np.eye(6))
    lengths = rng.uniform(20, 150, (6, 6))
    network = Network(weights, lengths, drive=0.7, speed_bounds=(1.0, 20.0))
    parameters = Parameters(
        [
            Parameter("k", 2.0, 0.3, 30.0, scale="log"),
            Parameter("signal_speed", 5.0, 1.5, 20.0, unit="m/s", scale="log"),
            Parameter("sigma", 0.02, 0.001, 0.1, scale="log"),
        ],
        network,
    )
    observation = Observation(low_pass=0.5, orthogonalize=False)
    truth = {"k": 3.0, "signal_speed": 8.0, "sigma": 0.02}
    fc = ResponseProblem(network, parameters, Target(jnp.ones((6, 6))), observation).respond(truth)[0]
    noise = 0.05 * float(fc.std()) * rng.standard_normal((6, 6))
    problem = ResponseProblem(network, parameters, Target(fc + noise + noise.T), observation)
    return problem, parameters.point(truth), truth


def test_profiles_are_the_best_of_a_dense_grid(noisy_problem):
    """With one other parameter that matters, the fit anew can be found by trying all its values."""
    problem, point, truth = noisy_problem
    # Not penalised: the grid below knows of correlations only.
    found = profile_likelihood(dataclasses.replace(problem, penalty=0.0), point, points=5)
    assert list(found) == ["k", "signal_speed", "sigma"]

    @jax.jit
    def best_of(k, speeds):
        responded = jax.lax.map(lambda v: problem.respond(truth | {"k": k, "signal_speed": v})[0], speeds)
        return jnp.nanmax(jax.vmap(lambda fc: fc_correlation(fc, problem.target.fc))(responded))

    k = found["k"]
    speeds = jnp.geomspace(1.51, 19.9, 400)
    for value, got in zip(k.values, k.fc_correlation, strict=True):
        assert got == pytest.approx(float(best_of(value, speeds)), abs=2e-4)
    for name, lowest in (("k", 0.3), ("signal_speed", 1.5)):
        low, high = found[name].identifiability.interval
        assert 1.1 * lowest < low < truth[name] < high
        assert found[name].deviance.min() == 0
    # Connectivity does not see the noise: flat, to the bounds.
    assert found["sigma"].deviance.max() < 1e-3
    assert found["sigma"].identifiability.interval == pytest.approx((0.001, 0.1), rel=1e-3)
    assert not found["sigma"].identifiability.identifiable


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"names": ["K"]}, "choose from k, signal_speed, sigma"), ({"points": 2}, "at least 3 points")],
)
def test_profiles_of_nothing_are_refused(settings, words, noisy_problem):
    with pytest.raises(InputError, match=words):
        profile_likelihood(*noisy_problem[:2], **settings)


def test_scatter_counts_what_pairs_share():
    """Least squares with errors u_i + u_j: the dyadic standard deviation is the true one, the independent is not.

    500 draws: standard error of a standard deviation 3 %.
    """
    rng = np.random.default_rng(0)
    regions = 60
    rows, columns = np.triu_indices(regions, 1)
    by_region = rng.standard_normal(regions)
    x = by_region[rows] + by_region[columns] + 0.5 * rng.standard_normal(len(rows))
    x -= x.mean()
    influence = x / (x @ x)
    errors, dyadic, independent = [], [], []
    for _ in range(500):
        u = rng.standard_normal(regions)
        error = u[rows] + u[columns] + 0.3 * rng.standard_normal(len(rows))
        error -= error.mean()
        errors.append(influence @ error)
        residual = error - x * errors[-1]
        dyadic.append(_dyadic_variance(influence * residual, rows, columns))
        independent.append(residual.var() * (influence**2).sum())
    true = np.std(errors)
    assert np.sqrt(np.mean(dyadic)) == pytest.approx(true, rel=0.15)
    assert np.sqrt(np.mean(independent)) < 0.6 * true
