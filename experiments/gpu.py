"""Check and measure a GPU in one call: ``python experiments/gpu.py [fc=FILE]``.

Runs the benchmark on the GPU, the tests that compare it with the CPU, then the benchmark on the CPU, and prints one
table last; each number is shown when it is measured. Most of some 25 minutes is compiling. With a connectivity matrix
it also fits ``experiment=meg_alpha_global`` on both, and says whether each parameter lies in the other's interval, and
times ``experiment=meg_alpha_regional`` on the GPU. Needs JAX with CUDA (``pip install 'fitting[cuda,test]'``); without
a GPU it says so and ends with exit code 2.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmark import MANY
from rich.console import Console
from rich.table import Column, Table

HERE = Path(__file__).resolve().parent

#: Cases that are measured on both, and those that take too long on a CPU of a few cores.
BOTH = ("network_forward", "network_gradient", "envelope_fc_gradient_32_bits", "response_gradient", "candidates_256")
GPU_ONLY = ("candidates_256_gradient", "candidates_64_120s", "candidates_64_120s_gradient")


def sees_a_gpu() -> bool:
    """Whether JAX does, asked in a process of its own: one that uses a GPU takes most of its memory."""
    code = "import jax; jax.devices('gpu')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def lines_of(script: str, *arguments: str) -> dict[str, dict]:
    """What a script prints, by case; shown as it comes, so that a run that is cut short has said what it knew."""
    command, rows = [sys.executable, str(HERE / script), *arguments], {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", file=sys.stderr, flush=True)
            row = json.loads(line)
            rows[row["case"]] = row
    return rows


def bench(device: str, names) -> dict[str, dict]:
    """Results of ``benchmark.py`` by case."""
    return lines_of("benchmark.py", *(f"case={name}" for name in names), f"device={device}")


def rates(row: dict, compiled: dict | None) -> tuple[float | None, float | None]:
    """Microseconds for each kernel, and GB written in a second: what shows whether launches or memory take the time."""
    if compiled:
        rounds = math.ceil(MANY[row["case"]]["candidates"] / row["batch"])
        return 1e6 * row["median_s"] / (compiled["kernels"] * rounds), compiled["written_gb"] / row["median_s"]
    if "operations" in row:
        return 1e6 * row["median_s"] / row["operations"], row["written_mb"] / 1e3 / row["median_s"]
    return None, None


def fit(device: str, experiment: str, file: str) -> dict:
    """Summary of an experiment."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"experiment={experiment}", "data=fc_matrix", f"data.path={file}", f"device={device}"]
        command = [sys.executable, str(HERE / "fit.py"), *settings, f"hydra.run.dir={folder}"]
        subprocess.run(command, check=True)
        return json.loads((Path(folder) / "summary.json").read_text(encoding="utf-8"))


def agreement(ours: dict, theirs: dict) -> str:
    """Whether each of two estimates lies in the other's interval."""
    if not (ours["interval"] and theirs["interval"]):
        return "no interval"
    pairs = ((ours, theirs), (theirs, ours))
    return "agree" if all(b["interval"][0] <= a["fitted"] <= b["interval"][1] for a, b in pairs) else "DISAGREE"


def table_of(on_gpu: dict, on_cpu: dict, counted: dict, fits: dict) -> Table:
    """Everything that was measured."""
    kind = next(iter(on_gpu.values()), {}).get("device", "GPU")
    columns = (f"{kind}, s", "CPU, s", "ratio", "GPU, MB", "µs/kernel", "GB/s written")
    table = Table(Column("case", overflow="fold"), *columns)

    def add(name, *cells):
        table.add_row(name, *("-" if x is None else x if isinstance(x, str) else f"{x:.3g}" for x in cells))

    for name, row in on_gpu.items():
        cpu = on_cpu.get(name, {}).get("median_s")
        ratio = cpu / row["median_s"] if cpu else None
        add(name, row["median_s"], cpu, ratio, row.get("peak_device_mb"), *rates(row, counted.get(name)))
    for experiment, (ours, theirs) in fits.items():
        seconds = (ours["wall_seconds"], theirs and theirs["wall_seconds"])
        add(experiment, *seconds, seconds[1] and seconds[1] / seconds[0], None, None, None)
        for name, mine in ours["parameters"].items() if theirs else ():
            other = theirs["parameters"][name]
            add(
                f"  {name}", f"{mine['fitted']:.4g}", f"{other['fitted']:.4g}", agreement(mine, other), None, None, None
            )
    return table


def main(arguments: list[str]) -> int:
    """Run everything; the exit code is that of the tests."""
    if not sees_a_gpu():
        print("error: JAX sees no GPU; install fitting[cuda] on a machine that has one", file=sys.stderr)
        return 2
    on_gpu = bench("gpu", BOTH + GPU_ONLY)
    tests = HERE.parent / "tests" / "test_gpu.py"
    checked = subprocess.call([sys.executable, "-m", "pytest", "-v", str(tests)], cwd=HERE.parent)
    on_cpu = bench("cpu", BOTH)
    counted = lines_of("kernels.py", *(f"case={name}" for name in MANY))
    fits = {}
    for file in (argument.removeprefix("fc=") for argument in arguments if argument.startswith("fc=")):
        fits["meg_alpha_global"] = tuple(fit(device, "meg_alpha_global", file) for device in ("gpu", "cpu"))
        fits["meg_alpha_regional"] = (fit("gpu", "meg_alpha_regional", file), None)
    Console().print(table_of(on_gpu, on_cpu, counted, fits))
    print(f"tests: {'passed' if checked == 0 else f'failed, exit code {checked}'}")
    return checked


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
