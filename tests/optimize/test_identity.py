"""What identifies a fit: every field of everything that decides it; and no fit goes on from another one's files."""

import json
import re
import threading
from dataclasses import fields, is_dataclass, replace
from functools import cached_property, partial

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import connectome_of, labels_of, network_of

from fitting import InputError
from fitting.data import mixing_matrix
from fitting.network import NODES, DelayBounds, Node
from fitting.objective import Objective, Target
from fitting.optimize import Descent, Fit, Parameter, Polish, Problem, Search, identity, solve
from fitting.optimize.descent import LENGTHS
from fitting.optimize.storage import Record, difference
from fitting.predict import LinearResponse, Simulation
from fitting.signal import Observation

WEIGHTS, LENGTHS_MM = np.arange(9.0).reshape(3, 3), np.full((3, 3), 50.0) + np.arange(9.0).reshape(3, 3)
NETWORK = network_of(WEIGHTS, LENGTHS_MM)
PLAIN = Observation(orthogonalize=False)
SIMULATION = Simulation(NETWORK, PLAIN, duration=8000.0, dt=1.0)
FC = np.array([[0, 0.1, 0.2], [0.1, 0, 0.3], [0.2, 0.3, 0]])
SPECTRUM = jnp.asarray(np.linspace(1, 2, 77 * 3).reshape(77, 3))
TARGET = Target(jnp.asarray(FC), labels_of(3), SPECTRUM, 60.0, ~np.eye(3, dtype=bool))
K = Parameter("k", 1.0, 0.5, 2.0, prior=1.5, prior_weight=0.1)
PROBLEM = Problem(SIMULATION, [K], TARGET)


def mean_square(prediction, target):
    return ((prediction.fc - target.fc) ** 2).mean()


def weighted(weight):
    return lambda prediction, target: weight * mean_square(prediction, target)


class Weighted:
    """A loss that is an object, and holds a method of its own."""

    def __init__(self, weight):
        self.weight, self.own = weight, self.loss

    def __call__(self, prediction, target):
        return self.loss(prediction, target)

    def loss(self, prediction, target):
        return self.weight * mean_square(prediction, target)


def of_other(array, place, value):
    changed = np.array(array)
    changed[place] = value
    return changed


