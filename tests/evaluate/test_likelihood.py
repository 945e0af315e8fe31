"""What a connectivity matrix tells about parameters: Fisher information, profiles, and their scatter."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import network_of, target_of

from fitting import InputError
from fitting.evaluate import fisher_information, profile_likelihood
from fitting.evaluate.likelihood import _compensation, _dyadic_variance
from fitting.optimize import Parameter, Problem
from fitting.predict import LinearResponse
from fitting.signal import Observation, fc_correlation


@pytest.mark.slow
def test_information_tells_a_visible_parameter_from_an_invisible_one(directed):
    parameters = [
        Parameter("k", 3.0, 0.1, 30.0, scale="log"),
        Parameter("sigma", 0.02, 0.001, 0.1, scale="log"),
    ]
    response = LinearResponse(network_of(*directed, drive=0.7), Observation(low_pass=0.5, orthogonalize=False))
    fc = response.predict({"k": 3.0, "sigma": 0.02}).fc
    noise = 0.002 * np.random.default_rng(0).standard_normal((6, 6))
    problem = Problem(response, parameters, target_of(fc + noise + noise.T))
    found = fisher_information(problem, problem.parameters.start())
    assert found["k"].identifiable
    assert found["k"].interval[0] < 3.0 < found["k"].interval[1]
    assert not found["sigma"].identifiable


@pytest.fixture(scope="module")
def noisy_problem():
    """Six regions, whose matrix is the response at k 3 and 8 m/s plus noise on every pair."""
    rng = np.random.default_rng(3)
    weights = rng.uniform(0, 1, (6, 6)) * (1 - np.eye(6))
    lengths = rng.uniform(20, 150, (6, 6))
    parameters = [
        Parameter("k", 2.0, 0.3, 30.0, scale="log"),
        Parameter("signal_speed", 5.0, 1.5, 20.0, unit="m/s", scale="log"),
        Parameter("sigma", 0.02, 0.001, 0.1, scale="log"),
    ]
    response = LinearResponse(network_of(weights, lengths, drive=0.7), Observation(low_pass=0.5, orthogonalize=False))
    truth = {"k": 3.0, "signal_speed": 8.0, "sigma": 0.02}
    fc = response.predict(truth).fc
    noise = 0.05 * float(fc.std()) * rng.standard_normal((6, 6))
    problem = Problem(response, parameters, target_of(fc + noise + noise.T))
    return problem, problem.parameters.point(truth), truth


@pytest.mark.slow
def test_profiles_are_the_best_of_a_dense_grid(noisy_problem):
    """With one other parameter that matters, the fit anew can be found by trying all its values."""
    problem, point, truth = noisy_problem
    # Not penalised: the grid below knows of correlations only.
    bare = replace(problem, predictor=replace(problem.predictor, penalty=0.0))
    found = profile_likelihood(bare, point, points=5)
    assert list(found) == ["k", "signal_speed", "sigma"]

    @jax.jit
    def best_of(k, speeds):
        fcs = jax.lax.map(lambda v: problem.predictor.predict(truth | {"k": k, "signal_speed": v}).fc, speeds)
        return jnp.nanmax(jax.vmap(lambda fc: fc_correlation(fc, problem.target.fc))(fcs))

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


def test_a_parameter_that_changes_nothing_makes_up_for_nothing():
    """As the speed of a network without delays."""
    assert _compensation(np.array([[1.0, 0.0], [2.0, 0.0]]), 0).tolist() == [0.0]
