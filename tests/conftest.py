"""Shared fixtures. Everything is tested in 64 bits unless a test says otherwise."""

import gc
import importlib
import importlib.util
import os
import shutil
from pathlib import Path

# Most of the tests' time is compiling. XLA's older emitters do it in two thirds of the time; simulations that they
# make are a seventh slower, so that fits do without. (Versions of XLA that do not know an extra option ignore it.)
# Fewer of LLVM's passes take another seventh off. Where a GPU may be used, the library's own flags stay.
if importlib.util.find_spec("jax_plugins") is None:
    flags = (
        "--xla_cpu_multi_thread_eigen=false",
        "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters",
        "--xla_backend_optimization_level=1",
    )
    os.environ.setdefault("XLA_FLAGS", " ".join(flags))

# As the library has it, before JAX computes.
os.environ.setdefault("NPROC", "1")

# NumPy's threads wait actively: those of two workers, and of the scripts that they start, would hold each other up.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax

# One device: many tests compile small programs, which takes twice as long for two. Scripts use all cores.
jax.config.update("jax_num_cpu_devices", 1)

# As the scripts have it: Python does not search for garbage in what packages make while they are imported.
gc.disable()

# What the library imports comes before the hook: under it, Python compiles all that is imported from its source.
for name in ("brainmass", "braintools", "matplotlib.figure", "optax", "rich.progress", "scipy.stats", "xarray"):
    importlib.import_module(name)

from jaxtyping import install_import_hook  # noqa: E402

# Shapes and types of public functions are checked at run time by jaxtyping and beartype.
_hook = install_import_hook("fitting", "beartype.beartype")
_hook.__enter__()

import numpy as np  # noqa: E402
import pytest  # noqa: E402

import fitting  # noqa: E402, F401

gc.freeze()
gc.enable()
gc.set_threshold(20_000, 10, 50)  # tracing makes many objects and little garbage
jax.config.update("jax_enable_x64", True)


def pytest_configure(config):
    """Programs are compiled once for all tests, processes and scripts; ``pytest --cache-clear`` forgets them."""
    if not config.pluginmanager.hasplugin("cacheprovider"):
        return
    folder = str(config.cache.mkdir("compiled"))
    for name, value in (("jax_compilation_cache_dir", folder), ("jax_persistent_cache_min_compile_time_secs", 0.0)):
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)


ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("FITTING_SHARED", ROOT.parent / "shared"))


def pytest_terminal_summary(terminalreporter):
    """How every fit ended that a test tells of with ``record_property("fit", sentence)``."""
    reports = [report for some in terminalreporter.stats.values() for report in some]
    told = (getattr(report, "user_properties", ()) for report in reports if getattr(report, "when", "") == "call")
    lines = [value for properties in told for name, value in properties if name == "fit"]
    if lines:
        terminalreporter.section("fits of strangers' data")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def rng():
    return np.random.default_rng(20240811)


@pytest.fixture
def float32():
    """Run a test in 32 bits."""
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", True)


@pytest.fixture(scope="session")
def meg_fc_path():
    path = SHARED / "data" / "meg_fc_alpha_aal2_94.csv"
    if not path.is_file():
        pytest.skip("the MEG matrix for development is not on this machine")
    return path


@pytest.fixture(scope="session")
def directed():
    """A small directed connectome with zero, short and long connections: (weights, lengths)."""
    rng = np.random.default_rng(5)
    weights = rng.uniform(0.2, 1.0, (6, 6)) * (rng.random((6, 6)) < 0.7)
    lengths = rng.uniform(9.0, 120.0, (6, 6))
    np.fill_diagonal(weights, 0.0)
    assert not np.allclose(weights, weights.T)
    return weights, lengths


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browser():
    """The browser that ``FITTING_BROWSER`` names, or one that is installed, or else playwright's own Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    path = os.environ.get("FITTING_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_api.sync_playwright() as playwright:
        try:
            running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        except sync_api.Error as error:
            pytest.skip(f"no browser: {str(error).splitlines()[0]}; python -m playwright install chromium")
        yield running
        running.close()


@pytest.fixture
def unchecked():
    """Call functions as a user does, without the run-time checks of types and shapes."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
