"""Parameters, the whole chain's gradient, and the fit loop: finding, surviving, stopping, resuming."""

import json
import re
import signal
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import network_of, problem_of_formula, target_of

from fitting import InputError
from fitting.network import simulate, simulated_recording
from fitting.objective import Objective, Target
from fitting.optimize import Descent, Fit, GradientCheck, Parameter, Parameters, Polish, Problem, Race, identity, solve
from fitting.optimize.descent import adam, guarded_steps, sgd, unreliable
from fitting.optimize.interrupt import Interrupt
from fitting.optimize.problem import repeated
from fitting.optimize.storage import Store
from fitting.predict import Simulation
from fitting.signal import Observation

TRUTH = {"k": 1.5, "signal_speed": 4.0, "sigma": 0.1}


def make(directed, start=None, duration=6000.0, objective=None, seeds=1, **kinds):
    network = network_of(*directed, drive=0.68, speed_bounds=(1.0, 10.0))
    observation = Observation(transient=1.0, trim=0.5, orthogonalize=False)
    objective = objective or Objective()
    made = simulated_recording(network, TRUTH, duration=30_000.0, dt=0.5, key=jax.random.key(99))
    start = {"k": 0.8, "signal_speed": 2.5, "sigma": 0.04} | (start or {})
    bounds = {"k": (0.2, 6.0), "signal_speed": (1.0, 10.0), "sigma": (0.01, 0.5)}
    parameters = [
        Parameter(n, v, *bounds[n], scale="log", unit="m/s" if n == "signal_speed" else "1") for n, v in start.items()
    ]
    target = Target.of_recordings([made], observation, spectrum=objective.spectrum > 0)
    simulation = Simulation(network, observation, duration=duration, dt=0.5, **kinds)
    return Problem(simulation, parameters, target, objective, seeds)


def descend(problem, optimizer, *, key, progress=lambda p: None, folder=None, resume=False, **settings):
    """A descent alone."""
    return Descent(optimizer, **settings).run(Fit.begin(problem), key, progress, Store(folder, resume))


@pytest.fixture(scope="module")
def problem(directed):
    return make(directed)


def test_whole_chain_gradient_is_central_differences(problem):
    """Loss (connectivity, halves, spectra) of a noisy, delayed simulation to k, speed and sigma, float64."""
    point, key = problem.parameters.start(), jax.random.key(0)
    loss = jax.jit(lambda p: problem.value(p, key)[0])
    gradient = jax.jit(jax.grad(lambda p: problem.value(p, key)[0]))(point)
    for name in point:
        step = 1e-5
        central = (loss(point | {name: point[name] + step}) - loss(point | {name: point[name] - step})) / (2 * step)
        assert abs(float(central)) > 1e-6, name
        np.testing.assert_allclose(gradient[name], central, rtol=1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"seeds": 2}, {"objective": Objective(disattenuate=False, spectrum=0.0)}])
def test_reverse_is_forward_mode_through_the_whole_chain(settings, directed):
    reverse, forward = (make(directed, **settings, adjoint=adjoint) for adjoint in ("block", "forward"))
    point, key = reverse.parameters.start(), jax.random.key(0)
    a = jax.jit(jax.grad(lambda p: reverse.value(p, key)[0]))(point)
    b = jax.jit(jax.jacfwd(lambda p: forward.value(p, key)[0]))(point)
    for name in point:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-8, atol=1e-12, err_msg=name)


def test_parameters_per_region(directed, rng):
    network = network_of(*directed)
    drive = Parameter("drive", 0.6, 0.4, 0.7, per_region=True)
    parameters = Parameters([drive, Parameter("k", 0.7, free=False)], network)
    values = parameters.values(parameters.start())
    np.testing.assert_allclose(values["drive"], np.full(6, 0.6), rtol=1e-12)
    assert float(values["k"]) == 0.7
    there = parameters.point({"drive": jnp.asarray(rng.uniform(0.45, 0.65, 6))})
    back = parameters.point(parameters.values(there))
    np.testing.assert_allclose(back["drive"], there["drive"], rtol=1e-10)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_transforms_stay_inside_their_bounds(scale):
    p = Parameter("sigma", 0.05, 0.005, 0.5, scale=scale)
    ends = p.bounded(jnp.array([-50.0, 50.0]))
    assert float(ends[0]) >= 0.005 * (1 - 1e-9)
    assert float(ends[1]) <= 0.5 * (1 + 1e-9)
    assert float(p.bounded(p.unbounded(0.05))) == pytest.approx(0.05, rel=1e-12)