#: A thing, and another value for every field of it.
CASES = {
    "Network": (
        NETWORK,
        {
            "connectome": connectome_of(of_other(WEIGHTS, (0, 1), 1.5), LENGTHS_MM),
            "node": "wilson_cowan_notebook",
            "coupling": "additive",
            "noise": "white",
            "interpolation": "nearest",
            "parameters": {**NETWORK.parameters, "drive": 0.1},
            "common_inputs": 1,
            "balance": "wIE",
            "bounds": DelayBounds((1.0, 21.0)),
        },
    ),
    "Node": (
        Node("WilsonCowanStep", "rE", "rE_inp", ("noise_E", "noise_I")),
        {
            "model": "WilsonCowanNoSaturationStep",
            "coupled": "rI",
            "input": "rI_inp",
            "noise": ("noise_E",),
            "input_unit": u.Hz,
            "noise_units": (u.UNITLESS, u.Hz),
            "parameters": {"wEE": 11.0},
            "initial": {"rE": 0.1},
            "method": "rk4",
        },
    ),
    "DelayBounds": (
        DelayBounds(),
        {
            "speed": (1.0, 12.0),
            "shortest": LENGTHS_MM / 2,
            "longest": LENGTHS_MM * 2,
            "largest_block": 64,
        },
    ),
    "Simulation": (
        SIMULATION,
        {
            "network": replace(NETWORK, coupling="sigmoidal"),
            "observation": replace(PLAIN, band=(8.0, 13.0)),
            "duration": 9000.0,
            "dt": 0.5,
            "replicates": 1,
            "start": "steady",
            "adjoint": "forward",
            "horizon": 250.0,
            "precision": 32,
        },
    ),
    "LinearResponse": (
        LinearResponse(NETWORK, PLAIN),
        {
            "network": replace(NETWORK, node="hopf"),
            "observation": replace(PLAIN, band=(8.0, 13.0)),
            "dt": 0.5,
            "frequencies": 9,
            "damping": 4.0,
            "penalty": 0.2,
        },
    ),
    "Observation": (
        PLAIN,
        {
            "fs": 200.0,
            "band": (8.0, 13.0),
            "order": 4,
            "low_pass": 1.0,
            "orthogonalize": True,
            "orthogonalize_simulation": True,
            "mixing": mixing_matrix(np.eye(3), NETWORK.labels),
            "transient": 1.0,
            "trim": 0.5,
            "log": True,
            "absolute": True,
            "standardize": True,
            "envelope_fs": 10.0,
            "filter": "fir",
            "spectrum_band": (2.0, 30.0),
            "spectrum_window": 1.0,
        },
    ),
    "Objective": (
        Objective(),
        {"fc": 2.0, "spectrum": 1.0, "disattenuate": False, "sampling_variance": 0.01, "measure": "concordance"},
    ),
    "Target": (
        TARGET,
        {
            "fc": jnp.asarray(of_other(FC, (0, 1), 0.15)),
            "labels": ["R0.L", "R2.L", "R1.L"],
            "spectrum": SPECTRUM[::-1],
            "seconds": 61.0,
            "people": 3,
            "pairs": of_other(TARGET.pairs, ([0, 1], [1, 0]), False),
        },
    ),
    "Parameter": (
        K,
        {
            "name": "sigma",
            "value": 1.1,
            "lower": 0.4,
            "upper": 2.5,
            "unit": "s",
            "free": False,
            "per_region": True,
            "scale": "log",
            "prior": 1.4,
            "prior_weight": 0.2,
            "spread_weight": 0.1,
            "maps": ["log_strength"],
            "map_weight": 0.02,
        },
    ),
    "Problem": (
        PROBLEM,
        {
            "predictor": replace(SIMULATION, duration=9000.0),
            "parameters": [replace(K, upper=2.5)],
            "target": replace(TARGET, seconds=61.0),
            "loss": mean_square,
            "seeds": 2,
        },
    ),
    "Search": (
        Search(),
        {
            "generations": 9,
            "population": 12,
            "spread": 1.0,
            "batch": 2,
            "finalists": 3,
            "seeds": 3,
            "keep_start": True,
            "around": "best",
            "name": "search again",
        },
    ),
    "Descent": (
        Descent(optax.adam(0.1)),
        {
            "optimizer": optax.adam(0.2),
            "steps": 31,
            "patience": 11,
            "tolerance": 1e-2,
            "average": 5,
            "fresh_noise": False,
            "max_bad_steps": 4,
            "clip": 2.0,
            "name": "descent again",
        },
    ),
    "Polish": (
        Polish(optax.adam(0.1), predictor=SIMULATION),
        {
            "optimizer": optax.sgd(0.1),
            "steps": 31,
            "patience": 11,
            "tolerance": 1e-2,
            "average": 5,
            "fresh_noise": False,
            "max_bad_steps": 4,
            "clip": 2.0,
            "name": "polish again",
            "predictor": replace(SIMULATION, duration=9000.0),
        },
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_every_field_is_part_of_an_identity(kind):
    """Changing it alone changes the identity, and the difference names it; a new field must have a case here."""
    thing, changes = CASES[kind]
    assert type(thing).__name__ == kind
    names = [field.name for field in fields(thing) if field.init]
    assert set(names) == set(changes), f"{kind} has fields without a case, or cases without a field"
    known = identity(thing)
    assert identity(replace(thing)) == known
    assert list(difference(known, known)) == []
    for name in names:
        changed = json.loads(json.dumps(identity(replace(thing, **{name: changes[name]}))))
        found = list(difference(json.loads(json.dumps(known)), changed))
        assert found, f"{kind}.{name}"
        # What is derived from a field may change with it.
        assert any(sentence.startswith(name) and " was " in sentence for sentence in found), (name, found)


def test_all_dataclasses_of_a_problem_have_cases():
    """Whatever a problem or a stage holds: nothing in it is identified without being tested."""

    def kinds(thing):
        if is_dataclass(thing):
            yield type(thing).__name__
            for field in fields(thing):
                yield from kinds(getattr(thing, field.name))
        elif isinstance(thing, tuple | list):
            for part in thing:
                yield from kinds(part)

    response = replace(PROBLEM, predictor=LinearResponse(NETWORK, PLAIN))
    found = {kind for thing in (PROBLEM, response, Search(), Descent()) for kind in kinds(thing)}
    # Parameters are a list of them, and the network that is the predictor's.
    assert found - {"Parameters"} <= set(CASES)


def in_problem(**settings):
    return replace(PROBLEM, predictor=replace(SIMULATION, network=replace(NETWORK, **settings)))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (in_problem(node="wilson_cowan_notebook"), r"predictor\.network\.node\.parameters\.\w+ was .*, is now None"),
        (in_problem(node="hopf"), r"predictor\.network\.node\.model was WilsonCowanStep, is now HopfStep"),
        (in_problem(bounds=DelayBounds((1.0, 10.0))), r"predictor\.network\.bounds\.speed\[1\] was 20.0, is now 10.0"),
        (in_problem(bounds=DelayBounds((2.0, 20.0))), r"predictor\.network\.bounds\.speed\[0\] was 1.0, is now 2.0"),
        (replace(PROBLEM, loss=weighted(2.0)), r"loss was "),
        (replace(PROBLEM, target=replace(TARGET, pairs=None)), r"target\.pairs was .*, is now None"),
    ],
)
def test_what_lies_deep_is_named(changed, words):
    found = list(difference(identity(PROBLEM), identity(changed)))
    assert any(re.match(words, sentence) for sentence in found), found


