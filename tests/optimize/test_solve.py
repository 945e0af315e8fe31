"""The stages of a fit, on losses whose answer is known, on small networks, and with a predictor of one's own."""

import sys
from dataclasses import dataclass, fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import Formula, network_of, problem_of_formula, target_of

import fitting.predict.simulation
from fitting import InputError
from fitting.network import Network, simulated_recording
from fitting.objective import Objective, Target
from fitting.optimize import Candidate, Descent, Fit, GradientCheck, Parameter, Polish, Problem, Race, Search, solve
from fitting.optimize.search import evaluator
from fitting.optimize.storage import Store
from fitting.predict import Cost, LinearResponse, Prediction, Predictor, Simulation
from fitting.signal import Observation

K, DRIVE = Parameter("k", 0.5, 0.0, 10.0), Parameter("drive", 0.3, 0.0, 1.0)


def landscape(directed, noise=0.0, kind="smooth", start=None):
    """Two basins in the unconstrained plane of k and drive, the deeper at (1, 1); noise tilts it, ``kind`` spoils it.

    Fits begin at ``start`` in that plane.
    """

    def loss(values, key):
        x, y = K.unbounded(values["k"]), DRIVE.unbounded(values["drive"])
        tilt = noise * jax.random.normal(key, (2,))
        deep = -jnp.exp(-((x - 1) ** 2) - (y - 1) ** 2)
        shallow = -0.5 * jnp.exp(-((x + 1.5) ** 2) - (y + 1.5) ** 2)
        value = deep + shallow + tilt[0] * x + tilt[1] * y
        if kind == "rough":  # what chaos does: slopes of 1e3 that lead nowhere
            value = value + 0.001 * jnp.sin(1e6 * (x + y))
        if kind == "nan":
            value = jnp.where(x > 0.5, jnp.nan, value)
        return value

    parameters = [K, DRIVE]
    if start is not None:
        parameters = [replace(p, value=float(p.bounded(x))) for p, x in zip(parameters, start, strict=True)]
    return problem_of_formula(network_of(*directed), parameters, loss)


def run(stage, problem, key, starts=None, **how):
    """One stage alone, from the problem's own start or from some."""
    fit = Fit.begin(problem)
    if starts is not None:
        fit = replace(fit, candidates=tuple(Candidate(start) for start in starts))
    store = Store(how.pop("folder", None), how.pop("resume", False))
    return stage.run(fit, key, store=store, **how)


def where(point):
    return np.array([float(point["k"]), float(point["drive"])])


def test_search_finds_the_deeper_basin_and_the_other(directed):
    problem = landscape(directed, noise=0.02)
    told = []
    fit = run(Search(generations=15, population=10, finalists=3), problem, jax.random.key(0), progress=told.append)
    found = fit.search
    # What is told is the best so far, with its own correlation.
    losses = np.minimum.accumulate(found.history["loss"].min(1))
    best_so_far = [progress.text.split()[1] for progress in told if progress.stage == "search"][: len(losses)]
    assert best_so_far == [f"{loss:.4f}" for loss in losses]
    assert fit.candidates == found.candidates
    assert fit.chosen == "search"
    best = found.candidates[0]
    assert np.abs(where(best.point) - 1).max() < 0.3
    assert best.loss < -0.9
    assert found.history["loss"].shape == (15, 10)
    assert found.evaluations == 15 * 10 + (6 + 2) * 2
    # Bounds: history is in the parameters' own units.
    assert 0 < found.history["parameter_k"].min() < found.history["parameter_k"].max() < 10
    apart = [np.linalg.norm(where(a.point) - where(b.point)) for a in found.candidates for b in found.candidates]
    assert min(d for d in apart if d > 0) > 0.5 if len(found.candidates) > 1 else True