@pytest.mark.slow
def test_a_fit_from_a_poor_start_is_as_good_as_the_truth(directed):
    """On noise the fit has not seen, the fitted point scores as the true one, within 3 standard errors."""
    problem = make(directed)
    settings = {"steps": 30, "patience": 15, "average": 10}
    result = descend(problem, optax.adam(0.25, b2=0.9), **settings, key=jax.random.key(0))
    assert result.status in ("max_steps", "converged")
    loss = jax.jit(lambda point, key: problem.value(point, key)[0])
    points = (problem.parameters.start(), problem.parameters.point(TRUTH), result.point)
    start, truth, fitted = (
        np.array([float(loss(jax.tree.map(jnp.asarray, point), k)) for k in jax.random.split(jax.random.key(8), 10)])
        for point in points
    )
    difference = fitted - truth  # paired: the same noise on both sides
    assert difference.mean() < 3 * difference.std(ddof=1) / np.sqrt(10)
    assert fitted.mean() < 0.5 * start.mean()
    assert result.initial["k"] == pytest.approx(0.8)


@pytest.mark.slow
def test_one_key_is_one_fit(problem):
    runs = [descend(problem, optax.adam(0.2), steps=3, key=jax.random.key(5)) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].history["loss"], runs[1].history["loss"])
    assert runs[0].fitted["k"] == runs[1].fitted["k"]


def test_a_step_asks_nothing_of_the_host(problem):
    """Nor is anything copied to the device that is not meant to be: a point, a key, and a gradient."""
    optimizer, point = optax.adam(0.2), problem.parameters.start()
    point, memory, key = jax.device_put((point, optimizer.init(point), jax.random.key(0)))
    compiled = jax.jit(problem.value_and_grad).lower(point, key).compile()
    assert not re.search(r"callback|infeed|outfeed|send\(|recv\(", compiled.as_text())
    steps = guarded_steps(problem, optimizer, seeds=1)
    ((point, memory, *_),) = steps([(point, memory)], key)
    with jax.transfer_guard("disallow"):
        jax.block_until_ready(steps([(point, memory)], key))
        with pytest.raises(Exception, match="transfer"):
            point["k"] + np.ones(3)


def test_resume_continues_bit_for_bit(problem, tmp_path, monkeypatch):
    """A fit that dies after a step, goes on, dies again, and one that never did, end with the same bits."""
    monkeypatch.setattr(sys.modules["fitting.optimize.descent"], "SAVE_SECONDS", 0.0)
    optimizer, settings, key = optax.adam(0.2), {"steps": 5, "average": 3}, jax.random.key(2)
    whole = descend(problem, optimizer, **settings, key=key)

    class Died(Exception):
        pass

    def die_at(stop):
        def die(progress):
            if progress.done == stop:
                raise Died

        return die

    for stop in (1, 3):
        with pytest.raises(Died):
            descend(
                problem, optimizer, **settings, key=key, folder=tmp_path / "c", progress=die_at(stop), resume=stop > 1
            )
    rest = descend(problem, optimizer, **settings, key=key, folder=tmp_path / "c", resume=True)
    for name in whole.fitted:
        assert whole.fitted[name].tobytes() == rest.fitted[name].tobytes()
    np.testing.assert_array_equal(whole.history["loss"], rest.history["loss"])


@pytest.mark.slow
def test_ctrl_c_finishes_the_step_saves_and_reports(problem, tmp_path):
    """What follows goes on to the bits of a fit that was not interrupted."""
    optimizer, settings, key = optax.adam(0.2), {"steps": 4, "average": 2}, jax.random.key(2)
    whole = descend(problem, optimizer, **settings, key=key)

    def press(progress):
        if progress.done == 2:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    cut = descend(problem, optimizer, **settings, key=key, folder=tmp_path / "c", progress=press)
    assert signal.getsignal(signal.SIGINT) is before
    assert cut.status == "interrupted"
    assert len(cut.history["loss"]) == 2
    rest = descend(problem, optimizer, **settings, key=key, folder=tmp_path / "c", resume=True)
    np.testing.assert_array_equal(whole.history["loss"], rest.history["loss"])
    assert whole.fitted["k"] == rest.fitted["k"]


