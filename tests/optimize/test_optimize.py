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

import fitting.optimize.descent as fit_module
from fitting import InputError
from fitting.network import Network, simulate, simulated_recording
from fitting.objective import Objective, Target
from fitting.optimize import Parameter, Parameters, Problem, Settings, fit
from fitting.optimize.descent import guarded_step
from fitting.optimize.interrupt import Interrupt
from fitting.signal import Observation

LABELS = [f"R{i}.L" for i in range(6)]
TRUTH = {"k": 1.5, "signal_speed": 4.0, "sigma": 0.1}


def make(directed, start=None, duration=6000.0, objective=None, **kinds):
    network = Network(*directed, drive=0.68, speed_bounds=(1.0, 10.0))
    observation = Observation(transient=1.0, trim=0.5, orthogonalize=False)
    objective = objective or Objective()
    made = simulated_recording(network, TRUTH, LABELS, duration=30_000.0, dt=0.5, key=jax.random.key(99))
    start = {"k": 0.8, "signal_speed": 2.5, "sigma": 0.04} | (start or {})
    bounds = {"k": (0.2, 6.0), "signal_speed": (1.0, 10.0), "sigma": (0.01, 0.5)}
    parameters = Parameters(
        [
            Parameter(n, v, *bounds[n], scale="log", unit="m/s" if n == "signal_speed" else "1")
            for n, v in start.items()
        ],
        network,
    )
    return Problem(
        network, parameters, objective.target(made, observation), observation, objective, duration, 0.5, **kinds
    )


@pytest.fixture(scope="module")
def problem(directed):
    return make(directed)


def test_whole_chain_gradient_is_central_differences(problem):
    """Loss (connectivity, halves, spectra) of a noisy, delayed simulation to k, speed and sigma, float64."""
    point, key = problem.parameters.start(), jax.random.key(0)
    loss = jax.jit(lambda p: problem.loss(p, key)[0])
    gradient = jax.jit(jax.grad(lambda p: problem.loss(p, key)[0]))(point)
    for name in point:
        step = 1e-5
        central = (loss(point | {name: point[name] + step}) - loss(point | {name: point[name] - step})) / (2 * step)
        assert abs(float(central)) > 1e-6, name
        np.testing.assert_allclose(gradient[name], central, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("settings", [{}, {"seeds": 2}, {"objective": Objective(disattenuate=False, spectrum=0.0)}])
def test_reverse_is_forward_mode_through_the_whole_chain(settings, directed):
    reverse, forward = (make(directed, **settings, adjoint=adjoint) for adjoint in ("block", "forward"))
    point, key = reverse.parameters.start(), jax.random.key(0)
    a = jax.jit(jax.grad(lambda p: reverse.loss(p, key)[0]))(point)
    b = jax.jit(jax.jacfwd(lambda p: forward.loss(p, key)[0]))(point)
    for name in point:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-8, atol=1e-12, err_msg=name)


def test_parameters_per_region(directed, rng):
    network = Network(*directed)
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


def test_a_fit_from_a_poor_start_is_as_good_as_the_truth(directed):
    """On noise the fit has not seen, the fitted point scores as the true one, within 3 standard errors."""
    problem = make(directed)
    result = fit(problem, optax.adam(0.25, b2=0.9), Settings(steps=30, patience=15, average=10), key=jax.random.key(0))
    assert result.status in ("max_steps", "converged")
    loss = jax.jit(lambda point, key: problem.loss(point, key)[0])
    points = (problem.parameters.start(), problem.parameters.point(TRUTH), result.point)
    start, truth, fitted = (
        np.array([float(loss(jax.tree.map(jnp.asarray, point), k)) for k in jax.random.split(jax.random.key(8), 10)])
        for point in points
    )
    difference = fitted - truth  # paired: the same noise on both sides
    assert difference.mean() < 3 * difference.std(ddof=1) / np.sqrt(10)
    assert fitted.mean() < 0.5 * start.mean()
    assert result.initial["k"] == pytest.approx(0.8)


def test_one_key_is_one_fit(problem):
    runs = [fit(problem, optax.adam(0.2), Settings(steps=3), key=jax.random.key(5)) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].history["loss"], runs[1].history["loss"])
    assert runs[0].fitted["k"] == runs[1].fitted["k"]


def test_a_step_asks_nothing_of_the_host(problem):
    """Nor does calling it copy anything to the device."""
    optimizer, point = optax.adam(0.2), problem.parameters.start()
    arguments = jax.device_put((point, optimizer.init(point), jax.random.key(0)))
    compiled = jax.jit(guarded_step(problem, optimizer)).lower(*arguments).compile()
    assert not re.search(r"callback|infeed|outfeed|send\(|recv\(", compiled.as_text())
    with jax.transfer_guard("disallow"):
        moved = jax.block_until_ready(compiled(*arguments))
        compiled(*moved[:2], arguments[2])


