"""The same numbers on one device, on eight, and on those of two processes."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from fitting import devices


class Gpu:
    """What a device with 8 GB says of itself, 2 GB of them in use."""

    platform = "gpu"

    def memory_stats(self):
        return {"bytes_limit": 8_000_000_000, "bytes_in_use": 2_000_000_000}


def test_batches_are_sized_from_free_memory(monkeypatch):
    assert devices.side_by_side(10**15) == 1
    monkeypatch.setattr(devices, "local_devices", lambda: [Gpu()])
    assert devices.free_bytes() == 6_000_000_000
    assert devices.side_by_side(10_000_000) == 300
    assert devices.side_by_side(10**15) == 1


#: Everything that is shared out among devices, on a small network. Arguments: file, [address, processes, number].
SCRIPT = """
import pathlib, sys
from dataclasses import replace
import jax
jax.config.update("jax_enable_x64", True)
if len(sys.argv) > 2:
    jax.distributed.initialize(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
import numpy as np, optax
import fitting
from fitting.data import hcp_aal2
from fitting.evaluate import delay_nulls, fresh_seeds, identifiability, surrogate_connectomes, surrogate_sensitivity
from fitting.network import Network
from fitting.objective import Target
from fitting.optimize import Candidate, Descent, Fit, GradientCheck, Parameter, Problem, Race, Search, solve
from fitting.predict import Simulation
from fitting.signal import Observation

connectome = hcp_aal2(regions=5)
network = Network(connectome, parameters={"drive": 0.6})
declared = [Parameter("k", 2.0, 0.5, 8.0, scale="log"), Parameter("signal_speed", 6.0, 3.0, 20.0),
            Parameter("sigma", 0.05, 0.01, 0.2)]
target = Target(np.exp(-network.lengths / 60), network.labels)
observation = Observation(low_pass=None, orthogonalize=False, transient=1.0, trim=0.25)
problem = Problem(Simulation(network, observation, 4000.0, 1.0), declared, target)
values, start = {"k": 2.0, "signal_speed": 6.0, "sigma": 0.05}, problem.parameters.start()
key = jax.random.key(0)
numbers = {}
searched = Search(generations=2, population=5, batch=2, finalists=2, seeds=1).run(Fit.begin(problem), key)
numbers["search"] = searched.search.history["loss"]
numbers["candidates"] = [candidate.loss for candidate in searched.candidates]
starts = [start, problem.parameters.point(values | {"k": 4.0}), problem.parameters.point(values | {"k": 1.0})]
raced = Race(optax.adam(0.1), steps=2).run(
    replace(Fit.begin(problem), candidates=tuple(Candidate(point) for point in starts)), key
)
numbers["race"], numbers["winner"] = raced.race.losses, [raced.point[name] for name in sorted(raced.point)]
fresh = fresh_seeds(problem, values, key, 3)
numbers["fresh"], numbers["fc"], numbers["signals"] = fresh.fc_correlation, fresh.fc, fresh.signals
several, descent = replace(problem, seeds=3), Descent(optax.adam(0.1), steps=2)
fitted = solve(several, [descent], key=key)
numbers["fit"], numbers["fitted"] = fitted.history["loss"], [fitted.point[name] for name in sorted(fitted.point)]
if jax.device_count() == 8:
    folder = pathlib.Path(sys.argv[1]).with_suffix("")
    solve(several, [replace(descent, steps=1)], key=key, folder=folder)
    rest = solve(several, [descent], key=key, folder=folder, resume=True)
    assert rest.history["loss"].tobytes() == fitted.history["loss"].tobytes()
health = GradientCheck(seeds=3).measure(problem, start, key)
numbers["health"] = [health.norm["whole"], health.seeds]
keys = jax.random.split(key, 2)
numbers["nulls"] = list(delay_nulls(problem, values, keys).values())
rewired = surrogate_connectomes(connectome, "rewired", 2, 0)
numbers["surrogates"] = surrogate_sensitivity(problem, values, rewired, keys[:1]).surrogates
numbers["judged"] = [j.interval or (0.0, 0.0) for j in identifiability(problem, start, key, 2).values()]
numbers["devices"] = jax.device_count()
np.savez(sys.argv[1], **{name: np.asarray(value, float) for name, value in numbers.items()})
"""


def compute(file, devices, *arguments):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "NPROC": "1"}
    command = [sys.executable, "-c", SCRIPT, str(file), *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(*processes):
    for process in processes:
        error = process.communicate(timeout=600)[1]
        assert process.returncode == 0, error


def assert_same(file, expected, devices):
    """Equal to rounding in 64 bits, grown by the simulation and by four steps of Adam."""
    numbers = dict(np.load(file))
    assert numbers.pop("devices") == devices
    assert set(numbers) == set(expected) - {"devices"}
    for name, value in numbers.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-8, atol=1e-10, err_msg=name)


@pytest.mark.slow
def test_eight_devices_and_two_processes_give_the_numbers_of_one(tmp_path):
    finish(compute(tmp_path / "one.npz", 1))
    on_one = dict(np.load(tmp_path / "one.npz"))
    assert np.isfinite(on_one["search"]).all()
    finish(compute(tmp_path / "eight.npz", 8))
    assert_same(tmp_path / "eight.npz", on_one, 8)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    files = [tmp_path / f"{number}.npz" for number in range(2)]
    finish(*(compute(file, 2, address, "2", str(number)) for number, file in enumerate(files)))
    for file in files:
        assert_same(file, on_one, 4)
