"""Gauss-Newton steps, on predictions whose best parameters and derivatives are known."""

import os
import signal
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from problems import Formula, network_of, problem_of_formula

from fitting import InputError
from fitting.evaluate import identifiability
from fitting.evaluate.uncertainty import quantile
from fitting.objective import Target, Terms
from fitting.optimize import Fit, GaussNewton, Linearized, Parameter, Problem, Refine, Search, solve
from fitting.optimize.expansion import Expansion, corrected, matters
from fitting.optimize.gauss_newton import _Calls
from fitting.optimize.storage import Store
from fitting.predict import Prediction
from fitting.signal import Observation

BOTH = [Parameter("k", 0.4, 0.0, 2.0), Parameter("sigma", 1.5, 0.0, 2.0)]


@dataclass(frozen=True, eq=False)
class Matrix(Formula):
    """A predictor whose connectivity is a function of parameter values and a key."""

    def observe(self, activity, observation, spectrum=False):
        return Prediction(activity[None], None, jnp.zeros(()))


def squares(prediction, target):
    return ((prediction.fc - target.fc) ** 2).mean()


def bent(values, key):
    """Six by six numbers that follow two parameters, each its own way; noise belongs to the key."""
    rate = jnp.arange(36.0).reshape(6, 6) / 12
    return values["k"] * jnp.exp(-rate * values["sigma"]) + 0.3 * jax.random.normal(key, (6, 6))


def noise_free(values, key):
    return bent(values, key) - 0.3 * jax.random.normal(key, (6, 6))


def problem_of(directed, function=bent, loss=squares, noisy=True):
    """Two parameters, whose true values are 1.2 and 0.7."""
    network = network_of(*directed)
    fc = noise_free({"k": 1.2, "sigma": 0.7}, jax.random.key(0))
    predictor = Matrix(network, Observation(orthogonalize=False), function, noisy)
    return Problem(predictor, BOTH, Target(fc, network.labels, seconds=8.0), loss=loss)


@pytest.mark.parametrize("exact", [False, True])
def test_a_few_predictions_lead_to_the_minimum(directed, exact):
    told = []
    problem = problem_of(directed, noise_free, noisy=False)
    stage = GaussNewton(exact=exact, tolerance=1e-4)
    fit = solve(problem, [stage], key=jax.random.key(0), progress=told.append)
    np.testing.assert_allclose([float(fit.fitted[n]) for n in ("k", "sigma")], (1.2, 0.7), rtol=1e-4)
    assert fit.status == "converged"
    assert fit.chosen == "gauss-newton"
    assert told[-2].done <= 10
    assert told[-1].done == told[-1].total
    assert fit.history["loss"][-1] < 1e-7 < fit.history["loss"][0]
    np.testing.assert_allclose(fit.history["parameter_k"][-1], 1.2, rtol=1e-4)


def test_noise_moves_the_minimum_as_least_squares_has_it(directed):
    """The seeds' mean loss is least where one prediction with their mean noise would have its least squares."""
    from scipy.optimize import least_squares

    problem, key = problem_of(directed), jax.random.key(3)
    fit = GaussNewton(seeds=3, tolerance=1e-4).run(Fit.begin(problem), key)
    keys = [jax.random.split(k, 1)[0] for k in jax.random.split(key, 3)]
    noise = np.mean([0.3 * jax.random.normal(k, (6, 6)) for k in keys], axis=0)
    rate = np.arange(36.0).reshape(6, 6) / 12
    residual = lambda v: (v[0] * np.exp(-rate * v[1]) + noise - np.asarray(problem.target.fc)).ravel()  # noqa: E731
    best = least_squares(residual, (1.0, 1.0), xtol=1e-12).x
    np.testing.assert_allclose([float(fit.fitted[n]) for n in ("k", "sigma")], best, rtol=2e-3)