@pytest.mark.parametrize("rate", ["fast", -1, 0, float("nan"), None])
def test_learning_rates_are_positive_numbers(rate, unchecked):
    for optimizer in (adam, sgd):
        with pytest.raises(InputError, match=f"learning_rate must be a positive number; got {rate!r}"):
            optimizer(10, rate)


def test_the_second_ctrl_c_interrupts_at_once():
    with Interrupt():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_checkpoints_that_do_not_fit_are_named(problem, directed, tmp_path):
    optimizer, key = optax.adam(0.2), jax.random.key(2)
    with pytest.raises(InputError, match="nothing to resume"):
        descend(problem, optimizer, steps=1, key=key, folder=tmp_path / "none", resume=True)
    descend(problem, optimizer, steps=1, key=key, folder=tmp_path / "c")
    again = {"steps": 2, "key": key, "folder": tmp_path / "c", "resume": True}
    other = make(directed, duration=7000.0)
    words = r"belongs to another fit: problem\.predictor\.duration was 6000.0, is now 7000.0"
    with pytest.raises(InputError, match=words):
        descend(other, optimizer, **again)
    for another in (optax.sgd(0.1), optax.adam(0.1), optax.adam(0.2, b1=0.8)):
        with pytest.raises(InputError, match=r"belongs to another fit: optimizer\S* was .*, is now"):
            descend(problem, another, **again)
    assert len(descend(problem, optimizer, **again).history["loss"]) == 2
    (file,) = [file for file in (tmp_path / "c").rglob("*") if file.is_file()]
    assert file.name == "descent.npz"
    file.write_bytes(file.read_bytes()[: len(file.read_bytes()) // 2])
    with pytest.raises(InputError, match="damaged"):
        descend(problem, optimizer, **again)


def poisoned(directed, rate):
    """A problem whose loss is NaN for some keys, or always, and otherwise has its least at the middle of k's bounds."""

    def loss(values, key):
        return jnp.where(jax.random.bernoulli(key, rate), jnp.nan, (values["k"] - 3.0) ** 2)

    return problem_of_formula(network_of(*directed), [Parameter("k", 0.8, 0.2, 6.0)], loss)


def test_non_finite_steps_are_survived_and_reported(directed):
    result = descend(poisoned(directed, 0.5), optax.adam(0.1), steps=8, max_bad_steps=8, key=jax.random.key(1))
    bad = int((~result.history["finite"]).sum())
    assert 0 < bad < 8
    assert result.bad_steps == bad
    assert any(f"{bad} of 8 steps" in note for note in result.notes)
    assert all(np.isfinite(v).all() for v in result.fitted.values())


def test_a_descent_hands_on_nothing_that_was_measured_elsewhere(directed):
    """Slopes and curvatures that an earlier stage measured are of another point."""
    fit = replace(Fit.begin(poisoned(directed, 0.0)), around="there")
    assert Descent(optax.adam(0.1), steps=1).run(fit, jax.random.key(0)).around is None


@pytest.mark.parametrize(("replicates", "words"), [(2, "share 20% .* less than the 25%"), (4, None)])
def test_what_counts_as_unreliable_depends_on_how_many_replicates_there_are(replicates, words):
    (note,) = unreliable([0.2, 0.2], replicates) or [""]
    assert re.search(words, note) if words else not note


def test_a_loss_that_is_always_nan_is_called_diverged(directed):
    result = descend(poisoned(directed, 1.0), optax.adam(0.1), steps=8, max_bad_steps=3, key=jax.random.key(1))
    assert result.status == "diverged"
    assert len(result.history["loss"]) == 3
    assert result.chosen == "start"
    assert result.fitted == result.initial


@pytest.mark.parametrize(("rate", "chosen"), [(0.45, "average"), (0.3, "best step"), (500.0, "start")])
def test_a_descent_without_noise_ends_with_the_best_of_what_it_has_seen(rate, chosen, directed):
    """A valley that steps cross, walk down, or leave; no program but that of the steps is needed to tell."""

    def loss(values, key):
        return (values["k"] - 3.0) ** 2

    problem = problem_of_formula(network_of(*directed), [Parameter("k", 2.5, 0.2, 6.0)], loss, noisy=False)
    fit = descend(problem, optax.sgd(rate), steps=6, patience=10, average=4, clip=1e6, key=jax.random.key(0))
    reached, seen = float(problem.value(fit.point, jax.random.key(0))[0]), fit.history["loss"]
    assert fit.chosen == chosen
    assert reached <= seen.min() * (1 + 1e-9)
    if chosen == "average":
        assert reached < 0.9 * seen.min()
    assert "_evaluated" not in vars(problem)


@pytest.mark.slow
def test_a_real_problem_survives_steps_that_are_not_finite(problem):
    """Loss and gradient of a simulation are NaN together, and the optimiser forgets such a step."""

    def loss(prediction, target):
        some = prediction.fc[0, 1]
        return jnp.where(jnp.sin(1e6 * some) > 0, jnp.nan, Objective()(prediction, target))

    result = descend(replace(problem, loss=loss), optax.adam(0.1), steps=8, max_bad_steps=8, key=jax.random.key(1))
    bad = ~result.history["finite"]
    assert 0 < bad.sum() < 8
    assert result.bad_steps == bad.sum()
    assert np.isnan(result.history["loss"][bad]).all()
    assert all(np.isfinite(v).all() for v in result.fitted.values())


def test_convergence_is_judged_against_the_noise(rng):
    descent = Descent(patience=20, tolerance=1e-6)
    rows = lambda losses: [{"loss": float(x), "finite": True} for x in losses]  # noqa: E731
    flat = 1 + 0.1 * rng.standard_normal(40)
    improvement = flat[:20].mean() - flat[20:].mean()
    noise = np.sqrt((flat[:20].var(ddof=1) + flat[20:].var(ddof=1)) / 20)
    assert descent._converged(rows(flat)) == (improvement < noise)
    assert descent._converged(rows(np.r_[flat[:20], flat[:20] + 0.5]))
    falling = np.linspace(3, 1, 40) + 0.1 * rng.standard_normal(40)
    assert not descent._converged(rows(falling))
    assert not descent._converged(rows(falling[:39]))


NET = network_of(np.ones((3, 3)), np.full((3, 3), 40.0), speed_bounds=(2.0, 8.0))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Parameter("k", 1.0), "needs a lower and an upper bound"),
        (lambda: Parameter("k", 1.0, 2.0, 1.0), "are empty"),
        (lambda: Parameter("k", 1.0, 0.1, np.inf), "bounds must be finite; got 0.1 to inf"),
        (lambda: Parameter("k", 5.0, 0.0, 2.0), "must lie inside its bounds 0 to 2"),
        (lambda: Parameter("k", np.nan, 0.0, 2.0), "not finite"),
        (lambda: Parameter("k", 1.0, 0.0, 2.0, scale="log"), "positive lower bound"),
        (lambda: Parameter("k", 1.0, 0.0, 2.0, scale="cubic"), "unknown scale"),
        (lambda: Parameter("signal_speed", "3 s", 2.0, 8.0, unit="m/s"), "not in units of m/s"),
        (lambda: Parameter("k", 1.0, 0.0, 2.0, prior=1.5), "positive prior_weight"),
        (lambda: Parameter("k", 1.0, 0.0, 2.0, prior_weight=1.0), "needs a value"),
        (lambda: Parameter("k", 1.0, 0.0, 2.0, prior=3.0, prior_weight=1.0), "prior 3.0 must lie inside"),
        (lambda: Parameters([Parameter("kk", 1.0, 0.0, 2.0)], NET), "unknown parameter 'kk'"),
        (lambda: Parameters([Parameter("k", 1.0, 0.0, 2.0)] * 2, NET), "given twice: k"),
        (lambda: Parameters([Parameter("k", np.ones(3), 0.0, 2.0)], NET), "per_region"),
        (lambda: Parameter("drive", 0.5, 0.0, 1.0, per_region=True, spread_weight=-1.0), "spread_weight must not be"),
        (lambda: Descent(steps=0), "steps \\(0\\) and average \\(10\\) must be at least 1"),
        (lambda: Descent(patience=1), "patience \\(1\\) 2"),
        (lambda: Descent(average=0), "average \\(0\\) must be at least 1"),
        (lambda: Descent(max_bad_steps=0), "max_bad_steps \\(0\\) must be at least 1"),
        (lambda: Descent(clip=0.0), "clip \\(0\\) positive"),
        (lambda: Descent(tolerance=-1.0), "tolerance \\(-1\\) not negative"),
        (lambda: Race(steps=0), "steps \\(0\\) must be at least 1"),
        (lambda: Race(clip=-1.0), "clip \\(-1\\) positive"),
        (lambda: GradientCheck(seeds=1), "at least 2 noise seeds"),
        (lambda: GradientCheck(most_seeds=0), "most_seeds \\(0\\) must be at least 1"),
        (lambda: GradientCheck(step=0.0), "step \\(0\\) positive"),
    ],
)
def test_bad_parameters_get_a_sentence(call, words, unchecked):
    with pytest.raises(InputError, match=words):
        call()