def test_presets_of_nodes_are_told_apart():
    every = [json.dumps(identity(node())) for node in NODES.values()]
    assert len(set(every)) == len(NODES)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (optax.adam(0.1), optax.adam(0.2)),
        (optax.adam(0.1), optax.adam(0.1, b1=0.8)),
        (optax.adam(0.1), optax.sgd(0.1)),
        (optax.adam(optax.cosine_decay_schedule(0.1, 10)), optax.adam(optax.cosine_decay_schedule(0.1, 20))),
        (optax.chain(optax.clip(1.0), optax.sgd(0.1)), optax.chain(optax.clip(2.0), optax.sgd(0.1))),
        (weighted(1.0), weighted(2.0)),
        (Weighted(1.0), Weighted(2.0)),
        (Weighted(1.0).loss, Weighted(2.0).loss),
        (jax.jit(weighted(1.0)), jax.jit(weighted(2.0))),
        (lambda *, weight=1.0: weight, lambda *, weight=2.0: weight),
        (partial(mean_square, target=1.0), partial(mean_square, target=2.0)),
        (np.array([1.0, 2.0]), np.array([2.0, 1.0])),
        (np.array([1.0, 2.0]), np.array([[1.0, 2.0]])),
        (np.array([1.0, 2.0]), np.array([-1.0, 2.0])),
        ({"a": 1}, {"b": 1}),
        (True, 2),
        (None, "None of them"),
    ],
)
def test_functions_and_arrays_are_what_they_hold(one, other):
    assert identity(one) == identity(one)
    assert identity(one) != identity(other)
    assert list(difference(identity(one), identity(other)))


def test_an_identity_names_no_address():
    """It would be another one in the next process; functions may hold on to themselves."""

    class Plain:
        def __init__(self):
            self.size = 1.0

    def again(count):
        return again(count - 1) if count else Plain

    for one, other in ((Plain(), Plain()), (Weighted(1.0), Weighted(1.0)), (Weighted(1.0).loss, Weighted(1.0).loss)):
        assert identity(one) == identity(other)
        assert " at 0x" not in json.dumps(identity(one))
    assert identity(again) == identity(again)