@pytest.mark.parametrize("stop", [1, 3])
def test_resume_continues_bit_for_bit(problem, stop, tmp_path, monkeypatch):
    """A fit that dies after a step, and one that never did, end with the same bits."""
    monkeypatch.setattr(sys.modules["fitting.optimize.descent"], "SAVE_SECONDS", 0.0)
    optimizer, settings, key = optax.adam(0.2), Settings(steps=5, average=3), jax.random.key(2)
    whole = fit(problem, optimizer, settings, key=key)

    class Died(Exception):
        pass

    def die(progress):
        if progress.step == stop:
            raise Died

    with pytest.raises(Died):
        fit(problem, optimizer, settings, key=key, checkpoints=tmp_path / "c", on_step=die)
    rest = fit(problem, optimizer, settings, key=key, checkpoints=tmp_path / "c", resume=True)
    for name in whole.fitted:
        assert whole.fitted[name].tobytes() == rest.fitted[name].tobytes()
    np.testing.assert_array_equal(whole.history["loss"], rest.history["loss"])


def test_ctrl_c_finishes_the_step_saves_and_reports(problem, tmp_path):
    """What follows goes on to the bits of a fit that was not interrupted."""
    optimizer, settings, key = optax.adam(0.2), Settings(steps=4, average=2), jax.random.key(2)
    whole = fit(problem, optimizer, settings, key=key)

    def press(progress):
        if progress.step == 2:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    cut = fit(problem, optimizer, settings, key=key, checkpoints=tmp_path / "c", on_step=press)
    assert signal.getsignal(signal.SIGINT) is before
    assert cut.status == "interrupted"
    assert len(cut.history["loss"]) == 2
    rest = fit(problem, optimizer, settings, key=key, checkpoints=tmp_path / "c", resume=True)
    np.testing.assert_array_equal(whole.history["loss"], rest.history["loss"])
    assert whole.fitted["k"] == rest.fitted["k"]


def test_the_second_ctrl_c_interrupts_at_once():
    with Interrupt():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_checkpoints_that_do_not_fit_are_named(problem, directed, tmp_path):
    optimizer, key = optax.adam(0.2), jax.random.key(2)
    with pytest.raises(InputError, match="nothing to resume"):
        fit(problem, optimizer, Settings(steps=1), key=key, checkpoints=tmp_path / "none", resume=True)
    fit(problem, optimizer, Settings(steps=1), key=key, checkpoints=tmp_path / "c")
    other = make(directed, duration=7000.0)
    with pytest.raises(InputError, match=r"belongs to another fit: duration was 6000.0, is now 7000.0"):
        fit(other, optimizer, Settings(steps=2), key=key, checkpoints=tmp_path / "c", resume=True)
    with pytest.raises(InputError, match="another optimizer"):
        fit(problem, optax.sgd(0.1), Settings(steps=2), key=key, checkpoints=tmp_path / "c", resume=True)
    for file in (tmp_path / "c").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: len(file.read_bytes()) // 2])
    with pytest.raises(InputError, match="damaged"):
        fit(problem, optimizer, Settings(steps=2), key=key, checkpoints=tmp_path / "c", resume=True)


class Poisoned(Problem):
    """A problem whose loss is NaN for some keys, or always."""

    def loss(self, point, key):
        loss, terms = super().loss(point, key)
        bad = jax.random.bernoulli(key, self.rate)
        return jnp.where(bad, jnp.nan, loss), terms._replace(loss=jnp.where(bad, jnp.nan, loss))


def poisoned(problem, rate):
    made = Poisoned(**{name: getattr(problem, name) for name in problem.__dataclass_fields__})
    object.__setattr__(made, "rate", rate)
    return made


def test_non_finite_steps_are_survived_and_reported(problem):
    result = fit(poisoned(problem, 0.5), optax.adam(0.1), Settings(steps=8, max_bad_steps=8), key=jax.random.key(1))
    bad = int((~result.history["finite"]).sum())
    assert 0 < bad < 8
    assert result.bad_steps == bad
    assert f"{bad} of 8 steps" in result.notes[0]
    assert all(np.isfinite(v).all() for v in result.fitted.values())


def test_a_loss_that_is_always_nan_is_called_diverged(problem):
    result = fit(poisoned(problem, 1.0), optax.adam(0.1), Settings(steps=8, max_bad_steps=3), key=jax.random.key(1))
    assert result.status == "diverged"
    assert len(result.history["loss"]) == 3
    assert result.chosen == "start"
    assert result.fitted == result.initial