def test_a_problem_makes_room_for_the_speeds_of_its_parameters(problem):
    """Bounds of the network that are narrower, or wider, than those of the fitted speed become its own."""
    simulation = replace(problem.predictor, network=problem.network.for_speeds(2.0, 8.0))
    for low, high in ((1.0, 9.0), (2.5, 3.5)):
        speed = Parameter("signal_speed", 3.0, low, high, unit="m/s")
        made = Problem(simulation, [speed], problem.target)
        assert made.network.bounds.speed == (low, high)
        assert made.parameters.network is made.network
    fixed = Problem(simulation, [Parameter("k", 1.0, 0.1, 5.0)], problem.target)
    assert fixed.network.bounds.speed == (2.0, 8.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"duration": 2000.0}, "Raise duration"),
        ({"duration": 2000.3}, "whole number of steps"),
        ({"dt": 100.0, "duration": 6000.0}, "Lower dt"),
        ({"start": "nowhere"}, "unknown start 'nowhere'"),
        ({"replicates": 0}, "replicates must be at least 1"),
        ({"horizon": 0.3}, "whole number of steps"),
    ],
)
def test_bad_simulations_get_a_sentence(change, words, problem, unchecked):
    with pytest.raises(InputError, match=words):
        replace(problem.predictor, **change)