def test_a_search_around_the_best_does_not_lose_it(directed):
    """Four candidates far from the deeper basin's bottom, from where the search sets out."""
    problem = landscape(directed)
    best = {"k": jnp.asarray(1.0), "drive": jnp.asarray(1.0)}
    stage = Search(generations=1, population=4, around="best")
    assert where(run(stage, problem, jax.random.key(0), [best]).candidates[0].point).tolist() == [1.0, 1.0]


def test_search_goes_around_what_fails(directed):
    found = run(Search(generations=12), landscape(directed, kind="nan"), jax.random.key(1)).search
    assert np.isnan(found.history["loss"]).any()
    assert np.isfinite(found.candidates[0].loss)
    assert where(found.candidates[0].point)[0] <= 0.5


def test_a_search_goes_on_where_it_was_cut(directed, tmp_path):
    problem, stage, key = landscape(directed, noise=0.1), Search(generations=6), jax.random.key(2)
    whole = run(stage, problem, key).search

    def stop(progress):
        if progress.done == 3:
            raise KeyboardInterrupt

    folder = tmp_path / "c"
    with pytest.raises(KeyboardInterrupt):
        run(stage, problem, key, folder=folder, progress=stop)
    with pytest.raises(InputError, match="already holds a fit"):
        run(stage, problem, key, folder=folder)
    seen = []
    rest = run(stage, problem, key, folder=folder, resume=True, progress=lambda p: seen.append(p.done)).search
    assert seen == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(rest.history["loss"], whole.history["loss"])
    for a, b in zip(rest.candidates, whole.candidates, strict=True):
        np.testing.assert_array_equal(where(a.point), where(b.point))
    with pytest.raises(InputError, match=r"belongs to another fit: search\.population was 10, is now 8"):
        run(replace(stage, population=8), problem, key, folder=folder, resume=True)
    file = folder / "search.npz"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged"):
        run(stage, problem, key, folder=folder, resume=True)


def test_a_search_computes_only_what_is_not_kept(directed, tmp_path, monkeypatch):
    """Generations that were saved are not evaluated again."""
    problem, key = landscape(directed, noise=0.1), jax.random.key(2)
    calls = []

    def counted(*arguments):
        evaluate = evaluator(*arguments)
        return lambda *some: calls.append(1) or evaluate(*some)

    monkeypatch.setattr("fitting.optimize.search.evaluator", counted)
    run(Search(generations=4), problem, key, folder=tmp_path / "c")
    assert len(calls) == 4 + 2
    run(Search(generations=4), problem, key, folder=tmp_path / "c", resume=True)
    assert len(calls) == 4 + 2 + 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"population": 3}, "population must be at least 4"),
        ({"spread": 0.0}, "spread of a search must be positive"),
        ({"generations": 0}, "generations must be at least 1"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"around": "nothing"}, "around the middle or the best; got 'nothing'"),
    ],
)
def test_bad_search_settings(settings, words):
    with pytest.raises(InputError, match=words):
        Search(**settings)


def test_nothing_to_search(directed):
    drive = Parameter("drive", 0.5, 0.0, 1.0, per_region=True)
    problem = problem_of_formula(network_of(*directed), [drive], lambda values, key: values["drive"].sum())
    with pytest.raises(InputError, match="all regions share"):
        run(Search(), problem, jax.random.key(0))


def test_later_generations_compile_nothing(directed, caplog):
    counts = {}

    def count(progress):
        counts[progress.done] = sum(r.getMessage().startswith("Compiling ") for r in caplog.records)

    with jax.log_compiles():
        run(Search(generations=4), landscape(directed, noise=0.3), jax.random.key(0), progress=count)
    assert counts[1] > 0
    assert counts[1] == counts[2] == counts[3] == counts[4]


