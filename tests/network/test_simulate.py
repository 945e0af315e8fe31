"""The network against a NumPy oracle, against brainmass, and against itself in parts."""

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import simulate as oracle
from problems import connectome_of, network_of

from fitting import InputError
from fitting.network import (
    NODES,
    Adjoint,
    DelayBounds,
    Network,
    Node,
    initial_state,
    simulate,
    simulate_noise,
    simulated_recording,
)
from fitting.network.integrate import Scheme
from fitting.network.network import SIGNAL_SPEED
from fitting.packages import brainmass, brainstate
from fitting.programs import compile_seconds

ALPHA = NODES["wilson_cowan_alpha"]().parameters
DT = 0.25


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
@pytest.mark.parametrize("speed", [1.7, 6.3])
@pytest.mark.parametrize("noise", ["ornstein_uhlenbeck", "white"])
def test_is_the_numpy_oracle(interpolation, speed, noise, directed, rng):
    """Directed weights, fractional delays, per-region parameters, noise fed in: equal to rounding.

    As many steps as three stretches, the last of which reaches beyond the end by more than a block.
    """
    weights, lengths = directed
    steps, n = 515, len(weights)
    normal = rng.standard_normal((steps, 2, n))
    own = {
        "k": 0.8,
        "drive": rng.uniform(0.5, 0.7, n),
        "sigma": rng.uniform(0.1, 0.4, n),
        "tau_E": rng.uniform(8, 11, n),
    }
    process = {"tau_noise": 10.0} if noise == "ornstein_uhlenbeck" else {}
    expected = oracle(
        weights, lengths, speed, DT, steps, {**ALPHA, **own, **process}, normal, interpolation == "nearest"
    )
    network = network_of(weights, lengths, speed_bounds=(1.0, 20.0), interpolation=interpolation, noise=noise)
    run = simulate_noise(network, {**own, "signal_speed": speed}, jnp.asarray(normal), dt=DT)
    scheme = Scheme(network.delays(DT), steps, *[lambda: None] * 3)
    block, (count, blocks) = scheme.delays.block, scheme.stretches
    assert count == 3
    assert count * blocks * block - steps > block
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(run.rates, expected, atol=1e-12)


@pytest.mark.parametrize("preset", ["wilson_cowan_notebook", "wilson_cowan_alpha"])
def test_is_brainmass_step_loop(preset, directed):
    """Nearest delays, no noise, 1000 steps of brainmass's own loop, as its notebook builds it."""
    weights, lengths = directed
    n, dt, speed, k = len(weights), 0.1, 2.0, 0.9
    start = np.linspace(0.05, 0.3, n)
    node = NODES[preset]()
    brainstate.environ.set(precision=64)
    try:
        with brainstate.environ.context(dt=dt * u.ms):
            settings = {name: value * node.unit(name) for name, value in node.parameters.items()}

            class Loop(brainstate.nn.Module):
                def __init__(self):
                    super().__init__()
                    sources = np.tile(np.arange(n), n)
                    # brainmass rounds a registered delay up; a quarter step less gives it our nearest step.
                    whole = np.rint(np.where(weights > 0, lengths, 0.0) / (speed * dt))
                    times = np.maximum(whole - 0.25, 0.0) * dt * u.ms
                    self.node = brainmass.WilsonCowanStep(n, **settings)
                    self.coupling = brainmass.DiffusiveCoupling(
                        self.node.prefetch_delay("rE", (times.flatten(), sources), init=lambda s, **_: jnp.zeros(s)),
                        self.node.prefetch("rE"),
                        weights,
                        k=k,
                    )

                def step(self, i):
                    with brainstate.environ.context(i=i, t=i * dt * u.ms):
                        return self.node(self.coupling() + 0.4)

            loop = Loop()
            brainstate.nn.init_all_states(loop)
            loop.node.rE.value = jnp.zeros(n)
            loop.node.rI.value = jnp.asarray(start)
            expected = brainstate.transform.for_loop(loop.step, np.arange(1000))
    finally:
        brainstate.environ.set(precision=32)
        jax.config.update("jax_enable_x64", True)
    network = network_of(weights, lengths, node=node, interpolation="nearest", drive=0.4, speed_bounds=(1.0, 8.0))
    run = simulate(
        network,
        {"k": k, "signal_speed": speed},
        duration=100.0,
        dt=dt,
        state=initial_state(network, dt, node={"rI": start}),
    )
    assert np.ptp(np.asarray(expected)) > 1e-3
    np.testing.assert_allclose(run.rates, expected, atol=1e-10)