def relabelled(problem, labels):
    return replace(problem, target=replace(problem.target, labels=labels))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: replace(p, seeds=0), "at least one noise seed"),
        (
            lambda p: replace(p, target=target_of(jnp.zeros((4, 4)))),
            r"target does not have: R4\.L, R5\.L\. Match them by",
        ),
        (lambda p: replace(p, target=target_of(jnp.zeros((7, 7)))), r"network does not have: R6\.L\. Match them by"),
        (
            lambda p: relabelled(p, ["X.L", *p.network.labels[1:]]),
            r"network does not have: X\.L; the target does not have: R0\.L\. Match them by label",
        ),
        (lambda p: relabelled(p, p.network.labels[::-1]), "their order differs"),
    ],
)
def test_bad_problems_get_a_sentence(change, words, problem, unchecked):
    with pytest.raises(InputError, match=words):
        change(problem)


def test_a_polish_needs_a_predictor(problem):
    with pytest.raises(InputError, match="needs the predictor"):
        Polish().run(Fit.begin(problem), jax.random.key(0))


def test_stages_need_names_of_their_own(problem):
    with pytest.raises(InputError, match="names of their own; got descent, descent"):
        solve(problem, [Descent(), Descent(steps=5)], key=jax.random.key(0))


def test_identities_are_json(problem):
    assert json.loads(json.dumps(identity(problem)))["parameters"]["parameters"][0]["scale"] == "log"