@pytest.fixture(scope="module")
def small():
    """Six regions, a target of its own, drive free."""
    rng = np.random.default_rng(2)
    weights = rng.uniform(0, 1, (6, 6)) * (1 - np.eye(6))
    network = network_of(weights, rng.uniform(20, 150, (6, 6)), speed_bounds=(1.0, 10.0))
    observation = Observation(transient=1.0, trim=0.5, orthogonalize=False)
    truth = {"k": 1.5, "signal_speed": 4.0, "sigma": 0.1, "drive": 0.65}
    made = simulated_recording(network, truth, duration=30_000.0, dt=0.5, key=jax.random.key(9))
    parameters = [
        Parameter("k", 0.8, 0.2, 6.0),
        Parameter("drive", 0.62, 0.1, 1.2),
        Parameter("sigma", 0.1, free=False),
    ]
    simulation = Simulation(network, observation, duration=6000.0, dt=0.5)
    return Problem(simulation, parameters, Target.of_recordings([made], observation), Objective(1.0, 1.0))


@pytest.mark.slow
def test_candidates_of_a_batch_are_those_alone(small):
    """One key is one noise for all candidates, in whatever batch."""
    names, point = ["k", "drive"], small.parameters.start()
    candidates = np.array([[0.3, -0.2], [0.0, 0.4], [-0.5, 0.1]])
    key = jax.random.key(5)
    together = evaluator(small, point, names, 3)(candidates, key)
    alone = [float(small.value(dict(zip(names, map(jnp.asarray, x), strict=True)), key)[0]) for x in candidates]
    np.testing.assert_allclose(together[0], alone, rtol=1e-9)
    np.testing.assert_allclose(evaluator(small, point, names, 1)(candidates, key), together, rtol=1e-9)


@pytest.mark.slow
def test_damped_gradients_are_healthy_and_chaotic_ones_are_not(small, monkeypatch):
    monkeypatch.setattr(fitting.predict.simulation, "HORIZONS", (250.0,))
    check = GradientCheck(seeds=3, forward=True)
    # Away from the optimum, where the slope stands out from the noise of three short simulations.
    away = small.parameters.point({"k": 0.5, "drive": 0.55})
    healthy = check.measure(small, away, jax.random.key(0))
    assert healthy.usable, healthy.reason
    assert healthy.horizon == "whole"
    assert healthy.forward_error < 1e-8
    assert healthy.agreement == pytest.approx(1, abs=0.5)
    assert set(healthy.signal_to_noise) == {"k", "drive"}
    # Drive 1.1 is past the bifurcation of every node: there gradients grow with the horizon.
    wild = small.parameters.point({"k": 3.0, "drive": 1.1})
    chaotic = check.measure(small, wild, jax.random.key(0))
    assert chaotic.norm["whole"] > 5 * chaotic.norm["250 ms"]
    assert not (chaotic.usable and chaotic.horizon == "whole")
    assert "whole: " in chaotic.reason or chaotic.horizon == "250 ms"


@dataclass(frozen=True, eq=False)
class Nearsighted(Formula):
    """Its whole gradient has the wrong sign, that of its horizon the right one."""

    near: bool = False

    def activity(self, values, key):
        found = super().activity(values, key)
        return found if self.near else 2 * jax.lax.stop_gradient(found) - found

    def horizons(self):
        return {"whole": self, "near": replace(self, near=True)}


def test_a_check_hands_on_the_horizon_that_can_be_followed(directed):
    """The problem that is solved has the usable gradient; the one that was declared does not change."""
    problem = landscape(directed, noise=0.01)
    formula = problem.predictor
    wrong = Nearsighted(formula.network, formula.observation, formula.function)
    fit = run(GradientCheck(), replace(problem, predictor=wrong), jax.random.key(0))
    assert fit.gradients.usable
    assert fit.gradients.horizon == "near"
    assert list(fit.gradients.norm) == ["whole", "near"]
    assert (fit.problem.predictor.near, fit.declared.predictor.near) == (True, False)
    assert not fit.finished


