"""Parameters that follow maps: their values, gradients, names, and what they find again."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import check_central_differences

from fitting import InputError
from fitting.data import connectome, with_maps
from fitting.network import Network
from fitting.objective import Objective, Target
from fitting.optimize import Descent, GaussNewton, Parameter, Parameters, Problem, Search, StableStart, identity, solve
from fitting.predict import LinearResponse
from fitting.signal import Observation

K = Parameter("k", 1.2, 0.1, 10.0, scale="log")
DRIVE = Parameter("drive", 0.5, 0.2, 0.7, maps=("log_strength", "hemisphere"))
OBSERVATION = Observation(band=(8.0, 12.0), low_pass=None, orthogonalize=False, transient=0.5, trim=0.5)


@pytest.fixture(scope="module")
def network(directed):
    weights, lengths = directed
    own = connectome(weights, lengths, ["A.L", "A.R", "B.L", "B.R", "C.L", "C.R"])
    return Network(with_maps(own, None, ["log_strength", "hemisphere"]))


def test_values_follow_the_maps_in_the_unconstrained_space(network):
    parameters = Parameters([K, DRIVE], network)
    assert [p.name for p in parameters.free] == ["k", "drive", "drive.log_strength", "drive.hemisphere"]
    assert parameters.shared == parameters.free
    start = parameters.start()
    np.testing.assert_allclose(parameters.values(start)["drive"], 0.5, rtol=1e-12)
    told = {"k": 1.0, "drive": 0.4, "drive.log_strength": 0.7, "drive.hemisphere": -0.3}
    values = parameters.values(parameters.point(told))
    assert set(values) == {"k", "drive"}
    strength, side = network.maps.values()
    x = np.log((0.4 - 0.2) / (0.7 - 0.4)) + 0.7 * strength - 0.3 * side
    np.testing.assert_allclose(values["drive"], 0.2 + 0.5 / (1 + np.exp(-x)), rtol=1e-9)
    reported = parameters.reported(parameters.point(told))
    assert {name: round(float(value), 9) for name, value in reported.items()} == told
    resolved = parameters.resolved(told | {"sigma": 0.1})
    assert (set(resolved), resolved["sigma"]) == ({"k", "drive", "sigma"}, 0.1)
    np.testing.assert_allclose(resolved["drive"], values["drive"], rtol=1e-12)
    # Without a coefficient, the map does not count.
    one = parameters.resolved({"drive": 0.4, "drive.hemisphere": -0.3})["drive"]
    np.testing.assert_allclose(one, 0.2 + 0.5 / (1 + np.exp(-np.log(0.2 / 0.3) + 0.3 * side)), rtol=1e-9)
    assert parameters.resolved({"k": 2.0}) == {"k": 2.0}
    # What follows no map here may be anything, as the truth of a simulated recording may be.
    assert parameters.resolved({"drive": 3.0}) == {"drive": 3.0}
    for wrong in (
        {"drive": 3.0, "drive.hemisphere": 1.0},
        {"drive.hemisphere": 1.0},
        {"drive": 0.4, "drive.hemisphere": 99.0},
    ):
        with pytest.raises(InputError, match=r"drive follows maps, so drive.* must lie between"):
            parameters.resolved(wrong)
    # The prior on the coefficients: 0.01 times their distances from zero, squared, in their own unconstrained space.
    point = parameters.point(told)
    expected = 0.01 * (point["drive.log_strength"] ** 2 + point["drive.hemisphere"] ** 2)
    np.testing.assert_allclose(parameters.penalty(point), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        (
            lambda: Parameter("drive", 0.5, 0.2, 0.7, maps=["myelin"]),
            "follows the map myelin, which the connectome does",
        ),
        (
            lambda: Parameter("drive", 0.5, 0.2, 0.7, maps=["hemisphere"], per_region=True),
            "must be free, shared by all",
        ),
        (lambda: Parameter("drive", 0.5, maps=["hemisphere"], free=False), "must be free, shared by all"),
        (lambda: Parameter("signal_speed", 5.0, 3.0, 9.0, maps=["hemisphere"]), "cannot follow maps"),
    ],
)
def test_what_cannot_follow_a_map_is_refused(parameter, words, network):
    with pytest.raises(InputError, match=words):
        Parameters([parameter()], network)


@pytest.mark.slow
@pytest.mark.parametrize("predictor", ["response", "simulation"])
def test_gradients_of_coefficients_are_central_differences(network, predictor):
    values = {"k": 1.0, "drive": 0.5, "drive.log_strength": 0.4, "drive.hemisphere": -0.2}
    names = ("drive", "drive.log_strength", "drive.hemisphere")
    check_central_differences(predictor, network, [K, DRIVE], [(name, ()) for name in names], values)


def test_maps_identify_a_fit(network):
    other = network.connectome.assign(maps=-network.connectome.maps)
    assert identity(network) != identity(replace(network, connectome=other))
    assert identity(DRIVE) != identity(replace(DRIVE, maps=("hemisphere",)))


@pytest.mark.slow
@pytest.mark.parametrize("stage", [Descent(steps=60, patience=60, fresh_noise=False), GaussNewton(seeds=1, rounds=12)])
def test_coefficients_are_found_again(network, stage):
    """From the connectivity that they make, by linear response."""
    predictor = LinearResponse(network, OBSERVATION, dt=0.5, frequencies=5)
    truth = {"k": 2.0, "drive": 0.5, "drive.log_strength": 0.5, "drive.hemisphere": -0.6}
    draft = Problem(predictor, [K, replace(DRIVE, map_weight=0.0)], Target(jnp.eye(6), network.labels))
    values = draft.parameters.values(draft.parameters.point(truth))
    target = Target(draft.compiled_predict(values, None).fc, network.labels)
    problem = replace(draft, target=target, loss=Objective(spectrum=0.0))
    fit = solve(problem, [StableStart(), Search(4, 8), stage], key=jax.random.key(0))
    told = fit.reported(fit.point)
    assert float(fit.history["fc_correlation"][-1]) > 0.98
    for name in ("drive.log_strength", "drive.hemisphere"):
        assert abs(float(told[name]) - truth[name]) < 0.3, told
        assert f"parameter_{name}" in fit.history