def test_what_is_no_setting_does_not_change_an_identity():
    """Caches, counts that are kept for oneself, the order of sets, and the file that a compiled function came from."""

    class Loss:
        def __init__(self, ignored):
            self.ignored, self.lock, self._calls = ignored, threading.Lock(), 0

        @cached_property
        def mask(self):
            return np.eye(3)

        def __call__(self, prediction, target):
            self._calls += 1
            return self.mask.sum()

    loss = Loss({"A.L", "B.L", "C.R", "D.R"})
    known = json.dumps(identity(loss))
    loss(None, None)
    assert json.dumps(identity(loss)) == known == json.dumps(identity(Loss({"D.R", "C.R", "B.L", "A.L"})))
    assert "0x" not in known
    assert identity(Loss({"A.L"})) != json.loads(known)
    moved = "\n\n\ndef distance(a, b, scale=2.0):\n    return scale * (a - b)"
    one, other = {}, {}
    exec(compile(moved.strip(), "one.py", "exec"), one)
    exec(compile(moved, "another.py", "exec"), other)
    same, there = identity(jax.jit(one["distance"])), identity(jax.jit(other["distance"]))
    assert same == there
    assert "one.py" not in json.dumps(same)
    assert "2.0" in json.dumps(same)


def test_rounding_does_not_change_an_identity(rng):
    """Last digits of what was computed change from process to process."""
    values = rng.standard_normal((20, 20))
    assert identity(values) == identity(values * (1 + 1e-12))
    assert identity(jnp.asarray(values)) == identity(values)


#: Stages that compute nothing that takes long, on a real problem.
STAGES = {
    "search": Search(generations=1, population=4, finalists=1, seeds=1),
    "descent": Descent(optax.adam(0.1), steps=1, average=1),
}