def test_gradients_that_noise_makes_at_an_optimum_are_said_to_be(directed):
    """There the mean gradient is noise, of which half has no direction by the signs of chance."""
    problem = landscape(directed, noise=0.01)
    point = {"k": jnp.asarray(1.0), "drive": jnp.asarray(1.0)}
    measured = [GradientCheck().measure(problem, point, key) for key in jax.random.split(jax.random.key(0), 12)]
    reasons = [health.reason for health in measured if not health.usable]
    assert 2 <= len(reasons) <= 12
    assert all("as around an optimum" in reason for reason in reasons)
    # Further up the slope there is a direction.
    slope = GradientCheck().measure(problem, {name: x - 0.5 for name, x in point.items()}, jax.random.key(0))
    assert slope.usable
    assert "optimum" not in slope.reason


def test_rough_losses_are_handed_to_the_search(directed):
    problem = landscape(directed, kind="rough")
    stages = [
        Search(generations=8, finalists=3),
        GradientCheck(),
        Race(),
        Descent(optax.adam(0.1), steps=5, patience=2),
    ]
    fit = solve(problem, stages, key=jax.random.key(0))
    assert not fit.gradients.usable
    assert "does not foretell" in fit.gradients.reason
    assert fit.chosen == "search"
    assert np.abs(where(fit.point) - 1).max() < 0.15
    assert "Gradients lead no further" in fit.notes[0]
    assert (fit.finished, fit.race, len(fit.history)) == (True, None, 0)
    # The closer search compares what it set out from, too.
    assert fit.search.evaluations == 2 * (8 * 10 + (6 + 2) * 2) + 2


def test_gradients_that_carry_nothing_are_said_without_a_search(directed):
    fit = run(GradientCheck(), landscape(directed, kind="rough"), jax.random.key(0))
    assert not fit.gradients.usable
    assert not fit.finished
    assert "search first" in fit.notes[0]


def test_noise_asks_for_seeds(directed):
    """A slope of 0.7 with noise of 1.3 per seed takes some seeds to stand out, noise of 20 too many."""
    point = {"k": jnp.asarray(0.3), "drive": jnp.asarray(0.3)}
    key = jax.random.key(0)
    some = GradientCheck(seeds=60, most_seeds=8).measure(landscape(directed, noise=1.3), point, key)
    assert some.usable, some.reason
    assert 1 < some.seeds <= 8
    many = GradientCheck(seeds=20, most_seeds=4).measure(landscape(directed, noise=20.0), point, key)
    assert not many.usable or many.seeds == 4
    none = GradientCheck(seeds=20, most_seeds=4).measure(landscape(directed), point, key)
    assert none.usable
    assert none.seeds == 1


def test_a_race_is_won_by_the_deeper_basin(directed):
    problem = landscape(directed, noise=0.01)
    starts = [{"k": jnp.asarray(x), "drive": jnp.asarray(x)} for x in (-1.2, -2.0, 0.5, 0.4)]
    fit = run(Race(optax.adam(0.1), steps=4), problem, jax.random.key(0), starts)
    found = fit.race
    lowest = np.nanmin(found.losses, axis=0)
    words = f"{len(starts)} starts were raced; their lowest losses lie from {lowest.min():.3f} to {lowest.max():.3f}."
    assert fit.notes == (words,)
    assert found.winner in (2, 3)
    assert found.losses.shape == (8, 4)
    assert np.isnan(found.losses[4:, :2]).all()
    assert np.isfinite(found.losses[4:, 2:]).all()
    assert (where(fit.point) > where(starts[found.winner])).all()