def test_problem_simulates_what_simulate_does(problem):
    values = problem.parameters.values(problem.parameters.start())
    direct = simulate(problem.network, values, duration=6000.0, dt=0.5, key=jax.random.key(3)).rates
    np.testing.assert_array_equal(problem.predictor.activity(values, jax.random.key(3)), direct)


@pytest.mark.slow
def test_a_fit_of_other_pairs_is_not_resumed(problem, tmp_path):
    """The pairs of a checkpoint's fit would leak into what the resumed fit calls held out."""
    settings, key = {"steps": 1}, jax.random.key(2)
    split = [replace(problem, target=problem.target.split(0.7, seed)) for seed in (0, 1)]
    descend(split[0], optax.adam(0.2), **settings, key=key, folder=tmp_path / "c")
    with pytest.raises(InputError, match="pairs"):
        descend(split[1], optax.adam(0.2), **settings, key=key, folder=tmp_path / "c", resume=True)
    with pytest.raises(InputError, match="already holds a fit"):
        descend(split[0], optax.adam(0.2), **settings, key=key, folder=tmp_path / "c")


def test_priors_pull_in_the_unconstrained_space(problem):
    """Loss with priors less loss without is the weighted squared distance, for one value and for one per region."""
    network = problem.network
    plain = [Parameter("k", 1.0, 0.2, 6.0), Parameter("drive", 0.6, 0.4, 0.7, per_region=True)]
    pulled = [
        Parameter("k", 1.0, 0.2, 6.0, prior=3.1, prior_weight=2.0),
        Parameter("drive", 0.6, 0.4, 0.7, per_region=True, prior="0.55", prior_weight=0.5),
    ]
    key = jax.random.key(0)
    point = Parameters(plain, network).start()
    without, with_priors = (
        replace(problem, parameters=Parameters(p, network), seeds=1).value(point, key)[0] for p in (plain, pulled)
    )

    def logit(value, low, high):
        share = (value - low) / (high - low)
        return np.log(share / (1 - share))

    expected = 2.0 * (logit(1.0, 0.2, 6.0) - logit(3.1, 0.2, 6.0)) ** 2
    expected += 0.5 * (logit(0.6, 0.4, 0.7) - logit(0.55, 0.4, 0.7)) ** 2
    assert float(with_priors - without) == pytest.approx(expected, rel=1e-6)


def test_spreads_cost_their_variance_over_regions(problem, rng):
    """In the unconstrained space; a value that all regions share has none."""
    key = jax.random.key(0)
    k = Parameter("k", 1.0, 0.2, 6.0, spread_weight=5.0)
    plain, spread = (
        replace(problem, parameters=[k, Parameter("drive", 0.6, 0.4, 0.7, per_region=True, spread_weight=weight)])
        for weight in (0.0, 0.3)
    )
    point = plain.parameters.start()
    assert float(spread.value(point, key)[0] - plain.value(point, key)[0]) == pytest.approx(0.0, abs=1e-12)
    x = rng.standard_normal(6)
    point["drive"] = jnp.asarray(x)
    differences = spread.value(point, key)[0] - plain.value(point, key)[0]
    assert float(differences) == pytest.approx(0.3 * ((x - x.mean()) ** 2).mean(), rel=1e-9)
    gradient = jax.grad(lambda p: spread.parameters.penalty(p))(point)
    np.testing.assert_allclose(gradient["drive"], 0.3 * 2 / 6 * (x - x.mean()), rtol=1e-10)


def mean_square(prediction, target):
    """A loss of a user's own."""
    off_diagonal = ~np.eye(target.fc.shape[0], dtype=bool)
    return ((prediction.fc - target.fc)[off_diagonal] ** 2).mean()


