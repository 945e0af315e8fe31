"""What is expected of a fit before it is run."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from problems import network_of, target_of

from fitting import InputError
from fitting.evaluate import EvaluationSettings, expect
from fitting.optimize import Descent, GradientCheck, Parameter, Problem, Race, Search
from fitting.predict import Cost, LinearResponse, Simulation
from fitting.signal import Observation


@pytest.fixture(scope="module")
def problem(directed):
    simulation = Simulation(network_of(*directed, drive=0.7), Observation(), duration=20_000.0, dt=0.5)
    parameters = [Parameter("k", 1.0, 0.1, 5.0), Parameter("sigma", 0.02, 0.005, 0.5)]
    return Problem(simulation, parameters, target_of(np.ones((6, 6))))


@pytest.fixture
def steady(monkeypatch):
    """The pace of a machine changes from moment to moment."""
    for module in ("cost", "linear_response"):
        monkeypatch.setattr(sys.modules[f"fitting.predict.{module}"], "pace", lambda: 1.0)


def test_more_of_anything_is_expected_to_cost_more(problem, steady):
    def total(problem=problem, steps=10, population=10, seeds=3, race=4, **evaluation):
        stages = Search(population=population), GradientCheck(seeds=seeds), Race(steps=race), Descent(steps=steps)
        return expect(problem, stages, EvaluationSettings(**evaluation)).seconds

    longer = replace(problem, predictor=replace(problem.predictor, duration=40_000.0))
    assert total(steps=20) > total()
    assert total(population=40) > total()
    assert total(seeds=6) > total()
    assert total(race=8) > total()
    assert total(fresh_seeds=100) > total()
    assert total(surrogates=99) > total()
    assert total(null_seeds=5) > total()
    assert total(recoveries=1) > total()
    assert total(leak_fits=2) > total(leak_fits=1) > total()
    assert total(longer) > total()
    assert total(replace(problem, seeds=2)) > total()


def test_a_race_costs_the_gradients_of_all_starts_that_are_left(problem, steady):
    """Of 8 starts: 8, then 4, then 2, for so many steps each, one after the other on one device."""
    one = problem.predictor.cost(gradient=True).seconds
    search = Search(finalists=7, keep_start=True)
    for stages in ([search, Race(steps=5)], [search, GradientCheck(), Race(steps=5)]):
        made = expect(problem, stages, EvaluationSettings())
        assert made.stages["race"].seconds == pytest.approx(5 * (8 + 4 + 2) * one)
    assert expect(problem, [Race(steps=5)], EvaluationSettings()).stages["race"].seconds == 0


def test_stages_that_are_left_out_cost_nothing(problem, steady):
    assert set(expect(problem, [], EvaluationSettings()).stages) == {"evaluation"}
    descent = expect(problem, [Descent()], EvaluationSettings())
    assert set(descent.stages) == {"descent", "evaluation"}
    recording = Cost(10.0, 1_000_000)
    made = expect(problem, [Search(), Descent()], EvaluationSettings(), recording=recording)
    assert set(made.stages) == {"recording", "search", "descent", "evaluation"}
    assert made.stages["recording"].seconds == 10.0
    assert made.seconds == pytest.approx(sum(cost.seconds for cost in made.stages.values()))
    response = replace(problem, predictor=LinearResponse(problem.network, problem.observation))
    linear = expect(response, [Descent()], EvaluationSettings(), problem.predictor)
    assert set(linear.stages) == {"descent", "evaluation"}
    assert linear.stages["descent"].seconds < descent.stages["descent"].seconds


def test_what_is_fitted_again_takes_as_long_as_the_fit(problem, steady):
    stages, evaluation = [Search(), Descent()], EvaluationSettings(refitted_surrogates=19, recoveries=2)
    for stored in (False, True):
        expected = expect(problem, stages, evaluation, stored=stored).stages
        plain = expect(problem, stages, EvaluationSettings()).stages
        fit = plain["search"].seconds + plain["descent"].seconds
        assert expected["fits again"].seconds == pytest.approx((2 * 19 + 2) * fit)
        assert expected["evaluation"] == plain["evaluation"]
        assert ("descent" in expected) != stored


def test_profiles_of_a_fit_without_noise_take_time(problem, steady):
    response = replace(problem, predictor=LinearResponse(problem.network, problem.observation))

    def seconds(**evaluation):
        return expect(response, [], EvaluationSettings(**evaluation), problem.predictor).seconds

    assert seconds(profile_points=18) > seconds(profile_points=9) > seconds()
    # Its noise seeds are none.
    assert seconds(identifiability_seeds=80) == seconds()


def test_leaks_take_time_where_pairs_are_held_out_of_recordings_of_known_length(problem, steady):
    """By people, up to twenty or as many as a data set holds; none where nothing tells how long, or is held out."""

    def seconds(people=1, length=60.0, leaks=5, split=True, **observation):
        target = replace(problem.target, seconds=people * length, people=people)
        observed = replace(problem.observation, **observation)
        predictor = replace(problem.predictor, observation=observed)
        other = replace(problem, predictor=predictor, target=target.split(0.7, 0) if split else target)
        verified = replace(problem.predictor, observation=Observation())
        return expect(other, [], EvaluationSettings(leaks=leaks), verified).seconds - nothing

    nothing = 0.0
    nothing = seconds(leaks=0)
    one = seconds(leaks=1)
    assert one > 0
    assert seconds() == pytest.approx(5 * one)
    assert seconds(people=4) == pytest.approx(20 * one)
    assert seconds(people=8) == pytest.approx(20 * one)
    assert seconds(people=33) == pytest.approx(33 * one)
    assert seconds(length=120.0) == pytest.approx(10 * one)
    assert seconds(split=False) == seconds(length=float("inf")) == 0
    assert seconds(orthogonalize=False) < seconds() < seconds(filter="fir", low_pass=0.2)


@pytest.mark.parametrize(
    ("largest", "stages", "duration"),
    [
        ("search", [Search(batch=100, population=100), Descent()], None),
        ("descent", [Search(), Descent()], None),
        ("evaluation", [Search(), Descent()], 10_000_000.0),
    ],
)
def test_what_cannot_fit_is_refused_by_the_stage_that_needs_it(problem, largest, stages, duration):
    verify = problem.predictor if duration is None else replace(problem.predictor, duration=duration)
    evaluation = EvaluationSettings(fresh_seeds=1)
    expected = expect(problem, stages, evaluation, verify, available=500_000_000)
    assert expected.largest == largest
    with pytest.raises(InputError, match="lower duration, raise dt, or compute fewer at once") as caught:
        expected.refuse()
    assert str(caught.value).startswith(f"the {largest} would need about ")
    assert "0.5 GB are free" in str(caught.value)
    expect(problem, stages, evaluation, verify, available=10**13).refuse()


def test_expectations_read_as_a_sentence(problem, steady):
    stages = Search(), GradientCheck(), Race(), Descent()
    expected = expect(problem, stages, EvaluationSettings(), recording=Cost(2.0, 10**8))
    assert str(expected).startswith("Expected: 0.8 GB of memory, about ")
    assert "recording 2 s" in str(expected)
    assert str(expected).endswith("and up to a minute of compiling unless that was done before.")


def test_compiling_for_a_gpu_is_expected_to_take_longer(problem, steady, monkeypatch):
    monkeypatch.setattr(sys.modules["fitting.evaluate.expectation"], "on_gpu", lambda: True)
    words = "several minutes of compiling for the GPU (a CPU is sooner ready for a few candidates) unless that was"
    assert words in str(expect(problem, [Descent()], EvaluationSettings()))