def test_step_halving_shows_first_order(directed):
    """Exponential Euler is of order one: halving the step halves the error."""
    weights, lengths = directed
    network = network_of(weights, lengths, drive=0.6, speed_bounds=(2.0, 4.0))

    def end(dt):
        run = simulate(network, {"k": 0.8, "signal_speed": 3.0}, duration=64.0, dt=dt)
        return np.asarray(run.rates[-1])

    reference = end(1 / 512)
    errors = [np.abs(end(dt) - reference).max() for dt in (1 / 8, 1 / 16, 1 / 32, 1 / 64)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders, 1.0, atol=0.15)


def test_noise_has_its_stationary_statistics():
    """sd = sigma / sqrt(2), correlation exp(-t / tau): 200 regions, 20 s; tolerances are 5 standard errors."""
    n, sigma, tau = 200, 0.3, 10.0
    # With a flat transfer function, E is the low-passed noise; read the noise from the last state instead.
    network = network_of(np.zeros((n, n)), np.zeros((n, n)), drive=0.0)
    values = {"sigma": sigma, "tau_noise": tau}
    state, samples = None, []
    for _ in range(100):
        run = simulate(network, values, duration=50.0, dt=0.5, key=jax.random.key(3), state=state)
        state = run.state
        samples.append(np.asarray(state.noise))
    samples = np.array(samples[2:])  # (time, port, region), 50 ms = 5 tau apart: nearly independent
    count = samples.size
    variance = sigma**2 / 2
    assert abs(samples.mean()) < 5 * np.sqrt(variance / count)
    assert abs(samples.var() - variance) < 5 * variance * np.sqrt(2 / count)
    assert abs((samples[:, 0] * samples[:, 1]).mean()) < 5 * variance / np.sqrt(count / 2)


@pytest.mark.slow
def test_one_key_is_one_noise_whatever_the_blocks_batch_or_pieces(directed):
    weights, lengths = directed
    key = jax.random.key(7)
    values = {"k": 0.7, "signal_speed": 3.0, "sigma": 0.2}
    base = network_of(weights, lengths, drive=0.6, speed_bounds=(1.0, 8.0))
    whole = simulate(base, values, duration=60.0, dt=DT, key=key)
    assert float(np.ptp(whole.rates)) > 0.01
    for other in (
        network_of(weights, lengths, drive=0.6, speed_bounds=(1.0, 20.0)),
        network_of(weights, lengths, drive=0.6, speed_bounds=(2.0, 4.0), largest_block=3),
    ):
        run = simulate(other, values, duration=60.0, dt=DT, key=key)
        np.testing.assert_allclose(run.rates, whole.rates, atol=1e-13)
    for adjoint in ("checkpoint", "forward"):
        run = simulate(base, values, duration=60.0, dt=DT, key=key, adjoint=Adjoint(adjoint))
        np.testing.assert_allclose(run.rates, whole.rates, atol=1e-13)
    first = simulate(base, values, duration=22.25, dt=DT, key=key)
    second = simulate(base, values, duration=37.75, dt=DT, key=key, state=first.state)
    np.testing.assert_allclose(np.concatenate([first.rates, second.rates]), whole.rates, atol=1e-13)
    cut = simulate(base, values, duration=60.0, dt=DT, key=key, adjoint=Adjoint("block", 7.0))
    np.testing.assert_allclose(cut.rates, whole.rates, atol=1e-13)
    speeds = jnp.array([3.0, 5.0])
    batch = jax.vmap(lambda s: simulate(base, values | {"signal_speed": s}, duration=60.0, dt=DT, key=key).rates)(
        speeds
    )
    np.testing.assert_allclose(batch[0], whole.rates, atol=1e-13)
    assert float(jnp.abs(batch[1] - batch[0]).max()) > 1e-4


def test_zero_delay_is_plain_coupling(directed):
    """All lengths zero: every step couples to the present, as brainmass's zero-delay loop would."""
    weights, _ = directed
    zero = network_of(weights, np.zeros_like(weights), drive=0.6)
    run = simulate(zero, {"k": 0.5}, duration=30.0, dt=DT)
    expected = oracle(weights, np.zeros_like(weights), 3.0, DT, 120, {**ALPHA, "k": 0.5, "drive": 0.6})
    np.testing.assert_allclose(run.rates, expected, atol=1e-12)


