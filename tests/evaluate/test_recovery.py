"""Known parameters that are fitted again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import network_of, target_of

from fitting import InputError
from fitting.evaluate import recovery, refit_synthetic
from fitting.network import simulated_recording
from fitting.objective import Objective
from fitting.optimize import Parameter, Problem
from fitting.predict import Simulation
from fitting.signal import Observation

VALUES = {"k": 1.2, "signal_speed": 4.0, "sigma": 0.01}


@pytest.mark.slow
def test_the_fitted_model_is_fitted_again(directed):
    """A refit that keeps what it is given: synthetic targets are those of the fitted parameters."""
    observation = Observation(band=(8.0, 12.0), low_pass=None, orthogonalize=False, transient=0.5, trim=0.5)
    simulation = Simulation(network_of(*directed, drive=0.65), observation, duration=5000.0, dt=0.5)
    target = target_of(np.ones((6, 6))).split(0.7, 0)
    k = Parameter("k", 1.2, 0.1, 10.0, scale="log")
    problem = Problem(simulation, [k], target, Objective(spectrum=0.0))
    seen, done = [], []

    def refit(synthetic):
        seen.append(synthetic)
        return synthetic.parameters.point({"k": 1.1 + len(seen) / 10})

    key = jax.random.key(0)
    found = refit_synthetic(problem, VALUES, refit, key, dt=0.5, count=2, seconds=60.0, progress=done.append)
    np.testing.assert_allclose(found["k"], [1.2, 1.3])
    assert [(p.done, p.total) for p in done] == [(1, 2), (2, 2)]
    first, second = (np.asarray(one.target.fc) for one in seen)
    assert not np.array_equal(first, second)
    assert seen[0].target.seconds == 60
    np.testing.assert_array_equal(seen[0].target.pairs, target.pairs)
    assert seen[0].predictor is problem.predictor
    one = jax.random.split(key, 2)[1]
    made = simulated_recording(problem.network, VALUES, duration=60_000.0, dt=0.5, key=one)
    np.testing.assert_allclose(second, observation.fc(jnp.asarray(made.values), 100.0), rtol=1e-9)


def test_errors_of_recovery_by_hand():
    truth, fitted = np.array([1.0, 2.0, 4.0]), np.array([2.0, 2.0, 2.0 * np.e])
    found = recovery({"k": truth}, {"k": fitted})["k"]
    assert found["median_relative_error"] == pytest.approx(np.e / 2 - 1)
    assert found["bias"] == pytest.approx(1 - np.log(2))
    assert found["correlation"] == pytest.approx(np.corrcoef(np.log(truth), np.log(fitted))[0, 1])
    assert found["n"] == 3
    with pytest.raises(InputError, match="must be equal lists"):
        recovery({"k": truth}, {"k": fitted[:2]})
    with pytest.raises(InputError, match="need positive values"):
        recovery({"k": truth}, {"k": -fitted})
    signed = recovery({"b": truth - 2}, {"b": -fitted}, signed=["b"])["b"]
    assert signed["median_error"] == pytest.approx(np.median(np.abs(truth - 2 + fitted)))
    assert signed["bias"] == pytest.approx(np.median(-fitted - truth + 2))
    assert signed["correlation"] == pytest.approx(np.corrcoef(truth, -fitted)[0, 1])