def test_starts_without_a_finite_loss_lose_a_race_and_are_counted(directed):
    def loss(values, key):
        return jnp.where(values["k"] > 1.5, jnp.nan, values["k"])

    problem = problem_of_formula(network_of(*directed), [Parameter("k", 1.0, 0.5, 2.0)], loss)
    starts = [{"k": jnp.asarray(x)} for x in (2.0, 3.0, -0.5, -1.0)]
    fit = run(Race(optax.sgd(1e-6), steps=2), problem, jax.random.key(0), starts)
    assert fit.race.winner == 3
    assert fit.notes[0].startswith("4 starts were raced; their lowest losses lie from 0.9")
    assert fit.notes[0].endswith("2 of them had no finite loss.")
    fit = run(Race(optax.sgd(1e-6), steps=2), problem, jax.random.key(0), starts[:2])
    assert fit.notes == ("2 starts were raced; none of them had a finite loss.",)


def test_a_race_needs_no_run_of_one(directed):
    fit = Fit.begin(landscape(directed))
    assert Race().run(fit, jax.random.key(0)) is fit


def test_solve_finds_the_global_basin_from_the_wrong_one(directed):
    problem = landscape(directed, noise=0.02, start=(-1.5, -1.5))
    local = [GradientCheck(), Descent(optax.adam(0.1), steps=30, patience=10)]
    near = solve(problem, local, key=jax.random.key(3))
    assert np.abs(where(near.point) + 1.5).max() < 0.3
    stages = [Search(generations=10), GradientCheck(), Race(optax.adam(0.1)), local[-1]]
    both = solve(problem, stages, key=jax.random.key(3))
    assert np.abs(where(both.point) - 1).max() < 0.15
    assert both.initial["k"] == pytest.approx(near.initial["k"])
    assert both.seconds > 0


def test_either_stage_alone(directed):
    problem, key = landscape(directed), jax.random.key(0)
    alone = solve(problem, [Search(generations=3, population=6)], key=key)
    assert (alone.chosen, alone.race, len(alone.history)) == ("search", None, 0)
    assert alone.point["k"] == alone.search.candidates[0].point["k"]
    descent = solve(problem, [Descent(optax.adam(0.1), steps=2, patience=2)], key=key)
    assert descent.search is None
    assert len(descent.history["loss"]) == 2
    with pytest.raises(InputError, match="neither a search"):
        solve(problem, [], key=key)
    fixed = replace(problem, parameters=[replace(p, free=False) for p in problem.parameters])
    with pytest.raises(InputError, match="no parameter is free"):
        solve(fixed, [Descent(steps=2)], key=key)


def test_resuming_nothing_is_refused(directed, tmp_path):
    with pytest.raises(InputError, match="nothing to resume"):
        solve(landscape(directed), key=jax.random.key(0), folder=f"{tmp_path}/none", resume=True)


@pytest.mark.slow
def test_a_whole_solution_goes_on_where_it_was_cut(directed, tmp_path, monkeypatch):
    """Cut in any stage: what is not saved is computed again, to the same bits."""
    monkeypatch.setattr("fitting.optimize.descent.SAVE_SECONDS", 0.0)
    problem, key = landscape(directed, noise=0.05), jax.random.key(4)
    stages = [Search(generations=4), GradientCheck(), Race(optax.adam(0.1)), Descent(optax.adam(0.1), steps=6)]
    whole = solve(problem, stages, key=key)

    class Died(Exception):
        pass

    for stage, done in (("search", 2), ("gradients", 1), ("race", 2), ("descent", 3)):

        def die(progress, stage=stage, done=done):
            if (progress.stage, progress.done) == (stage, done):
                raise Died

        folder = tmp_path / stage
        with pytest.raises(Died):
            solve(problem, stages, key=key, folder=folder, progress=die)
        rest = solve(problem, stages, key=key, folder=folder, resume=True)
        for name in whole.fitted:
            assert rest.fitted[name].tobytes() == whole.fitted[name].tobytes(), (stage, name)
        np.testing.assert_array_equal(rest.history["loss"], whole.history["loss"])