@pytest.mark.parametrize("coupling", ["diffusive", "additive", "sigmoidal"])
def test_coupling_is_brainmass(coupling, rng):
    """One step from a constant past, against brainmass's coupling functions."""
    n = 4
    weights, lengths = rng.uniform(0, 1, (n, n)), np.full((n, n), 40.0)
    np.fill_diagonal(weights, 0)
    start = rng.uniform(0.1, 0.4, n)
    network = network_of(weights, lengths, coupling=coupling)
    run = simulate(network, {"k": 0.6}, duration=DT, dt=DT, state=initial_state(network, DT, node={"rE": start}))
    delayed = np.tile(start, (n, 1))
    current = {
        "diffusive": lambda: brainmass.diffusive_coupling(delayed, start, weights, 0.6),
        "additive": lambda: brainmass.additive_coupling(delayed, weights, 0.6),
        "sigmoidal": lambda: brainmass.sigmoidal_coupling(delayed, weights, 0.6),
    }[coupling]()
    state = {"rE": jnp.asarray(start), "rI": jnp.zeros(n)}
    expected = network.node.step(state, jnp.asarray(current), jnp.zeros((2, n)), {}, DT)
    np.testing.assert_allclose(run.rates[0], expected["rE"], atol=1e-14)


@pytest.mark.parametrize("preset", NODES)
def test_every_node_runs_coupled_and_with_noise(preset, directed):
    weights, lengths = directed
    network = network_of(weights, lengths, node=preset)
    loud = simulate(network, {"k": 0.1, "sigma": 0.05}, duration=100.0, dt=0.1, key=jax.random.key(0))
    quiet = simulate(network, {"k": 0.1, "sigma": 0.05}, duration=100.0, dt=0.1)
    assert np.isfinite(np.asarray(loud.rates)).all()
    assert float(jnp.abs(loud.rates - quiet.rates).max()) > 1e-6
    uncoupled = simulate(network, {"k": 0.0, "sigma": 0.05}, duration=100.0, dt=0.1, key=jax.random.key(0))
    assert float(jnp.abs(loud.rates - uncoupled.rates).max()) > 1e-9
    recorded = simulate(network, {}, duration=1.0, dt=0.1, record=tuple(network.node.variables))
    np.testing.assert_array_equal(recorded.recorded[network.node.coupled], recorded.rates)


def test_a_second_call_with_other_values_compiles_nothing(directed):
    weights, lengths = directed
    network = network_of(weights, lengths)
    f = lambda k, s: simulate(network, {"k": k, "signal_speed": s}, duration=10.0, dt=DT, key=jax.random.key(1))  # noqa: E731
    f(1.0, 3.0)
    before = compile_seconds()
    f(2.0, 7.5)
    assert compile_seconds() == before
    simulate(network, {"k": 2.0}, duration=10.5, dt=DT, key=jax.random.key(1))
    assert compile_seconds() > before  # it does hear compilations


def test_a_traced_speed_outside_the_bounds_is_nan_not_wrong(directed):
    network = network_of(*directed, speed_bounds=(2.0, 4.0))
    f = jax.jit(lambda s: simulate(network, {"signal_speed": s}, duration=5.0, dt=DT).rates)
    assert np.isfinite(np.asarray(f(2.0))).all()
    assert np.isfinite(np.asarray(f(4.0))).all()
    assert np.isnan(np.asarray(f(4.1))[-1]).all()
    assert np.isnan(np.asarray(f(1.9))[-1]).all()


def test_a_traced_speed_of_one_connection_outside_the_bounds_is_nan():
    """Where the network's own speed is outside, too: a traced one decides."""
    f = jax.jit(lambda s: simulate(TOO_FAST, {"signal_speed": s}, duration=5.0, dt=DT).rates)
    assert np.isnan(np.asarray(f(50.0))).all()
    assert np.isfinite(np.asarray(f(20.0))).all()
    one = np.full((3, 3), 20.0)
    one[1, 2] = 50.0
    first = np.asarray(f(one))[0]
    assert np.isnan(first).tolist() == [False, True, False]
    assert np.isfinite(np.asarray(simulate(TOO_FAST, {"signal_speed": 20.0}, duration=5.0, dt=DT).rates)).all()