def other_target(**settings):
    return replace(PROBLEM, target=replace(TARGET, **settings))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The folders of a search and of a descent."""
    folders = {}
    for name, stage in STAGES.items():
        folders[name] = tmp_path_factory.mktemp(name) / "c"
        solve(PROBLEM, [stage], key=jax.random.key(0), folder=folders[name])
    return folders


CHANGED = {
    "predictor.duration": replace(PROBLEM, predictor=replace(SIMULATION, duration=9000.0)),
    "predictor.observation.orthogonalize": replace(PROBLEM, predictor=replace(SIMULATION, observation=Observation())),
    "predictor.network.node.parameters": in_problem(node="wilson_cowan_notebook"),
    "predictor.network.bounds.speed": in_problem(bounds=DelayBounds((1.0, 10.0))),
    "predictor.network.connectome.weights": in_problem(connectome=connectome_of(WEIGHTS.T, LENGTHS_MM)),
    "predictor.network.connectome.lengths": in_problem(connectome=connectome_of(WEIGHTS, LENGTHS_MM + 1)),
    "parameters": replace(PROBLEM, parameters=[replace(K, upper=2.5)]),
    "target.fc": other_target(fc=jnp.asarray(FC**2)),
    "target.pairs": other_target(pairs=None),
    "loss": replace(PROBLEM, loss=mean_square),
    "seeds": replace(PROBLEM, seeds=2),
    "predictor.class": replace(PROBLEM, predictor=LinearResponse(NETWORK, PLAIN), target=TARGET),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("what", CHANGED)
def test_a_changed_problem_is_not_gone_on_with(stage, what, kept):
    """By search and by descent, each by itself; the message names what differs."""
    files = {file: file.read_bytes() for file in kept[stage].iterdir()}
    with pytest.raises(InputError, match=rf"{stage}\.npz belongs to another fit: .*") as caught:
        solve(CHANGED[what], [STAGES[stage]], key=jax.random.key(0), folder=kept[stage], resume=True)
    before = str(caught.value).partition("belongs to another fit: ")[2]
    # The parameters know the network, too, and come first.
    names = (f"problem.{what}", f"problem.{what.replace('predictor.network', 'parameters.network')}")
    assert any(name in before for name in names), before
    assert {file: file.read_bytes() for file in kept[stage].iterdir()} == files


@pytest.mark.parametrize("stage", STAGES)
def test_another_key_is_another_fit(stage, kept):
    with pytest.raises(InputError, match=r"belongs to another fit: key\S* was .*, is now"):
        solve(PROBLEM, [STAGES[stage]], key=jax.random.key(1), folder=kept[stage], resume=True)


@pytest.mark.parametrize("name", [field.name for field in fields(Descent) if field.name != "name"])
def test_only_lengths_of_a_descent_may_change(name, kept, tmp_path):
    """One that goes on may go further, or stop sooner; whatever else changes is refused by its name."""
    thing, changes = STAGES["descent"], CASES["Descent"][1] | {"steps": 2}
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / "descent.npz").write_bytes((kept["descent"] / "descent.npz").read_bytes())
    changed = replace(thing, **{name: changes[name]})
    if name not in LENGTHS:
        with pytest.raises(InputError, match=rf"descent\.npz belongs to another fit: {name}\S* was .*, is now"):
            solve(PROBLEM, [changed], key=jax.random.key(0), folder=folder, resume=True)
        return
    rest = solve(PROBLEM, [changed], key=jax.random.key(0), folder=folder, resume=True)
    assert len(rest.history["loss"]) == (2 if name == "steps" else 1)


@pytest.mark.parametrize("name", [field.name for field in fields(Search) if field.name != "name"])
def test_no_setting_of_a_search_may_change(name, kept):
    changed = replace(STAGES["search"], **{name: CASES["Search"][1][name]})
    with pytest.raises(InputError, match=rf"search\.npz belongs to another fit: .*search\.{name} was .*, is now"):
        solve(PROBLEM, [changed], key=jax.random.key(0), folder=kept["search"], resume=True)


def test_precision_is_part_of_an_identity(kept, float32):
    with pytest.raises(InputError, match=r"belongs to another fit: .*x64 was True, is now False"):
        solve(PROBLEM, [STAGES["descent"]], key=jax.random.key(0), folder=kept["descent"], resume=True)


def test_a_name_is_a_file(tmp_path):
    """Stages of another name have files of their own, beside each other."""
    twice = [STAGES["descent"], replace(STAGES["descent"], name="descent again")]
    fit = solve(PROBLEM, twice, key=jax.random.key(0), folder=tmp_path / "c")
    assert isinstance(fit, Fit)
    assert sorted(file.name for file in (tmp_path / "c").iterdir()) == ["descent.npz", "descent_again.npz"]


def test_many_differences_are_counted(tmp_path):
    file = tmp_path / "a.npz"
    Record(file, {str(i): i for i in range(6)}, False).save({"x": np.ones(2)})
    assert Record(file, {str(i): i for i in range(6)}, True).arrays["x"].tolist() == [1.0, 1.0]
    with pytest.raises(InputError, match=r"0 was 0, is now 1; 1 was 1, is now 2; 2 was 2, is now 3; and 3 more"):
        Record(file, {str(i): i + 1 for i in range(6)}, True)
    with pytest.raises(InputError, match="already holds a fit"):
        Record(file, {str(i): i for i in range(6)}, False)


def test_a_kill_while_saving_leaves_the_old_file(tmp_path, monkeypatch):
    record = Record(tmp_path / "a.npz", {"x": 1}, False)
    record.save({"x": np.ones(2)})

    def killed(*arguments, **arrays):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", killed)
    with pytest.raises(KeyboardInterrupt):
        record.save({"x": np.zeros(2)})
    monkeypatch.undo()
    assert Record(tmp_path / "a.npz", {"x": 1}, True).arrays["x"].tolist() == [1.0, 1.0]