def tiny(kind):
    """Four regions, a target of their distances and of white spectra, and little time; by either predictor."""
    rng = np.random.default_rng(7)
    lengths = rng.uniform(20, 100, (4, 4))
    lengths = (lengths + lengths.T) / 2
    network = network_of(rng.uniform(0.2, 1, (4, 4)), lengths, drive=0.6)
    observation = Observation(transient=0.5, trim=0.25, orthogonalize=False, spectrum_window=1.0)
    parameters = [
        Parameter("k", 0.8, 0.2, 6.0, scale="log"),
        Parameter("sigma", 0.05, 0.005, 0.5, scale="log"),
        Parameter("signal_speed", 4.0, 2.0, 10.0, unit="m/s"),
        Parameter("drive", 0.6, 0.4, 0.68, per_region=True),
    ]
    simulation = Simulation(network, observation, duration=3500.0, dt=1.0)
    predictor = simulation if kind == "simulate" else LinearResponse(network, observation, dt=1.0, frequencies=5)
    target = target_of(np.exp(-lengths / 60), spectrum=jnp.full((len(observation.frequencies), 4), 1e-3))
    return Problem(predictor, parameters, target), simulation


SHORT = {
    "search": Search(generations=2, population=4, finalists=2, seeds=1, spread=0.7),
    "race": Race(optax.adam(0.1), steps=1),
    "descent": Descent(optax.adam(0.1), steps=2, patience=2, average=1),
}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["simulate", "response", "response_then_simulate"])
def test_a_fit_that_is_declared_again_is_the_same(strategy):
    """Whatever stages change of the problem on their way: refits of every strategy begin where the first began."""
    problem, simulation = tiny(strategy)
    stages = {
        "simulate": [SHORT["search"], GradientCheck(seeds=2), SHORT["race"], SHORT["descent"]],
        "response": list(SHORT.values()),
        "response_then_simulate": [
            *SHORT.values(),
            Polish(optax.adam(0.1), steps=2, patience=2, average=1, predictor=simulation),
        ],
    }[strategy]
    key = jax.random.key(11)
    first = solve(problem, stages, key=key)
    assert first.declared is problem
    again = solve(first.declared, stages, key=key)
    assert set(first.fitted) == {"k", "sigma", "signal_speed", "drive"}
    assert first.race is not None
    assert (first.gradients is not None and first.gradients.usable) == (strategy == "simulate")
    for name in first.fitted:
        assert first.fitted[name].tobytes() == again.fitted[name].tobytes(), name
    np.testing.assert_array_equal(first.history["loss"], again.history["loss"])
    assert len(first.history["loss"]) == 2
    last = Simulation if strategy == "response_then_simulate" else type(problem.predictor)
    assert type(first.problem.predictor) is last
    if strategy == "response_then_simulate":
        assert type(first.declared.predictor) is LinearResponse
        assert first.problem.predictor.duration == simulation.duration
        terms = first.problem.terms(first.problem.predict(first.fitted, key))
        assert np.isfinite(float(terms.loss))


@pytest.mark.slow
def test_a_polish_follows_the_network_of_its_fit(tmp_path):
    """Not the one that its predictor was declared with, and in a file of its own."""
    problem, simulation = tiny("response")
    other = replace(simulation, network=replace(simulation.network, coupling="additive"))
    polish = Polish(optax.adam(0.1), steps=1, patience=2, average=1, predictor=other)
    fit = solve(problem, [polish], key=jax.random.key(0), folder=tmp_path / "c")
    assert fit.problem.network.coupling == "diffusive"
    assert fit.problem.network.bounds.speed == (2.0, 10.0)
    assert [file.name for file in (tmp_path / "c").iterdir()] == ["polish.npz"]