def unexplained(size):
    """What no parameters explain, but their second derivatives do: the best parameters stay where they are."""
    rate = np.arange(36.0) / 12
    slopes = np.exp(-0.7 * rate)[:, None] * np.stack([np.ones(36), -1.2 * rate], -1)
    second = 1.2 * rate**2 * np.exp(-0.7 * rate)
    left = second - slopes @ np.linalg.lstsq(slopes, second, rcond=None)[0]
    return size * (left / left.std()).reshape(6, 6)


@pytest.mark.parametrize(("size", "exact"), [(-0.6, True), (0.2, True), (0.2, False), (0.0, True)])
def test_curvatures_hold_what_a_model_leaves_unexplained(size, exact, directed):
    """The curvature of the loss of all seeds' mean, twice derived by JAX; that of Gauss and Newton is another one."""
    problem, key, names = problem_of(directed), jax.random.key(2), ["k", "sigma"]
    problem = replace(problem, target=replace(problem.target, fc=problem.target.fc + unexplained(size)))
    fit = Refine(tolerance=1e-3, exact=exact).run(Fit.begin(problem), key)
    x, keys = np.array([float(fit.point[name]) for name in names]), jax.random.split(key, 8)

    def loss(x):
        values = problem.parameters.values(dict(zip(names, x, strict=True)))
        mean = jnp.mean(jnp.stack([bent(values, jax.random.split(key, 1)[0]) for key in keys]), 0)
        return ((mean - problem.target.fc) ** 2).mean()

    curvature = np.asarray(jax.hessian(loss)(jnp.asarray(x)))
    model = Linearized(problem, fit.point, names, keys)
    straight = model.surroundings(x, *model.linearized(x, "exact")).hessian
    assert matters(straight, curvature) == (size != 0)
    np.testing.assert_allclose(fit.around.hessian, curvature if size else straight, rtol=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("size", [-0.6, 0.2])
def test_intervals_cover(size, directed):
    """Recordings as noisy as one prediction: 95 % intervals hold the true values as often as they say.

    What the model leaves unexplained would make intervals by Gauss and Newton's curvatures twice as wide, or half.
    """
    held, widths, fitted, n = np.zeros(2), [], [], 40
    problem = problem_of(directed)
    start = problem.parameters.point({"k": 1.1, "sigma": 0.8})
    stage, begun = Refine(tolerance=1e-3), Fit.begin(problem)
    for i in range(n):
        fc = bent({"k": 1.2, "sigma": 0.7}, jax.random.key(1000 + i)) + unexplained(size)
        recorded = replace(problem, target=replace(problem.target, fc=fc))
        fit = stage.run(
            replace(begun, problem=recorded, candidates=(begun.candidates[0]._replace(point=start),)), jax.random.key(i)
        )
        judged = identifiability(recorded, fit.point, jax.random.key(1), around=fit.around)
        for j, (name, true) in enumerate({"k": 1.2, "sigma": 0.7}.items()):
            low, high = judged[name].interval or (-np.inf, np.inf)
            held[j] += low <= true <= high
            widths.append(high - low)
        fitted.append([float(fit.fitted[name]) for name in judged])
    # Binomial, p = 0.95: fewer than 34 of 40 in one of 250 studies.
    assert (held >= 34).all()
    # The scatter of 40 is known to 11 %; the example is not quite linear.
    expected = 2 * quantile(7) * np.std(fitted, 0)
    np.testing.assert_allclose(np.median(np.reshape(widths, (n, 2)), 0), expected, rtol=0.35)


def test_far_minima_are_seen_by_a_scan(directed):
    """Connectivity that goes round with a parameter has a minimum every round; only one of them is the lowest."""

    def round_(values, key):
        x, y = (p.unbounded(values[p.name]) for p in BOTH)
        rate = jnp.arange(36.0).reshape(6, 6) / 12
        return (1 + 0.2 * x) * jnp.cos(3 * x + rate) + 0.5 * y * rate

    problem = problem_of(directed, round_, noisy=False)
    true = problem.parameters.values({"k": jnp.asarray(1.9), "sigma": jnp.asarray(0.2)})
    problem = replace(problem, target=replace(problem.target, fc=round_(true, None)))
    ends = {
        scan: GaussNewton(scan=scan).run(Fit.begin(problem), jax.random.key(0)).history["loss"][-1] for scan in (0, 12)
    }
    assert ends[0] > 0.05
    assert ends[12] < 1e-3


def test_the_expansion_is_that_of_least_squares(directed):
    """Gradient: reverse mode's to rounding. Curvature: twice the products of slopes, by hand."""
    problem, names = problem_of(directed, noise_free, noisy=False), ["k", "sigma"]
    point = problem.parameters.start()
    x, keys = np.array([float(point[n]) for n in names]), jax.random.split(jax.random.key(0), 1)
    model = Linearized(problem, point, names, keys)
    prediction = model.predict(x)
    same, slopes = model.linearized(x, "exact")
    np.testing.assert_allclose(same.replicates, prediction.replicates, rtol=1e-10)
    around = model.expand(x, prediction, slopes)
    gradient = jax.grad(lambda point: problem.value(point, keys[0])[0])(point)
    np.testing.assert_allclose(around.gradient, [float(gradient[n]) for n in names], rtol=1e-10)
    step, j = 1e-6, []
    for i in range(2):
        ends = [model.predict(x + s * step * np.eye(2)[i]).replicates[0, 0] for s in (1, -1)]
        j.append((ends[0] - ends[1]).ravel() / (2 * step))
    np.testing.assert_allclose(around.hessian, 2 * np.array(j) @ np.array(j).T / 36, rtol=1e-6)
    size = np.abs(slopes.replicates).max()
    for how, error in (("one-sided", 0.1), ("two-sided", 0.01)):
        rough = model.slopes(x, prediction, how)
        np.testing.assert_allclose(rough.replicates, slopes.replicates, atol=error * size)


def test_a_parameter_that_matters_little_moves_as_far_as_one_that_matters_much():
    """Damping is in each parameter's own measure: what shortens one step must not stop the other."""
    terms = Terms(*(np.zeros(()) for _ in Terms._fields))
    hessian = np.diag([40.0, 0.01])
    around = Expansion(terms, hessian @ [0.3, 0.3], hessian)
    np.testing.assert_allclose(around.step(1e-2, reach=1.0), [-0.3 / 1.01] * 2, rtol=1e-12)
    tilted = Expansion(terms, hessian @ [0.3, 30.0], hessian)
    assert np.abs(tilted.step(1e-2, reach=1.0)).max() == pytest.approx(1.0)


def test_a_parameter_at_its_bound_leaves_the_others_their_way():
    """Two parameters that make up for each other: the step that is cut at a bound leads uphill."""
    terms = Terms(*(np.zeros(()) for _ in Terms._fields))
    hessian = np.array([[1.0, 0.99], [0.99, 1.0]])
    around = Expansion(terms, np.array([-0.1, 0.0]), hessian)
    room = (np.array([-4.0, 0.0]), np.array([4.0, 9.0]))
    cut = np.clip(around.step(1e-9, reach=10.0), *room)
    step = around.step(1e-9, reach=10.0, room=room)
    np.testing.assert_allclose(step, [0.1, 0.0], rtol=1e-6)
    assert around.foretold(cut) < 0 < around.foretold(step)
    everywhere = scipy.optimize.minimize(
        lambda s: around.gradient @ s + 0.5 * s @ hessian @ s, [0.0, 0.0], bounds=np.transpose(room)
    )
    np.testing.assert_allclose(step, everywhere.x, atol=1e-5)


def test_a_correction_foretells_the_step_and_leaves_what_is_across(rng):
    step, across = np.array([0.3, 0.4]), np.array([0.4, -0.3])
    slopes, before, after = rng.normal(size=(2, 2, 5, 4)), rng.normal(size=(2, 5, 4)), rng.normal(size=(2, 5, 4))
    new = corrected(slopes, step, before, after)
    np.testing.assert_allclose(np.einsum("spij,p->sij", new, step), after - before, atol=1e-12)
    along = [np.einsum("spij,p->sij", each, across) for each in (slopes, new)]
    np.testing.assert_allclose(*along, atol=1e-12)


def test_a_loss_that_is_linear_in_the_prediction_is_followed(directed):
    """Nothing is curved then: damping alone limits steps."""

    def loss(values, key):
        return sum((BOTH[i].unbounded(values[n]) - 0.5) ** 2 for i, n in enumerate(("k", "sigma")))

    fit = GaussNewton(rounds=40, tolerance=0.001).run(
        Fit.begin(problem_of_formula(network_of(*directed), BOTH, loss)), jax.random.key(0)
    )
    np.testing.assert_allclose([float(fit.point[n]) for n in ("k", "sigma")], 0.5, atol=0.1)


def test_priors_count(directed):
    problem = problem_of(directed, noise_free, noisy=False)
    held = [replace(BOTH[0], prior=0.5, prior_weight=100.0), BOTH[1]]
    fit = GaussNewton().run(Fit.begin(replace(problem, parameters=held)), jax.random.key(0))
    assert float(fit.fitted["k"]) == pytest.approx(0.5, abs=0.01)


def test_the_best_of_several_starts_is_the_result(directed):
    problem = problem_of(directed, noise_free, noisy=False)
    begun = Fit.begin(problem)
    far = problem.parameters.point({"k": 1.9, "sigma": 1.95})
    fit = GaussNewton().run(
        replace(begun, candidates=(begun.candidates[0], begun.candidates[0]._replace(point=far))), jax.random.key(0)
    )
    assert float(fit.fitted["k"]) == pytest.approx(1.2, rel=0.02)
    assert any("2 starts ended at losses from" in note for note in fit.notes)


@pytest.mark.parametrize("bits", [32, 64])
def test_what_was_killed_goes_on_to_the_same_bits(directed, tmp_path, bits, request):
    if bits == 32:
        request.getfixturevalue("float32")

    class Killed(Exception):
        pass

    def die(progress):
        if progress.done == 2:
            raise Killed

    problem, stages = problem_of(directed), [GaussNewton(tolerance=1e-4)]
    whole = solve(problem, stages, key=jax.random.key(1))
    with pytest.raises(Killed):
        solve(problem, stages, key=jax.random.key(1), folder=tmp_path / "a", progress=die)
    rest = solve(problem, stages, key=jax.random.key(1), folder=tmp_path / "a", resume=True)
    for name, value in whole.point.items():
        assert rest.point[name] == value
    np.testing.assert_array_equal(rest.history["loss"], whole.history["loss"])


def test_what_is_read_again_lies_in_memory_as_it_was_computed(tmp_path):
    """Sums over another order differ in their last bits, on some processors."""
    moved = np.moveaxis(np.arange(24.0).reshape(2, 3, 4), 0, 1)
    store = Store(tmp_path)
    computed = _Calls(store.record("stage", {}))(lambda: moved)
    read = _Calls(replace(store, resume=True).record("stage", {}))(lambda: None)
    np.testing.assert_array_equal(computed, moved)
    np.testing.assert_array_equal(read, moved)
    assert computed.strides == read.strides


@pytest.mark.parametrize("last", [False, True])
def test_an_interrupt_ends_with_what_there_is_and_can_be_gone_on_from(last, directed, tmp_path):
    """In the midst of a stage or at its last step, after which it would have ended anyway: no other stage follows."""
    told, heard = [], []
    problem, stages = problem_of(directed), [GaussNewton(tolerance=1e-4), Refine()]
    whole = solve(problem, stages, key=jax.random.key(1), progress=told.append)
    # The first stage's last word comes when it has ended.
    steps = sum(progress.stage == "gauss-newton" for progress in told) - 1

    def press(progress):
        heard.append(progress.stage)
        if len(heard) == (steps if last else 3):
            os.kill(os.getpid(), signal.SIGINT)

    cut = solve(problem, stages, key=jax.random.key(1), folder=tmp_path / "a", progress=press)
    assert cut.status == "interrupted"
    assert set(heard) == {"gauss-newton"}
    assert 1 < len(cut.history["loss"]) < len(whole.history["loss"])
    rest = solve(problem, stages, key=jax.random.key(1), folder=tmp_path / "a", resume=True)
    np.testing.assert_array_equal(rest.history["loss"], whole.history["loss"])


def test_slopes_that_lead_nowhere_leave_the_search_to_go_on_alone(directed):
    def backwards(prediction, target):
        value = squares(prediction, target)
        return 2 * jax.lax.stop_gradient(value) - value

    problem = problem_of(directed, noise_free, loss=backwards, noisy=False)
    stages = [Search(generations=2, population=4, finalists=1), GaussNewton(rounds=3, scan=0)]
    fit = solve(problem, stages, key=jax.random.key(0))
    assert fit.finished
    assert fit.chosen == "search"
    assert any("the search went on alone" in note for note in fit.notes)


def test_derivatives_that_foretell_nothing_make_room_for_differences(directed):
    """Ripples far smaller than the noise, and steeper than the rest: what chaos does to a simulation."""

    def rippled(values, key):
        return bent(values, key) + 1e-3 * jnp.sin(1e5 * values["k"] + 7 * jnp.arange(36.0).reshape(6, 6))

    problem, key = problem_of(directed, rippled), jax.random.key(3)
    begun = Fit.begin(problem)
    smooth = Refine(tolerance=1e-3).run(Fit.begin(problem_of(directed)), key)
    fit = Refine(tolerance=1e-3, rounds=20).run(begun, key)
    misled = Refine(tolerance=1e-3, exact=False).run(begun, key)
    for name in ("k", "sigma"):
        assert float(fit.point[name]) == pytest.approx(float(smooth.point[name]), abs=0.03)
        assert float(fit.point[name]) == pytest.approx(float(misled.point[name]), abs=0.03)
    np.testing.assert_allclose(fit.around.hessian, smooth.around.hessian, rtol=0.1)
    model = Linearized(problem, problem.parameters.start(), ["k", "sigma"], jax.random.split(key, 8))
    x = np.array([float(fit.point[n]) for n in ("k", "sigma")])
    exact = model.expand(x, model.predict(x), model.slopes(x, model.predict(x), "exact"))
    assert exact.hessian[0, 0] > 100 * smooth.around.hessian[0, 0]  # or there would be nothing to see


def test_steps_that_failure_has_shortened_are_no_convergence(directed):
    """The loss's derivatives point upwards: each step fails, until damping leaves nothing of it."""

    def backwards(prediction, target):
        value = squares(prediction, target)
        return 2 * jax.lax.stop_gradient(value) - value

    problem = problem_of(directed, noise_free, loss=backwards, noisy=False)
    fit = GaussNewton(rounds=40, scan=0).run(Fit.begin(problem), jax.random.key(0))
    assert fit.status == "max_steps"
    assert any("No step lowers the loss" in note for note in fit.notes)


def test_a_start_that_is_not_finite_is_told(directed):
    fit = GaussNewton().run(
        Fit.begin(problem_of(directed, lambda values, key: jnp.full((6, 6), jnp.nan), noisy=False)), jax.random.key(0)
    )
    assert fit.status == "diverged"


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"seeds": 0}, "seeds"), ({"rounds": 0}, "rounds"), ({"tolerance": 0.0}, "tolerance"), ({"reach": 0.01}, "reach")],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(InputError, match=message):
        GaussNewton(**settings)


def test_values_of_each_region_are_refused(directed):
    parameters = [BOTH[0], replace(BOTH[1], per_region=True)]
    problem = replace(problem_of(directed, noise_free, noisy=False), parameters=parameters)
    with pytest.raises(InputError, match="sigma: one value for each region"):
        GaussNewton().run(Fit.begin(problem), jax.random.key(0))