def test_a_loss_of_ones_own_falls_by_plain_optax(problem):
    """Nothing of this library but the problem: five steps on one noise lower a loss that it does not know."""
    own = replace(problem, loss=mean_square)
    optimizer, key = optax.adam(0.1), jax.random.key(4)

    @jax.jit
    def step(point, memory):
        (loss, terms), gradient = own.value_and_grad(point, key)
        updates, memory = optimizer.update(gradient, memory, point)
        return optax.apply_updates(point, updates), memory, loss, terms

    point = own.parameters.start()
    memory, losses = optimizer.init(point), []
    for _ in range(6):
        point, memory, loss, terms = step(point, memory)
        losses.append(float(loss))
        assert float(terms.loss) == losses[-1]
    assert losses[5] < losses[0]
    values = own.parameters.values(own.parameters.start())
    prediction = own.predict(values, own.keys(key)[0])
    terms = own.terms(prediction)
    np.testing.assert_allclose(losses[0], mean_square(prediction, own.target), rtol=1e-9)
    np.testing.assert_allclose(terms.loss, losses[0], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "seeds"), [(mean_square, 1), (mean_square, 2), (Objective(), 2)])
def test_value_and_grad_is_that_of_the_value(problem, loss, seeds):
    """By the program of all stages or not; several seeds are averaged."""
    several = replace(problem, loss=loss, seeds=seeds)
    point, key = several.parameters.start(), jax.random.key(6)
    (a, terms), gradient = jax.jit(several.value_and_grad)(point, key)
    (b, others), expected = jax.jit(jax.value_and_grad(several.value, has_aux=True))(point, key)
    np.testing.assert_allclose(a, b, rtol=1e-10)
    np.testing.assert_allclose(terms, others, rtol=1e-10)
    assert list(gradient) == list(expected)
    for name in gradient:
        np.testing.assert_allclose(gradient[name], expected[name], rtol=1e-9, err_msg=name)
    every = several.gradients(repeated(point, seeds), several.keys(key))
    terms_of_all, gradient_of_all = jax.tree.map(lambda x: x.mean(0), every)
    np.testing.assert_allclose(terms_of_all, terms, rtol=1e-10)
    for name in gradient:
        np.testing.assert_allclose(gradient_of_all[name], gradient[name], rtol=1e-9, err_msg=name)
    one = jax.jit(several.value_of_seed)
    alone = [one(point, k)[0] for k in several.keys(key)]
    assert len(alone) == seeds
    np.testing.assert_allclose(a, np.mean(alone), rtol=1e-9)


def test_a_second_step_compiles_nothing(problem, caplog):
    """Whatever the point, the memory and the key are; nor does a second candidate."""
    optimizer, point = optax.adam(0.2), problem.parameters.start()
    steps, state, compiled = guarded_steps(replace(problem), optimizer, 1), (point, optimizer.init(point)), []
    with jax.log_compiles():
        for number, count in enumerate((1, 1, 1, 2)):
            moved = steps([state] * count, jax.random.fold_in(jax.random.key(0), number))
            state = moved[0][:2]
            programs = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Compiling ")]
            compiled.append(sum("jit(advance)" in text or "jit(run)" in text for text in programs))
    assert compiled == [2] * 4


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 2])
def test_later_steps_of_a_descent_compile_nothing(problem, seeds, caplog):
    """Nor do single operations on what a step returns."""
    steps, every = {}, {}

    def count(progress):
        compiled = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Compiling ")]
        steps[progress.done], every[progress.done] = sum("jit(advance)" in text for text in compiled), len(compiled)

    with jax.log_compiles():
        descend(replace(problem, seeds=seeds), optax.adam(0.13), steps=5, key=jax.random.key(3), progress=count)
    assert [steps[done] for done in range(1, 6)] == [1] * 5
    assert len({every[done] for done in range(1, 6)}) == 1


@pytest.mark.parametrize("final", [1.0, 0.1])
def test_descent_with_momentum_is_that_of_optax(final):
    """Its learning rate stays, or falls along a cosine to the share that is asked for."""
    ours, rate = sgd(10, 0.5, final), 0.5 if final == 1 else optax.cosine_decay_schedule(0.5, 10, alpha=final)
    theirs = optax.sgd(rate, momentum=0.8)
    states = [optimizer.init(jnp.ones(2)) for optimizer in (ours, theirs)]
    for step in range(12):
        gradient = jnp.array([1.0, -step])
        moved = [o.update(gradient, state) for o, state in zip((ours, theirs), states, strict=True)]
        states = [state for _, state in moved]
        np.testing.assert_array_equal(moved[0][0], moved[1][0])