@dataclass(frozen=True, eq=False)
class Structural(Predictor):
    """Connectivity is k times the weights of the connections, and noise: a predictor in a few lines."""

    network: Network
    observation: Observation
    noise: float = 0.01

    noisy = True
    seconds = 60.0

    def activity(self, values, key):
        noise = jax.random.normal(key, self.network.weights.shape)
        return jnp.tanh(values["k"] * jnp.asarray(self.network.weights)) + self.noise * noise

    def observe(self, activity, observation, spectrum=False):
        fc = (activity + activity.T) / 2
        return Prediction(fc[None], None, jnp.zeros(()))

    def traces(self, activity):
        return jnp.zeros((0, self.network.regions))

    def cost(self, gradient=False):
        return Cost(1e-5, 10_000)

    def horizons(self):
        return {"whole": self}

    def forward_mode(self):
        return self

    def unstable(self, values):
        return 0

    def remarks(self, values):
        return ["Weights of connections, and nothing else."]


def test_a_predictor_of_ones_own_goes_through_all_stages(directed, tmp_path):
    """One dataclass is all that a third predictor takes: every stage runs, k is found, and its fit is resumed."""
    network = network_of(*directed)
    predictor = Structural(network, Observation())
    truth = Structural(network, Observation(), noise=0.0).predict({"k": 2.0}, jax.random.key(0)).fc

    def distance(prediction, target):
        return ((prediction.fc - target.fc) ** 2).mean()

    problem = Problem(predictor, [Parameter("k", 0.5, 0.1, 8.0, scale="log")], target_of(truth), distance)
    stages = [
        Search(generations=4, population=6),
        GradientCheck(forward=True),
        Race(optax.adam(0.1)),
        Descent(optax.adam(0.05), steps=30, patience=15),
    ]
    told = []
    fit = solve(problem, stages, key=jax.random.key(0), folder=tmp_path / "c", progress=lambda p: told.append(p.stage))
    assert list(dict.fromkeys(told)) == ["search", "gradients", "race", "descent"]
    assert fit.search is not None
    assert fit.gradients.usable, fit.gradients.reason
    assert fit.gradients.forward_error < 1e-8
    assert fit.race is not None
    assert float(fit.fitted["k"]) == pytest.approx(2.0, abs=0.1)
    again = solve(problem, stages, key=jax.random.key(0), folder=tmp_path / "c", resume=True)
    assert again.fitted["k"].tobytes() == fit.fitted["k"].tobytes()
    with pytest.raises(InputError, match=r"problem\.predictor\.noise was 0.01, is now 0.02"):
        solve(
            replace(problem, predictor=replace(predictor, noise=0.02)),
            stages,
            key=jax.random.key(0),
            folder=tmp_path / "c",
            resume=True,
        )


@dataclass(frozen=True, eq=False)
class Growing(Formula):
    """A predictor whose modes grow wherever it is asked."""

    def unstable(self, values):
        return 1


def test_a_descent_that_became_unstable_is_gone_on_with_to_the_same_bits(directed, tmp_path, monkeypatch):
    """However often it was killed, and after its end: growing modes are remembered."""
    monkeypatch.setattr(sys.modules["fitting.optimize.descent"], "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(sys.modules["fitting.optimize.descent"], "STABILITY_STEPS", 4)
    problem = landscape(directed)
    predictor = Growing(**{f.name: getattr(problem.predictor, f.name) for f in fields(Formula)} | {"noisy": False})
    problem, key = replace(problem, predictor=predictor), jax.random.key(0)
    stage = Descent(optax.sgd(0.01), steps=100, patience=200)
    whole = run(stage, problem, key)
    assert (whole.status, len(whole.history["loss"])) == ("unstable", 8)

    def die(progress):
        if progress.done in (4, 6):
            raise TimeoutError

    for again in (False, True):
        with pytest.raises(TimeoutError):
            run(stage, problem, key, folder=tmp_path / "c", resume=again, progress=die)
    for _ in range(2):
        rest = run(stage, problem, key, folder=tmp_path / "c", resume=True)
        assert (rest.status, rest.fitted) == ("unstable", whole.fitted)
        np.testing.assert_array_equal(rest.history["loss"], whole.history["loss"])