def test_convergence_is_judged_against_the_noise(rng):
    settings = Settings(patience=20, tolerance=1e-6)
    rows = lambda losses: [{"loss": float(x), "finite": True} for x in losses]  # noqa: E731
    flat = 1 + 0.1 * rng.standard_normal(40)
    improvement = flat[:20].mean() - flat[20:].mean()
    noise = np.sqrt((flat[:20].var(ddof=1) + flat[20:].var(ddof=1)) / 20)
    assert fit_module._converged(rows(flat), settings) == (improvement < noise)
    assert fit_module._converged(rows(np.r_[flat[:20], flat[:20] + 0.5]), settings)
    falling = np.linspace(3, 1, 40) + 0.1 * rng.standard_normal(40)
    assert not fit_module._converged(rows(falling), settings)
    assert not fit_module._converged(rows(falling[:39]), settings)


NET = Network(np.ones((3, 3)), np.full((3, 3), 40.0), speed_bounds=(2.0, 8.0))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Parameter("k", 1.0), "needs a lower and an upper bound"),
        (lambda: Parameter("k", 1.0, 2.0, 1.0), "are empty"),
        (lambda: Parameter("k", 5.0, 0.0, 2.0), "must lie inside its bounds 0 to 2"),
        (lambda: Parameter("k", np.nan, 0.0, 2.0), "not finite"),
        (lambda: Parameter("k", 1.0, 0.0, 2.0, scale="log"), "positive lower bound"),
        (lambda: Parameter("k", 1.0, 0.0, 2.0, scale="cubic"), "unknown scale"),
        (lambda: Parameter("signal_speed", "3 s", 2.0, 8.0, unit="m/s"), "not in units of m/s"),
        (lambda: Parameter("k", 1.0, 0.0, 2.0, prior=1.5), "positive prior_weight"),
        (lambda: Parameter("k", 1.0, 0.0, 2.0, prior_weight=1.0), "needs a value"),
        (lambda: Parameter("k", 1.0, 0.0, 2.0, prior=3.0, prior_weight=1.0), "prior 3.0 1 must lie inside"),
        (lambda: Parameters([Parameter("k", 1.0, free=False)], NET), "no parameter is free"),
        (lambda: Parameters([Parameter("kk", 1.0, 0.0, 2.0)], NET), "unknown parameter 'kk'"),
        (lambda: Parameters([Parameter("k", 1.0, 0.0, 2.0)] * 2, NET), "given twice: k"),
        (lambda: Parameters([Parameter("signal_speed", 3.0, 1.0, 8.0, unit="m/s")], NET), "widen network.speed_bounds"),
        (lambda: Parameters([Parameter("k", np.ones(3), 0.0, 2.0)], NET), "per_region"),
        (lambda: Settings(steps=-1), "not negative"),
    ],
)
def test_bad_parameters_get_a_sentence(call, words, unchecked):
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"duration": 2000.0}, "Raise simulation.duration"),
        ({"duration": 2000.3}, "whole number of steps"),
        ({"seeds": 0}, "at least one noise seed"),
        ({"target": Target(jnp.zeros((4, 4)))}, "match them by label"),
    ],
)
def test_bad_problems_get_a_sentence(change, words, problem, unchecked):
    fields = {name: getattr(problem, name) for name in problem.__dataclass_fields__}
    with pytest.raises(InputError, match=words):
        Problem(**fields | change)


def test_fingerprints_are_json(problem):
    assert json.loads(json.dumps(fit_module.fingerprint(problem, Settings())))["free"]["k"][4] == "log"


def test_problem_simulates_what_simulate_does(problem):
    values = problem.parameters.values(problem.parameters.start())
    direct = simulate(problem.network, values, duration=6000.0, dt=0.5, key=jax.random.key(3)).rates
    np.testing.assert_array_equal(problem.simulate(values, jax.random.key(3)), direct)


def test_a_fit_of_other_pairs_is_not_resumed(problem, tmp_path):
    """The pairs of a checkpoint's fit would leak into what the resumed fit calls held out."""
    settings, key = Settings(steps=1), jax.random.key(2)
    split = [replace(problem, target=problem.target.split(0.7, seed)) for seed in (0, 1)]
    fit(split[0], optax.adam(0.2), settings, key=key, checkpoints=tmp_path / "c")
    with pytest.raises(InputError, match="pairs"):
        fit(split[1], optax.adam(0.2), settings, key=key, checkpoints=tmp_path / "c", resume=True)
    with pytest.raises(InputError, match="already holds a fit"):
        fit(split[0], optax.adam(0.2), settings, key=key, checkpoints=tmp_path / "c")


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
        replace(problem, parameters=Parameters(p, network), seeds=1).loss(point, key)[0] for p in (plain, pulled)
    )

    def logit(value, low, high):
        share = (value - low) / (high - low)
        return np.log(share / (1 - share))

    expected = 2.0 * (logit(1.0, 0.2, 6.0) - logit(3.1, 0.2, 6.0)) ** 2
    expected += 0.5 * (logit(0.6, 0.4, 0.7) - logit(0.55, 0.4, 0.7)) ** 2
    assert float(with_priors - without) == pytest.approx(expected, rel=1e-6)
