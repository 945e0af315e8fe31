"""Check and measure a GPU in one call: ``python experiments/gpu.py [fc=FILE]``.

Runs the tests that compare it with the CPU, then the benchmark on both, and prints one table last. With a
connectivity matrix it also fits ``experiment=meg_alpha_global`` on both and compares the parameters. Needs JAX with
CUDA (``pip install 'fitting[cuda,test]'``); without a GPU it says so and ends with exit code 2.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

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


def bench(device: str, names) -> dict[str, dict]:
    """Results of ``benchmark.py`` by case."""
    command = [sys.executable, str(HERE / "benchmark.py"), *(f"case={name}" for name in names), f"device={device}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return {line["case"]: line for line in map(json.loads, done.stdout.splitlines())}


def fit(device: str, file: str) -> dict:
    """Summary of ``experiment=meg_alpha_global``."""
    with tempfile.TemporaryDirectory() as folder:
        settings = ["experiment=meg_alpha_global", "data=fc_matrix", f"data.path={file}", f"device={device}"]
        command = [sys.executable, str(HERE / "fit.py"), *settings, f"hydra.run.dir={folder}"]
        subprocess.run(command, check=True)
        return json.loads((Path(folder) / "summary.json").read_text(encoding="utf-8"))


def main(arguments: list[str]) -> int:
    """Run everything; the exit code is that of the tests."""
    if not sees_a_gpu():
        print("error: JAX sees no GPU; install fitting[cuda] on a machine that has one", file=sys.stderr)
        return 2
    tests = HERE.parent / "tests" / "test_gpu.py"
    checked = subprocess.call([sys.executable, "-m", "pytest", "-q", str(tests)], cwd=HERE.parent)
    on_gpu, on_cpu = bench("gpu", BOTH + GPU_ONLY), bench("cpu", BOTH)
    fits = [fit(device, a.removeprefix("fc=")) for a in arguments for device in ("gpu", "cpu") if a.startswith("fc=")]
    kind = next(iter(on_gpu.values()), {}).get("device", "GPU")
    table = Table(Column("case", overflow="fold"), f"{kind}, s", "CPU, s", "ratio", "GPU, MB", "µs/operation")
    for name, found in on_gpu.items():
        cpu = on_cpu.get(name, {}).get("median_s")
        each = 1e6 * found["median_s"] / found["operations"] if "operations" in found else None
        ratio = cpu / found["median_s"] if cpu else None
        cells = (found["median_s"], cpu, ratio, found.get("peak_device_mb"), each)
        table.add_row(name, *("-" if cell is None else f"{cell:.3g}" for cell in cells))
    for name in fits[0]["parameters"] if fits else ():
        ours, theirs = (f["parameters"][name] for f in fits)
        table.add_row(f"fitted {name}", f"{ours['fitted']:.4g}", f"{theirs['fitted']:.4g}", "-", "-", "-")
    Console().print(table)
    print(f"tests: {'passed' if checked == 0 else f'failed, exit code {checked}'}")
    return checked


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
