"""The global stage, gradient health and the race, on losses whose answer is known and on a small network."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fitting import InputError
from fitting.network import Network, simulated_recording
from fitting.objective import Objective, Target, Terms
from fitting.optimize import (
    Parameter,
    Parameters,
    Problem,
    SearchSettings,
    Settings,
    gradient_health,
    race,
    search,
    solve,
)
from fitting.optimize.search import evaluator
from fitting.signal import Observation

LABELS = [f"R{i}.L" for i in range(6)]


@dataclass(frozen=True, eq=False)
class Landscape(Problem):
    """Two basins in the plane of k and drive, the deeper at (1, 1); noise tilts it; ``kind`` spoils it."""

    noise: float = 0.0
    kind: str = "smooth"

    def loss(self, point: Any, key: Any) -> Any:
        x, y = point["k"], point["drive"]
        tilt = self.noise * jax.random.normal(jax.random.fold_in(key, self.seeds), (2,)) / jnp.sqrt(self.seeds)
        deep = -jnp.exp(-((x - 1) ** 2) - (y - 1) ** 2)
        shallow = -0.5 * jnp.exp(-((x + 1.5) ** 2) - (y + 1.5) ** 2)
        value = deep + shallow + tilt[0] * x + tilt[1] * y
        if self.kind == "rough":  # what chaos does: slopes of 1e3 that lead nowhere
            value = value + 0.001 * jnp.sin(1e6 * (x + y))
        if self.kind == "nan":
            value = jnp.where(x > 0.5, jnp.nan, value)
        return value, Terms(value, -value, jnp.zeros(()))


def landscape(directed, **settings):
    network = Network(*directed)
    parameters = Parameters([Parameter("k", 0.5, 0.0, 10.0), Parameter("drive", 0.3, 0.0, 1.0)], network)
    return Landscape(network, parameters, Target(jnp.ones((6, 6))), Observation(), Objective(), 9000.0, 0.5, **settings)


def where(point):
    return np.array([float(point["k"]), float(point["drive"])])


def test_search_finds_the_deeper_basin_and_the_other(directed):
    problem = landscape(directed, noise=0.02)
    found = search(problem, SearchSettings(generations=15, population=10), key=jax.random.key(0))
    best = found.candidates[0]
    assert np.abs(where(best.point) - 1).max() < 0.3
    assert best.loss < -0.9
    assert found.history["loss"].shape == (15, 10)
    assert found.evaluations == 15 * 10 + (6 + 2) * 4
    # Bounds: history is in the parameters' own units.
    assert 0 < found.history["parameter_k"].min() < found.history["parameter_k"].max() < 10
    apart = [np.linalg.norm(where(a.point) - where(b.point)) for a in found.candidates for b in found.candidates]
    assert min(d for d in apart if d > 0) > 0.5 if len(found.candidates) > 1 else True


def test_search_goes_around_what_fails(directed):
    found = search(landscape(directed, kind="nan"), SearchSettings(generations=12), key=jax.random.key(1))
    assert np.isnan(found.history["loss"]).any()
    assert np.isfinite(found.candidates[0].loss)
    assert where(found.candidates[0].point)[0] <= 0.5


def test_a_search_goes_on_where_it_was_cut(directed, tmp_path):
    problem, settings, key = landscape(directed, noise=0.1), SearchSettings(generations=6), jax.random.key(2)
    whole = search(problem, settings, key=key)

    def stop(done, *_):
        if done == 3:
            raise KeyboardInterrupt

    file = tmp_path / "c" / "search.npz"
    with pytest.raises(KeyboardInterrupt):
        search(problem, settings, key=key, file=file, on_generation=stop)
    with pytest.raises(InputError, match="already holds a fit"):
        search(problem, settings, key=key, file=file)
    seen = []
    rest = search(problem, settings, key=key, file=file, resume=True, on_generation=lambda n, *_: seen.append(n))
    np.testing.assert_array_equal(rest.history["loss"], whole.history["loss"])
    for a, b in zip(rest.candidates, whole.candidates, strict=True):
        np.testing.assert_array_equal(where(a.point), where(b.point))
    with pytest.raises(InputError, match="another search"):
        search(problem, replace(settings, population=8), key=key, file=file, resume=True)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged"):
        search(problem, settings, key=key, file=file, resume=True)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"population": 3}, "population must be at least 4"), ({"spread": 0.0}, "spread of a search must be positive")],
)
def test_bad_search_settings(settings, words):
    with pytest.raises(InputError, match=words):
        SearchSettings(**settings)


def test_nothing_to_search(directed):
    network = Network(*directed)
    parameters = Parameters([Parameter("drive", 0.5, 0.0, 1.0, per_region=True)], network)
    problem = Landscape(network, parameters, Target(jnp.ones((6, 6))), Observation(), Objective(), 9000.0, 0.5)
    with pytest.raises(InputError, match="all regions share"):
        search(problem, key=jax.random.key(0))


@pytest.fixture(scope="module")
def small():
    """Six regions, a target of its own, drive free."""
    rng = np.random.default_rng(2)
    weights = rng.uniform(0, 1, (6, 6)) * (1 - np.eye(6))
    network = Network(weights, rng.uniform(20, 150, (6, 6)), speed_bounds=(1.0, 10.0))
    observation = Observation(transient=1.0, trim=0.5, orthogonalize=False)
    truth = {"k": 1.5, "signal_speed": 4.0, "sigma": 0.1, "drive": 0.65}
    made = simulated_recording(network, truth, LABELS, duration=30_000.0, dt=0.5, key=jax.random.key(9))
    parameters = Parameters(
        [Parameter("k", 0.8, 0.2, 6.0), Parameter("drive", 0.62, 0.1, 1.2), Parameter("sigma", 0.1, free=False)],
        network,
    )
    objective = Objective(fc=1.0, spectrum=1.0)
    return Problem(network, parameters, objective.target(made, observation), observation, objective, 6000.0, 0.5)


def test_candidates_of_a_batch_are_those_alone(small):
    """One key is one noise for all candidates, in whatever batch."""
    names, point = ["k", "drive"], small.parameters.start()
    candidates = np.array([[0.3, -0.2], [0.0, 0.4], [-0.5, 0.1]])
    key = jax.random.key(5)
    together = evaluator(small, point, names, 3)(candidates, key)
    alone = [float(small.loss(dict(zip(names, map(jnp.asarray, x), strict=True)), key)[0]) for x in candidates]
    np.testing.assert_allclose(together[0], alone, rtol=1e-9)
    np.testing.assert_allclose(evaluator(small, point, names, 1)(candidates, key), together, rtol=1e-9)


def test_damped_gradients_are_healthy_and_chaotic_ones_are_not(small):
    healthy = gradient_health(small, small.parameters.start(), jax.random.key(0), seeds=3)
    assert healthy.usable, healthy.reason
    assert healthy.horizon is None
    assert healthy.forward_error < 1e-8
    assert healthy.agreement == pytest.approx(1, abs=0.5)
    assert set(healthy.signal_to_noise) == {"k", "drive"}
    # Drive 0.95 is past the bifurcation of every node.
    wild = small.parameters.point({"k": 3.0, "drive": 0.95})
    chaotic = gradient_health(small, wild, jax.random.key(0), seeds=3, horizons=(None, 250.0))
    assert chaotic.norm["whole"] > 3 * healthy.norm["whole"]
    assert not (chaotic.usable and chaotic.horizon is None)
    assert "whole: " in chaotic.reason or chaotic.horizon == 250.0


def test_rough_losses_are_handed_to_the_search(directed):
    problem = landscape(directed, kind="rough")
    solution = solve(
        problem, optax.adam(0.1), Settings(steps=5, patience=2), SearchSettings(generations=8), key=jax.random.key(0)
    )
    assert not solution.health.usable
    assert "does not foretell" in solution.health.reason
    assert solution.result.chosen == "search"
    assert np.abs(where(solution.result.point) - 1).max() < 0.15
    assert "Gradients carry nothing" in solution.result.notes[0]


def test_noise_asks_for_seeds(directed):
    """A slope of 0.7 with noise of 1 per seed takes some seeds to stand out, noise of 20 too many."""
    point = {"k": jnp.asarray(0.3), "drive": jnp.asarray(0.3)}
    some = gradient_health(landscape(directed, noise=1.0), point, jax.random.key(0), seeds=20, most_seeds=8)
    assert some.usable, some.reason
    assert 1 < some.seeds <= 8
    many = gradient_health(landscape(directed, noise=20.0), point, jax.random.key(0), seeds=20, horizons=(None,))
    assert not many.usable or many.seeds == 4
    none = gradient_health(landscape(directed), point, jax.random.key(0), seeds=20)
    assert none.usable
    assert none.seeds == 1


def test_a_race_is_won_by_the_deeper_basin(directed):
    problem = landscape(directed, noise=0.01)
    starts = [{"k": jnp.asarray(x), "drive": jnp.asarray(x)} for x in (-1.2, -2.0, 0.5, 0.4)]
    found = race(problem, starts, optax.adam(0.1), key=jax.random.key(0), steps=4)
    assert found.winner in (2, 3)
    assert found.losses.shape == (8, 4)
    assert np.isnan(found.losses[4:, :2]).all()
    assert np.isfinite(found.losses[4:, 2:]).all()
    assert (where(found.point) > where(starts[found.winner])).all()


def test_solve_finds_the_global_basin_from_the_wrong_one(directed):
    problem = landscape(directed, noise=0.02)
    problem = replace(problem, parameters=problem.parameters.at(problem.parameters.values(
        {"k": jnp.asarray(-1.5), "drive": jnp.asarray(-1.5)}
    )))  # fmt: skip
    settings = Settings(steps=30, patience=10)
    local = solve(problem, optax.adam(0.1), settings, None, key=jax.random.key(3))
    assert np.abs(where(local.result.point) + 1.5).max() < 0.3
    both = solve(problem, optax.adam(0.1), settings, SearchSettings(generations=10), key=jax.random.key(3))
    assert np.abs(where(both.result.point) - 1).max() < 0.15
    assert both.result.initial["k"] == pytest.approx(local.result.initial["k"])


def test_either_stage_alone(directed):
    problem = landscape(directed)
    kinds = {"key": jax.random.key(0)}
    alone = solve(problem, optax.adam(0.1), Settings(steps=0), SearchSettings(generations=3, population=6), **kinds)
    assert (alone.result.chosen, alone.raced, len(alone.result.history)) == ("search", None, 0)
    assert alone.result.point["k"] == alone.searched.candidates[0].point["k"]
    descent = solve(problem, optax.adam(0.1), Settings(steps=2, patience=2), None, **kinds)
    assert descent.searched is None
    assert len(descent.result.history["loss"]) == 2
    with pytest.raises(InputError, match="neither a search"):
        solve(problem, optax.adam(0.1), Settings(steps=0), None, **kinds)


def test_resuming_nothing_is_refused(directed, tmp_path):
    with pytest.raises(InputError, match="nothing to resume"):
        solve(landscape(directed), optax.adam(0.1), key=jax.random.key(0), folder=tmp_path / "none", resume=True)
