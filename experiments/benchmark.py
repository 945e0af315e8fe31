"""Measure time and memory, one JSON line per case: ``python experiments/benchmark.py [case=NAME ...] [device=gpu]``.

With ``hydra.run.dir=FOLDER`` the lines are also written to FOLDER/benchmark.jsonl.

Each case runs in a process of its own, so that its peak memory means something. ``first_s`` includes
compiling, ``median_s`` is the median of three later runs. The network cases are 80 regions of the
embedded connectome, 6 s in steps of 0.1 ms, with noise, in 32 bits. ``operations`` are what the compiled program
starts one after the other, each a kernel on a GPU, and ``written_mb`` what they write. The cases of many candidates
take minutes on a CPU and run only if they are named. ``pairs=true`` compares two processes at once with one alone on
half of the cores.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

STEPS_MS = 6000.0


def the_network(high: float = 8.0, regions: int = 80, node: str = "wilson_cowan_notebook"):
    """Every case's network: the embedded connectome, speed bounds 1 to ``high`` m/s."""
    import numpy as np

    from fitting.data import connectome, hcp_aal2
    from fitting.network import Network

    c = hcp_aal2()
    copies = -(-regions // 80)  # larger networks: the same connectome within and between copies of itself
    weights, lengths = (np.tile(x.values, (copies, copies))[:regions, :regions] for x in (c.weights, c.lengths))
    lengths = np.maximum(lengths, 1e-3)  # a region and its copy
    labels = [f"R{i}" for i in range(regions)]
    tiled = connectome(weights / copies, lengths, labels)
    return Network(tiled, node=node).for_speeds(1.0, high)


def _loss(network, duration, values, dt=0.1):
    import jax
    import jax.numpy as jnp

    from fitting.network import simulate

    rates = simulate(network, values, duration=duration, dt=dt, key=jax.random.key(0)).rates
    return jnp.mean(rates[len(rates) // 3 :] ** 2)


def _values():
    return {"k": 1.0, "signal_speed": 2.0, "sigma": 0.01}


def network_forward(high=8.0, duration=STEPS_MS, regions=80):
    """Simulate; speed bounds 1 to ``high`` m/s around 2 m/s."""
    import jax

    return jax.jit(partial(_loss, the_network(high, regions), duration)), (_values(),)


def network_gradient(high=8.0, duration=STEPS_MS, regions=80):
    """Value and gradient for k, speed and sigma."""
    import jax

    return jax.jit(jax.value_and_grad(partial(_loss, the_network(high, regions), duration))), (_values(),)


def network_of_a_fit(gradient: bool):
    """As the scripts fit by default: 15 s in steps of 0.25 ms, bounds 3 to 20 m/s; simulate, or value and gradient."""
    import jax

    network = the_network(node="wilson_cowan_alpha").for_speeds(3.0, 20.0)
    loss = partial(_loss, network, 15_000.0, dt=0.25)
    return jax.jit(jax.value_and_grad(loss) if gradient else loss), (_values() | {"signal_speed": 6.0},)


def network_gradient_regional():
    """Value and gradient for 240 parameters: drive, gain and excitatory weight of each region."""
    import jax
    import jax.numpy as jnp

    network = the_network()
    own = {"drive": 0.0, "a_E": 1.2, "wEE": 12.0}
    values = _values() | {name: jnp.full(network.regions, value) for name, value in own.items()}
    return jax.jit(jax.value_and_grad(partial(_loss, network, STEPS_MS))), (values,)


def of_candidates(gradient, candidates, duration=STEPS_MS, dt=0.1):
    """Value, or value and gradient, of one candidate; the values of all; and the bytes that each needs."""
    import jax
    import jax.numpy as jnp

    from fitting.predict.cost import memory

    network = the_network()
    loss = partial(_loss, network, duration, dt=dt)
    values = {name: jnp.linspace(0.8, 1.2, candidates) * value for name, value in _values().items()}
    return (jax.value_and_grad(loss) if gradient else loss), values, memory(network, round(duration / dt), gradient)


def network_batch(candidates=16):
    """Forward for many candidates at once; compare with as many single runs."""
    import jax

    loss, values, _ = of_candidates(False, candidates)
    return jax.jit(jax.vmap(loss)), (values,)


def many_candidates(**settings):
    """Many candidates shared out among devices, in batches as memory allows; and the size of those."""
    from fitting.devices import over_devices, side_by_side

    loss, values, each = of_candidates(**settings)
    batch = side_by_side(each)
    return over_devices(loss, batch), (values,), batch


def _signals(samples, regions):
    import jax.numpy as jnp
    import numpy as np

    return jnp.asarray(np.random.default_rng(0).standard_normal((samples, regions)), jnp.result_type(float))


def envelope_fc(gradient=False, x64=True, samples=6000, regions=94, **settings):
    """Orthogonalised envelope connectivity, 8-12 Hz at 100 Hz, low-pass 1 Hz unless given."""
    import jax

    jax.config.update("jax_enable_x64", x64)
    from fitting.signal import envelope_fc as fc

    value = partial(fc, fs=100.0, band=(8.0, 12.0), **{"low_pass": 1.0} | settings)
    signals = _signals(samples, regions)
    if not gradient:
        return jax.jit(value), (signals,)
    return jax.jit(jax.value_and_grad(lambda x: (value(x) ** 2).sum())), (signals,)


def response_gradient(regions=80):
    """Value and gradient by linear response, 17 frequencies, 64 bits: k, speed and four parameters of each region."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    from fitting.objective import Objective, Target
    from fitting.optimize import Parameter, Problem
    from fitting.predict import LinearResponse
    from fitting.signal import Observation

    network = the_network(20.0, regions, "wilson_cowan_alpha")
    own = {"drive": (0.6, 0.0, 1.2), "tau_E": (9.5, 5.0, 18.0), "wEE": (16.0, 10.0, 22.0), "wEI": (15.0, 8.0, 24.0)}
    parameters = [Parameter(name, *values, per_region=True) for name, values in own.items()]
    parameters += [Parameter("k", 3.0, 0.3, 30.0), Parameter("signal_speed", 8.0, 1.5, 19.0)]
    target = Target(jnp.asarray(-network.lengths), network.labels)
    observation = Observation(low_pass=0.2, orthogonalize_simulation=False)
    problem = Problem(LinearResponse(network, observation), parameters, target, Objective())
    key = jax.random.key(0)
    return jax.jit(jax.value_and_grad(lambda point: problem.value(point, key)[0])), (problem.parameters.start(),)


CASES = {
    "network_forward": network_forward,
    "network_forward_fast": partial(network_forward, high=20.0),
    "network_gradient": network_gradient,
    "network_gradient_fast": partial(network_gradient, high=20.0),
    "network_gradient_regional": network_gradient_regional,
    "network_forward_of_a_fit": partial(network_of_a_fit, gradient=False),
    "network_gradient_of_a_fit": partial(network_of_a_fit, gradient=True),
    "network_gradient_60s": partial(network_gradient, duration=60_000.0),
    "network_batch": network_batch,
    "network_batch_4": partial(network_batch, candidates=4),
    **{f"network_forward_{n}_regions": partial(network_forward, regions=n) for n in (20, 40, 160, 400)},
    **{f"network_gradient_{n}_regions": partial(network_gradient, regions=n) for n in (20, 40, 160, 400)},
    "network_forward_60s": partial(network_forward, duration=60_000.0),
    "response_gradient": response_gradient,
    **{f"response_gradient_{n}_regions": partial(response_gradient, regions=n) for n in (40, 160, 400)},
    "envelope_fc": envelope_fc,
    "envelope_fc_gradient": partial(envelope_fc, gradient=True),
    "envelope_fc_32_bits": partial(envelope_fc, x64=False),
    "envelope_fc_gradient_32_bits": partial(envelope_fc, gradient=True, x64=False),
    "envelope_fc_no_low_pass": partial(envelope_fc, low_pass=None),
    "envelope_fc_fir": partial(envelope_fc, low_pass=0.2, filter="fir"),
    "envelope_fc_47_regions": partial(envelope_fc, regions=47),
    "envelope_fc_188_regions": partial(envelope_fc, regions=188),
    "envelope_fc_376_regions": partial(envelope_fc, regions=376),
    "envelope_fc_3000_samples": partial(envelope_fc, samples=3000),
    "envelope_fc_24000_samples": partial(envelope_fc, samples=24_000),
}


LONG = {"candidates": 64, "duration": 120_000.0, "dt": 0.25}

#: Settings of :func:`many_candidates`. On a CPU these take minutes.
MANY = {
    "candidates_256": {"gradient": False, "candidates": 256},
    "candidates_256_gradient": {"gradient": True, "candidates": 256},
    "candidates_64_120s": {"gradient": False} | LONG,
    "candidates_64_120s_gradient": {"gradient": True} | LONG,
}


def measure(name: str) -> dict:
    """Time one case in this process."""
    import jax
    from scripting.work import work_of

    # Importing it switches 64 bits off: before a case chooses.
    import fitting  # noqa: F401

    many = many_candidates(**MANY[name]) if name in MANY else None
    function, arguments = many[:2] if many else CASES[name]()
    seconds = []
    for number in range(4):
        start = time.perf_counter()
        if number == 0 and not many:
            function = function.lower(*arguments).compile()  # the program itself, whose operations are counted below
        jax.block_until_ready(function(*arguments))
        seconds.append(time.perf_counter() - start)
    device = jax.devices()[0]
    row = {
        "case": name,
        "first_s": round(seconds[0], 3),
        "median_s": round(sorted(seconds[1:])[1], 4),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "device": device.device_kind,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": os.environ.get("NPROC", "all"),
        "jax": jax.__version__,
    }
    if many:
        count = MANY[name]["candidates"]
        row |= {"candidates_per_s": round(count / row["median_s"], 2), "batch": min(many[2], count)}
    else:
        operations, written = work_of(function.as_text())
        row |= {"operations": operations, "written_mb": round(written / 1e6)}
    if device.platform != "cpu":
        row["peak_device_mb"] = round((device.memory_stats() or {}).get("peak_bytes_in_use", 0) / 1e6)
    return row


#: For how long the processes of a pair compute side by side.
PAIR_SECONDS = 15.0


def paced(name: str) -> float:
    """Median seconds of a call of one case, over some time that begins when the parent process says so."""
    import jax

    import fitting  # noqa: F401

    function, arguments = CASES[name]()
    jax.block_until_ready(function(*arguments))
    print("ready", flush=True)
    sys.stdin.readline()
    seconds, end = [], time.perf_counter() + PAIR_SECONDS
    while time.perf_counter() < end or not seconds:
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[len(seconds) // 2]


def pair(name: str, environment: dict[str, str]) -> dict:
    """One process alone on half of the cores, and two at once on all."""

    def medians(count, cores):
        children = [
            subprocess.Popen(
                [sys.executable, __file__, "--paced", name],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                preexec_fn=partial(os.sched_setaffinity, 0, cores),
            )
            for _ in range(count)
        ]
        for child in children:
            child.stdout.readline()
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        return [float(child.communicate()[0]) for child in children]

    every = sorted(os.sched_getaffinity(0))
    (alone,) = medians(1, every[: max(1, len(every) // 2)])
    both = medians(2, every)
    rows = {"alone_on_half_s": round(alone, 4), "two_at_once_s": [round(each, 4) for each in both]}
    return {"case": name} | rows | {"ratio": round(max(both) / alone, 2), "cores": len(every)}


def main(arguments: list[str]) -> int:
    """Run the cases that the command line names, or all but those of many candidates."""
    if arguments and arguments[0] == "--in-process":
        print(json.dumps(measure(arguments[1])), flush=True)
        return 0
    if arguments and arguments[0] == "--paced":
        print(paced(arguments[1]), flush=True)
        return 0
    settings = [argument.partition("=")[::2] for argument in arguments]
    names = [value for setting, value in settings if setting == "case"]
    chosen = {setting: value for setting, value in settings if setting != "case"}
    known, devices = [*CASES, *MANY], ("cpu", "gpu")
    refused = [f"unknown case {name}; choose from {', '.join(known)}" for name in names if name not in known]
    if chosen.get("device", "cpu") not in devices:
        refused.append(f"unknown device {chosen['device']}; choose from {', '.join(devices)}")
    if chosen.get("pairs", "false") not in ("true", "false"):
        refused.append(f"pairs must be true or false; got {chosen['pairs']}")
    refused += [
        f"there is no setting {setting!r} here, but case, device, pairs and hydra.run.dir"
        for setting in chosen
        if setting not in ("device", "hydra.run.dir", "pairs")
    ]
    if refused:
        print(f"error: {refused[0]}", file=sys.stderr)
        return 2
    environment = dict(os.environ)
    if "device" in chosen:
        environment["JAX_PLATFORMS"] = {"cpu": "cpu", "gpu": "cuda"}[chosen["device"]]
    # A simulation is faster on one thread (see fitting/environment.py); connectivity and linear response on all.
    alone = environment | {"NPROC": environment.get("NPROC", "1")}
    codes, lines = [], ""
    for name in names or CASES:
        own = alone if name.startswith(("network", "candidates")) else environment
        if chosen.get("pairs") == "true":
            line, code = json.dumps(pair(name, own)) + "\n", 0
        else:
            done = subprocess.run(
                [sys.executable, __file__, "--in-process", name], env=own, stdout=subprocess.PIPE, text=True
            )
            line, code = done.stdout, done.returncode
        print(line, end="", flush=True)
        codes.append(code)
        lines += line
        if "hydra.run.dir" in chosen:
            folder = Path(chosen["hydra.run.dir"])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "benchmark.jsonl").write_text(lines, encoding="utf-8")
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