def test_bounds_of_delays_do_not_change_the_network(directed):
    narrow, wide = (Network(connectome_of(*directed), bounds=DelayBounds(b)) for b in ((5.0, 8.0), (1.0, 40.0)))
    assert narrow.default("signal_speed") == wide.default("signal_speed") == SIGNAL_SPEED
    assert narrow.for_speeds(2.0, 7.0).default("signal_speed") == SIGNAL_SPEED
    runs = [simulate(n, {"k": 0.7}, duration=30.0, dt=DT, key=jax.random.key(2)).rates for n in (narrow, wide)]
    np.testing.assert_allclose(*runs, atol=1e-13)


@pytest.mark.parametrize("delay", [0, 3])
@pytest.mark.parametrize(("coupling", "noise"), [("diffusive", "ornstein_uhlenbeck"), ("sigmoidal", "white")])
def test_the_step_equation_is_what_is_simulated(delay, coupling, noise, rng):
    """A loop of ``network.step`` over a buffer of the past; the delay is that of a whole number of steps."""
    n, steps, speed = 3, 40, 4.0
    weights = rng.uniform(0.2, 1.0, (n, n)) * (1 - np.eye(n))
    lengths = np.full((n, n), delay * DT * speed)
    network = network_of(weights, lengths, coupling=coupling, noise=noise, speed_bounds=(1.0, 8.0), drive=0.6)
    parameters = {"k": 0.7, "signal_speed": speed, "sigma": rng.uniform(0.1, 0.3, n), "tau_E": rng.uniform(8, 11, n)}
    normal = jnp.asarray(rng.standard_normal((steps, network.node.ports, n)))
    resolved, travel, by_region = network.resolve(parameters, float)
    np.testing.assert_allclose(travel, delay * DT, atol=1e-12)
    start = initial_state(network, DT, node={"rE": np.linspace(0.05, 0.3, n)})
    state, past = (start.node, start.noise), [start.node["rE"]] * (delay + 1)
    for step in range(steps):
        state = network.step(state, resolved @ past[-1 - delay], normal[step], by_region, DT)
        past.append(state[0]["rE"])
    run = simulate_noise(network, parameters, normal, dt=DT, state=start)
    assert float(np.ptp(run.rates)) > 0.01
    np.testing.assert_allclose(run.rates, jnp.stack(past[delay + 1 :]), atol=1e-12)
    np.testing.assert_allclose(run.state.noise, state[1], atol=1e-12)


def test_float32_stays_float32(directed, float32):
    network = network_of(*directed, drive=0.6)
    run = simulate(network, {"k": 0.7, "sigma": 0.2}, duration=50.0, dt=DT, key=jax.random.key(0))
    assert {x.dtype for x in jax.tree.leaves((run.rates, run.state.node, run.state.history))} == {np.dtype("float32")}
    assert np.isfinite(np.asarray(run.rates)).all()


