"""What is expected of a fit before it is run."""

import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fitting import InputError
from fitting.evaluate import EvaluationSettings, expect
from fitting.network import Network, estimate, foretell
from fitting.objective import Target
from fitting.optimize import Parameter, Parameters, Problem, ResponseProblem, SearchSettings, Settings
from fitting.signal import Observation


@pytest.fixture(scope="module")
def problem(directed):
    network = Network(*directed, drive=0.7)
    parameters = Parameters([Parameter("k", 1.0, 0.1, 5.0), Parameter("sigma", 0.02, 0.005, 0.5)], network)
    return Problem(network, parameters, Target(jnp.ones((6, 6))), Observation(), duration=20_000.0, dt=0.5)


@pytest.mark.parametrize("gradient", [False, True])
def test_memory_is_foretold_within_a_factor_of_two(gradient, directed):
    """Of what the compiled program holds."""
    network = Network(*directed, drive=0.7)
    told = foretell(network, duration=20_000.0, dt=0.5, gradient=gradient)
    compiled = estimate(network, duration=20_000.0, dt=0.5, gradient=gradient)
    assert told.steps == compiled.steps == 40_000
    assert 0.5 < told.bytes / compiled.bytes < 2


def test_more_of_anything_is_expected_to_cost_more(problem, monkeypatch):
    # The pace of a machine changes from moment to moment.
    for module in ("fitting.evaluate.expected", "fitting.network.estimate"):
        monkeypatch.setattr(sys.modules[module], "pace", lambda: 1.0)

    def total(problem=problem, steps=10, population=10, **evaluation):
        settings = Settings(steps=steps), SearchSettings(population=population), EvaluationSettings(**evaluation)
        return sum(expect(problem, *settings).seconds.values())

    assert total(steps=20) > total()
    assert total(population=40) > total()
    assert total(fresh_seeds=100) > total()
    assert total(surrogates=99) > total()
    assert total(replace(problem, duration=40_000.0)) > total()
    assert total(replace(problem, seeds=2)) > total()


def test_stages_that_are_left_out_cost_nothing(problem):
    response = ResponseProblem(problem.network, problem.parameters, problem.target, problem.observation)
    assert set(expect(problem, None, None, EvaluationSettings()).seconds) == {"evaluation"}
    assert set(expect(problem, Settings(), None, EvaluationSettings()).seconds) == {"fit", "evaluation"}
    with_recording = expect(problem, Settings(), SearchSettings(), EvaluationSettings(), recording=60_000.0)
    assert set(with_recording.seconds) == {"recording", "search", "fit", "evaluation"}
    linear = expect(problem, Settings(), None, EvaluationSettings(), response=response)
    assert set(linear.seconds) == {"fit", "profiles", "evaluation"}
    assert linear.seconds["fit"] < expect(problem, Settings(), None, EvaluationSettings()).seconds["fit"]


@pytest.mark.parametrize(
    ("words", "change", "searching", "duration"),
    [
        ("The search would need", "lower search.batch or simulation.duration", SearchSettings(batch=100), None),
        ("The fit would need", "lower simulation.duration or raise simulation.dt", None, None),
        ("The evaluation would need", "lower evaluation.duration", None, 10_000_000.0),
    ],
)
def test_what_cannot_fit_is_refused_by_the_setting_to_change(problem, words, change, searching, duration):
    evaluation = EvaluationSettings(fresh_seeds=1, duration=duration)
    expected = expect(problem, Settings(), searching, evaluation, available=500_000_000)
    with pytest.raises(InputError, match=change) as caught:
        expected.refuse()
    assert str(caught.value).startswith(words)
    assert "0.5 GB are free" in str(caught.value)
    expect(problem, Settings(), searching, evaluation, available=10**13).refuse()


def test_expectations_read_as_a_sentence(problem):
    text = str(expect(problem, Settings(), SearchSettings(), EvaluationSettings(), recording=300_000.0))
    assert text.startswith("Expected: 40,000 steps in each simulation, 0.8 GB of memory, about ")
    assert text.endswith("and a minute of compiling unless that was done before.")


def test_numbers_of_64_bits_need_twice_the_memory(directed, float32):
    network = Network(np.asarray(directed[0]), np.asarray(directed[1]))
    narrow = foretell(network, duration=20_000.0, dt=0.5).bytes
    jax.config.update("jax_enable_x64", True)
    assert foretell(network, duration=20_000.0, dt=0.5).bytes == 2 * narrow