def test_importing_the_package_leaves_jaxs_precision_alone():
    import subprocess
    import sys

    code = (
        "import jax; jax.config.update('jax_enable_x64', True);"
        "import fitting.network, fitting.optimize; print(jax.config.jax_enable_x64)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "True"


def test_a_recording_can_be_simulated(directed):
    network = network_of(*directed, drive=0.6)
    made = simulated_recording(network, {"sigma": 0.2}, duration=3000.0, dt=0.5, key=jax.random.key(0))
    assert made.sizes["time"] == 300
    assert made.units == "model"
    with pytest.raises(InputError, match="whole number of samples"):
        simulated_recording(network, {}, duration=3001.0, dt=0.5, key=jax.random.key(0))


W = np.ones((3, 3))
L = np.full((3, 3), 40.0)
TOO_FAST = network_of(W, L, parameters={"signal_speed": 50})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Network(connectome_of(W, L).isel(target=slice(2))), "square matrix"),
        (lambda: Network(connectome_of(W, L).assign(lengths=(("a", "b"), L[:2, :2]))), "same regions"),
        (lambda: network_of(W * np.nan, L), "not finite at row 0"),
        (lambda: network_of(W, -L), "must not be negative"),
        (lambda: network_of(W, L, node="wilson"), "unknown node 'wilson'; choose from"),
        (lambda: network_of(W, L, coupling="x"), "unknown coupling"),
        (lambda: network_of(W, L, noise="x"), "unknown noise"),
        (lambda: network_of(W, L, interpolation="x"), "unknown interpolation"),
        (lambda: network_of(W, L, speed_bounds=(5.0, 1.0)), "lowest first"),
        (lambda: network_of(W, L, parameters={"kk": 1.0}), "unknown parameter 'kk'"),
        (lambda: Node("Nothing", "x", "x"), "has no model 'Nothing'"),
        (lambda: Node("HopfStep", "z", "x_inp"), "has no variable 'z'"),
        (lambda: Node("HopfStep", "x", "x_inp", ("noise_q",)), "no noise port"),
        (lambda: Node("HopfStep", "x", "x_inp", parameters={"q": 1}), "no parameter 'q'"),
        (lambda: simulate(network_of(W, L), {"kk": 1.0}, duration=1.0, dt=0.25), "unknown parameter 'kk'"),
        (
            lambda: simulate(
                network_of(W, L, speed_bounds=(1.0, 20.0)),
                {},
                duration=1.0,
                dt=0.25,
                state=initial_state(network_of(W, L, speed_bounds=(10.0, 20.0)), 0.25),
            ),
            "continue with the same dt and bounds on speeds",
        ),
        (lambda: simulate(network_of(W, L), {"k": np.ones(2)}, duration=1.0, dt=0.25), r"shape \(2,\)"),
        (lambda: simulate(network_of(W, L), {"signal_speed": 50.0}, duration=1.0, dt=0.25), "outside the network's"),
        (lambda: simulate(TOO_FAST, {}, duration=1.0, dt=0.25), "outside the network's bounds"),
        (lambda: simulate(TOO_FAST, {"signal_speed": 50.0}, duration=1.0, dt=0.25), "outside the network's bounds"),
        (lambda: simulate_noise(TOO_FAST, {}, jnp.zeros((4, 2, 3)), dt=0.25), "outside the network's bounds"),
        (lambda: jax.jit(lambda k: simulate(TOO_FAST, {"k": k}, duration=1.0, dt=0.25))(1.0), "outside the network's"),
        (lambda: simulate(network_of(W, L), {}, duration=1.1, dt=0.25), "whole number of steps"),
        (lambda: simulate(network_of(W, L), {}, duration=-1.0, dt=0.25), "must be positive"),
        (lambda: simulate(network_of(W, L), {}, duration=1.0, dt=0.25, adjoint=Adjoint("x")), "unknown adjoint"),
        (lambda: simulate(network_of(W, L), {}, duration=1.0, dt=0.25, record=("x",)), "cannot record 'x'"),
        (lambda: simulate_noise(network_of(W, L), {}, jnp.zeros((1, 3, 3)), dt=0.25), "noise has shape"),
    ],
)
def test_bad_input_gets_a_sentence(call, words, unchecked):
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.parametrize(("speed", "length"), [(12.9, 70.95), (18.4, 156.4)])
def test_a_rounded_delay_reads_no_sample_that_is_not_there(speed, length):
    """5.5 and 8.5 steps, which 64 and 32 bits round to either side: blocks of any size have the same bits."""
    runs = []
    for block in (1, 128):
        lengths, bounds = np.array([[0, length], [length, 0]]), (speed, speed)
        network = network_of(
            1 - np.eye(2), lengths, drive=0.6, speed_bounds=bounds, interpolation="nearest", largest_block=block
        )
        values = {"signal_speed": speed, "k": 2.0, "sigma": 0.1}
        jax.config.update("jax_enable_x64", False)
        runs.append(np.asarray(simulate(network, values, duration=200.0, dt=1.0, key=jax.random.key(0)).rates))
        jax.config.update("jax_enable_x64", True)
    np.testing.assert_allclose(*runs, atol=1e-6)


def test_a_subject_without_a_connection_may_leave_its_length_out():
    weights, lengths = np.ones((2, 3, 3)) - np.eye(3), np.full((2, 3, 3), 50.0)
    weights[1, 0, 1] = lengths[1, 0, 1] = 0.0
    network = network_of(weights[0], lengths[0]).for_connectomes(weights, lengths)
    rates = [
        simulate(network, {"weights": w, "lengths": d}, duration=5.0, dt=0.5).rates
        for w, d in zip(weights, lengths, strict=True)
    ]
    assert np.isfinite(rates).all()

    def mean(w):
        return simulate(network, {"weights": w, "lengths": lengths[1]}, duration=5.0, dt=0.5).rates.mean()

    assert np.isfinite(jax.grad(mean)(jnp.asarray(weights[1]))).all()
    # A weight that is there needs its length.
    assert np.isnan(jax.jit(mean)(jnp.asarray(weights[0])))
