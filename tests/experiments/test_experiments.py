"""The scripts and their configs, run as a user runs them."""

import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console
from scripting.command import refuse_dashes

from fitting import InputError
from fitting.data import aal2
from fitting.data import hcp_aal2 as embedded

# The scripts are tested as a user runs them, without the run-time checks of types.
pytestmark = pytest.mark.usefixtures("unchecked")

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"


def command(script, *arguments):
    return [sys.executable, str(ROOT / "experiments" / script), *arguments]


def run(script, *arguments, cwd=ROOT, **environment):
    return subprocess.run(
        command(script, *arguments), capture_output=True, text=True, cwd=cwd, env=os.environ | environment
    )


@pytest.fixture(scope="module")
def debug_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("debug")
    done = run("fit.py", "experiment=debug", f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder, done


def test_bars_tell_the_score_and_the_time_left():
    from scripting.outcome import bars

    from fitting.progress import Progress

    screen = io.StringIO()
    with bars(Console(file=screen, force_terminal=True, width=120)) as show:
        for step in range(4):
            show(Progress("descent", step, 3, f"loss {0.5 - step / 10:.1f}"))
            time.sleep(0.3)
    frames = [frame for frame in screen.getvalue().split("\r") if "descent" in frame]
    assert any("loss 0.3" in frame and "1 s left" in frame for frame in frames)
    assert "loss 0.2" in frames[-1]
    assert "left" not in frames[-1]


def test_nothing_is_left_of_a_stage_that_ended_early():
    from scripting.outcome import bars

    from fitting.progress import Progress

    screen = io.StringIO()
    with bars(Console(file=screen, force_terminal=True, width=120)) as show:
        for step in range(3):
            show(Progress("descent", step, 100, "loss 0.5"))
            time.sleep(0.3)
        show(Progress("fresh noise", 1, 2))
    assert "left" in screen.getvalue()
    last = screen.getvalue()[screen.getvalue().rindex("descent") :]
    assert "loss 0.5" in last
    assert "left" not in last


def test_files_are_told_now_and_then_how_far_a_fit_is(monkeypatch):
    from scripting import outcome

    from fitting.progress import Progress

    file = io.StringIO()
    monkeypatch.setattr(outcome, "LINE_SECONDS", 0.5)
    with outcome.bars(Console(file=file, width=120)) as show:
        for step in range(3):
            show(Progress("descent", step, 3, f"loss {0.5 - step / 10:.1f}"))
            time.sleep(0.6 * step)
        show(Progress("descent", 3, 3))
    lines = [line for line in file.getvalue().splitlines() if line.startswith("descent: ")]
    assert [line[:17] for line in lines] == ["descent: 0 of 3 l", "descent: 2 of 3 l", "descent: 3 of 3"]


@pytest.mark.parametrize("status", ["interrupted", "converged"])
def test_a_refit_that_is_cut_short_is_not_taken_for_one(status):
    from scripting.build import Setup

    from fitting.network import Network
    from fitting.objective import Target
    from fitting.optimize import Parameter, Problem
    from fitting.predict import LinearResponse
    from fitting.signal import Observation

    class Stops:
        name = "descent"

        def run(self, fit, key, progress, store):
            return dataclasses.replace(fit, status=status)

    network = Network(embedded(regions=3))
    target = Target(np.eye(3), network.labels)
    problem = Problem(LinearResponse(network, Observation()), [Parameter("k", 1.0, 0.1, 5.0)], target)
    prepared = Setup(problem, [Stops()], *[None] * (len(Setup._fields) - 2))
    if status == "converged":
        assert set(prepared.refit(problem, 0)) == {"k"}
    else:
        with pytest.raises(KeyboardInterrupt):
            prepared.refit(problem, 0)


def test_debug_run_writes_everything(debug_run):
    folder, done = debug_run
    summary = json.loads((folder / "summary.json").read_text())
    assert "does not use" not in done.stdout
    assert summary["status"] in ("converged", "max_steps")
    assert set(summary["parameters"]) == {"k", "signal_speed", "sigma"}
    assert set(summary["parameters"]["k"]) >= {"initial", "fitted", "unit", "true", "interval", "identifiable"}
    assert summary["parameters"]["k"]["true"] == 3.0
    scores = summary["fc_correlation"]
    assert {"initial", "training", "held_out", "fresh_seeds", "views"} <= set(scores)
    assert set(scores["mean_fc"]) == {"r", "interval"}
    assert set(scores["corrected"]) == {"r", "share", "interval"}
    assert set(scores["reliability"]) == {"model", "data"}
    assert {"slope", "model", "target"} <= set(scores["level"])
    assert set(summary["nulls"]) == {"as_fitted", "zero_delays", "one_delay"}
    assert {kind: test["n"] for kind, test in summary["surrogates"].items()} == {
        "rewired": 3,
        "distance_preserving": 3,
    }
    assert 0 < scores["reliability"]["data"] < 1
    assert all(test["p"] is None for test in summary["surrogates"].values())  # nothing was fitted again
    assert summary["fc_correlation"]["fresh_seeds"]["n"] == 2
    assert set(summary["baselines"]) >= {"structural_weights", "log_structural_weights", "minus_length"}
    assert {"wall_seconds", "versions", "seed"} <= set(summary)
    assert 0 < summary["compile_seconds"] < summary["wall_seconds"]
    with xr.open_dataset(folder / "result.nc", engine="h5netcdf") as data:
        assert data.target_fc.shape == (12, 12)
        assert data.fitted_fc["region"].values[0] == "PreCG.L"
        assert data.traces.dims == ("time", "region")
        assert data.sizes["step"] == summary["steps"]
        assert {"history_loss", "history_parameter_k"} <= set(data.data_vars)
    for name in ("fc_matrices", "fc_scatter", "convergence", "true_and_fitted", "scores"):
        assert (folder / "figures" / f"{name}.png").stat().st_size > 5000
    assert "data:image/png" in (folder / "report.html").read_text()
    assert "FC correlation with the target" in done.stdout
    assert (folder / ".hydra" / "config.yaml").is_file()
    recorded = json.loads((folder / "run.json").read_text())
    assert recorded["command"].startswith("python ")
    assert recorded["config"]["seed"] == 0
    assert {"versions", "git", "began"} <= set(recorded)


@pytest.mark.slow
def test_readmes_first_command_finds_the_truth():
    """All three within 10 % and in their intervals, by users' programs: ``FITTING_DEMO`` names the run."""
    if "FITTING_DEMO" not in os.environ:
        pytest.skip("FITTING_DEMO names no run of README's first command")
    parameters = json.loads((Path(os.environ["FITTING_DEMO"]) / "summary.json").read_text())["parameters"]
    assert set(parameters) == {"k", "signal_speed", "sigma"}
    for name, told in parameters.items():
        low, high = told["interval"]
        assert told["fitted"] == pytest.approx(told["true"], rel=0.1), name
        assert low <= told["true"] <= high, name


#: Leaves out what takes long and is tested elsewhere.
SHORT = (
    *("evaluation.surrogates=0", "evaluation.null_seeds=0", "evaluation.identifiability_seeds=0"),
    "figures.drawn=false",
)


@pytest.mark.slow
def test_a_stored_run_is_repeated_and_evaluated_again(debug_run, tmp_path):
    """The same numbers, bit for bit; what the command line adds is changed, and the first run is left as it was."""
    folder, _ = debug_run
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    done = run("fit.py", f"run={folder}", f"hydra.run.dir={tmp_path}/again", *SHORT)
    assert done.returncode == 0, done.stderr
    done = run(
        "evaluate.py", f"run={folder}", f"hydra.run.dir={tmp_path}/evaluated", "evaluation.fresh_seeds=3", *SHORT
    )
    assert done.returncode == 0, done.stderr
    first, again, evaluated = (
        json.loads((f / "summary.json").read_text()) for f in (folder, tmp_path / "again", tmp_path / "evaluated")
    )
    assert again["parameters"]["k"]["fitted"] == first["parameters"]["k"]["fitted"]
    assert again["fc_correlation"]["fresh_seeds"] == first["fc_correlation"]["fresh_seeds"]
    assert again["surrogates"] == {}
    for name, drawn in ((folder, True), (tmp_path / "again", False)):
        assert (name / "figures").exists() == ("<h2>Figures" in (name / "report.html").read_text()) == drawn
    assert evaluated["parameters"]["k"]["fitted"] == first["parameters"]["k"]["fitted"]
    assert evaluated["fc_correlation"]["fresh_seeds"]["n"] == 3
    assert evaluated["search"] == first["search"]
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    done = run("compare.py", f"runs=[{folder},{tmp_path}/evaluated]", f"hydra.run.dir={tmp_path}/compared")
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "compared" / "comparison.csv").read_text().splitlines()
    assert "evaluation.fresh_seeds" in rows[0]
    assert len(rows) == 3
    assert (tmp_path / "compared" / "figures" / "comparison.png").stat().st_size > 5000


@pytest.mark.slow
def test_runs_that_are_not_there_get_a_sentence(tmp_path):
    for script, argument, words in (
        ("fit.py", f"run={tmp_path}", "there is no run.json"),
        ("compare.py", f"runs=[{tmp_path}]", "holds no run"),
        ("evaluate.py", "seed=0", "name the run to evaluate"),
        ("fit.py", f"run={tmp_path}/stored solver=simulate", "solver=simulate would change several sections"),
    ):
        if "stored" in argument:
            (tmp_path / "stored").mkdir()
            (tmp_path / "stored" / "run.json").write_text('{"config": {}}')
        done = run(script, *argument.split(), f"hydra.run.dir={tmp_path}/new")
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_only_what_is_finished_and_the_same_was_done_before(debug_run, tmp_path):
    """``resume=auto``: an interrupted fit is gone on with, and other settings are another run."""
    from scripting.runs import finished

    folder, _ = debug_run
    config = OmegaConf.create(json.loads((folder / "run.json").read_text())["config"] | {"resume": "auto"})
    score = json.loads((folder / "summary.json").read_text())["fc_correlation"]["mean_fc"]["r"]
    assert finished(config, folder) == score
    with pytest.raises(InputError, match=r"other settings: parameters\.k\.value was 1.5, is now 2.0"):
        finished(OmegaConf.merge(config, {"parameters": {"k": {"value": 2.0}}}), folder)
    for name in ("run.json", "summary.json"):
        (tmp_path / name).write_text((folder / name).read_text())
    summary = json.loads((tmp_path / "summary.json").read_text()) | {"status": "interrupted"}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert finished(config, tmp_path) is None


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("+parameters={tau_E: {value: 10.0, lower: 5, upper: 20}}", {"tau_E"}),
        ("~parameters.sigma", {"sigma"}),
        ("parameters.k.value=2.5", {"k"}),
        ("evaluation={leaks: 3}", set()),
        ("parameters=k_speed_drive", {"k", "signal_speed", "sigma", "drive"}),
    ],
)
def test_a_stored_run_is_changed_only_where_a_command_says(override, changed, tmp_path, monkeypatch):
    """Settings that the stored run has of its own stay; another choice takes the place of the stored one."""
    from scripting import runs

    overrides = [
        "parameters.k.value=3.5",
        "parameters.signal_speed.value=7",
        "evaluation.fresh_seeds=33",
        "resume=true",
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        before = OmegaConf.to_container(compose("config", overrides=overrides))
        config = compose("config", overrides=[f"run={tmp_path}", override])
    (tmp_path / "run.json").write_text(json.dumps({"config": before}))
    sources = [SimpleNamespace(path=str(CONF), schema="file"), SimpleNamespace(path="", schema="structured")]
    runtime = SimpleNamespace(config_sources=sources)
    given = SimpleNamespace(overrides=SimpleNamespace(task=[f"run={tmp_path}", override]), runtime=runtime)
    monkeypatch.setattr(runs, "HydraConfig", SimpleNamespace(get=lambda: given))
    again = OmegaConf.to_container(runs.stored(config))
    assert (again["run"], again["resume"]) == (None, False)
    assert again["evaluation"]["fresh_seeds"] == 33
    assert again["evaluation"]["leaks"] == (3 if "leaks" in override else before["evaluation"]["leaks"])
    old, new = before["parameters"], again["parameters"]
    assert {name for name in {*old, *new} if old.get(name) != new.get(name)} == changed
    assert ("sigma" in new) == (override != "~parameters.sigma")


def test_a_summary_that_was_cut_off_is_none(tmp_path):
    from scripting.runs import finished

    (tmp_path / "summary.json").write_text('{"status": "max_st')
    assert finished(OmegaConf.create({"resume": "auto"}), tmp_path) is None


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("earlier", [False, True])
def test_what_is_refused_before_it_kept_anything_leaves_its_folder(earlier, kept, tmp_path, monkeypatch):
    """As a fit whose start is unstable; what another command began, or what can be gone on with, stays recorded."""
    from scripting import runs

    monkeypatch.setattr(runs, "record_run", lambda run: (run.folder / "run.json").write_text("{}"))
    run_of_folder = runs.Run(OmegaConf.create({}), tmp_path, Console(quiet=True), 0.0, None)
    if earlier:
        (tmp_path / "run.json").write_text("{}")

    @runs.claimed(run_of_folder)
    def fit():
        assert (tmp_path / "run.json").exists()
        if kept:
            (tmp_path / "checkpoints").mkdir()
        raise InputError("the start is unstable")

    with pytest.raises(InputError, match="the start is unstable"):
        fit()
    assert (tmp_path / "run.json").exists() == (earlier or kept)


@pytest.mark.slow
def test_a_sweep_survives_a_job_that_fails(tmp_path):
    """Two jobs side by side; one cannot work: it scores the penalty, leaves a note, and the table has both."""
    jobs = (
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "simulation.dt=0.5 ms,0.5 s",
        f"hydra.sweep.dir={tmp_path}",
    )
    done = run("simulate.py", "--multirun", "experiment=debug", *jobs)
    assert done.returncode == 0, done.stderr
    assert (
        "simulation: steps of 500 ms hold nothing above 1 Hz"
        in json.loads((tmp_path / "1" / "summary.json").read_text())["note"]
    )
    assert "scored -1" in done.stderr
    assert (tmp_path / "0" / "simulation.nc").is_file()
    assert json.loads((tmp_path / "0" / "summary.json").read_text())["fc_correlation"]["fresh_seeds"]["n"] == 2
    again = run("simulate.py", "--multirun", "experiment=debug", "resume=auto", *jobs)
    assert again.returncode == 0, again.stderr
    assert f"Done before: {tmp_path}/0" in again.stdout
    compared = run("compare.py", f"runs={tmp_path}", f"hydra.run.dir={tmp_path}/compared")
    assert compared.returncode == 0, compared.stderr
    assert "failed" in (tmp_path / "compared" / "comparison.csv").read_text()


@pytest.mark.slow
def test_jobs_of_submitit_on_this_machine(tmp_path):
    """What a SLURM sweep does, with submitit's local executor instead of SLURM."""
    jobs = ("hydra/launcher=submitit_local", "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=10")
    few = ("experiment=debug", "data.regions=6", "evaluation.fresh_seeds=2", "seed=1,2")
    done = run("simulate.py", "--multirun", *few, *jobs, f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    scores = [json.loads((tmp_path / job / "summary.json").read_text())["fc_correlation"] for job in "01"]
    assert scores[0] != scores[1]
    assert {path.name for path in (tmp_path / ".submitit").glob("*/*_result.pkl")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("when", "how", "environment"),
    [("search.npz", ["resume=true"], {}), ("gauss-newton.npz", [], {"SLURM_RESTART_COUNT": "1"})],
    ids=["in the search", "in Gauss-Newton steps, put back by SLURM"],
)
def test_a_killed_run_goes_on_to_the_same_bits(when, how, environment, debug_run, tmp_path):
    """Killed by the system as soon as a file is there, on all cores."""
    folder, _ = debug_run
    killed = command("fit.py", "experiment=debug", f"hydra.run.dir={tmp_path}", *SHORT)
    process = subprocess.Popen(killed, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (tmp_path / "checkpoints" / when).exists():
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "summary.json").exists()
    done = run("fit.py", "experiment=debug", f"hydra.run.dir={tmp_path}", *how, *SHORT, **environment)
    assert done.returncode == 0, done.stderr
    whole, resumed = (xr.open_dataset(f / "result.nc", engine="h5netcdf") for f in (folder, tmp_path))
    for name in ("search_loss", "history_loss", "history_parameter_k", "fresh_fc_correlation"):
        np.testing.assert_array_equal(whole[name], resumed[name])
    ends = [json.loads((f / "summary.json").read_text())["parameters"] for f in (folder, tmp_path)]
    assert ends[0]["k"]["fitted"] == ends[1]["k"]["fitted"] != ends[0]["k"]["initial"]


@pytest.mark.slow
def test_a_matrix_of_yours(meg_fc_path, tmp_path):
    done = run(
        "fit.py",
        "experiment=debug",
        "data=fc_matrix",
        f"data.path={meg_fc_path}",
        "data.regions=null",
        "gauss_newton.rounds=0",
        "refine.rounds=0",
        f"hydra.run.dir={tmp_path}",
        *SHORT,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["baselines"]["structural_weights"] == pytest.approx(0.241, abs=6e-4)
    assert summary["parameters"]["k"]["true"] is None
    assert any("no spectra in model units" in note for note in summary["notes"])
    assert "14 regions of the data are not in the connectome" in done.stdout


def bad(tmp_path):
    """Command lines that cannot work, each with words of the sentence it gets."""
    lines = (tmp_path / "labels.csv", tmp_path / "nan.csv", tmp_path / "oblong.csv")
    lines[0].write_text("region,A.L,B.L\nA.L,0,1\nB.L,1,0\n")
    lines[1].write_text("region,A.L,B.L\nA.L,0,nan\nB.L,nan,0\n")
    lines[2].write_text("region,A.L,B.L\nA.L,0,1\n")
    yield ["data=fc_matrix", f"data.path={lines[0]}"], "Unknown region labels in the data: A.L, B.L"
    yield ["data=fc_matrix", f"data.path={lines[1]}"], "not finite"
    yield ["data=fc_matrix", f"data.path={lines[2]}"], "not square"
    yield ["data=fc_matrix", f"data.path={tmp_path}/absent.csv"], "there is no file"
    yield [f"data.path={lines[0]}"], "would not be read, as data=demo has its own data; add data=fc_matrix"
    matrix = tmp_path / "matrix.csv"
    labels = embedded(regions=12)["target"].values
    rows = [[name, *(f"{abs(i - j) / 20:g}" for j in range(12))] for i, name in enumerate(labels)]
    matrix.write_text("\n".join(",".join(row) for row in [["", *labels], *rows]))
    for seconds in (-3, 0, 1):
        yield (
            ["data=fc_matrix", "data.connectome=hcp_aal2", f"data.path={matrix}", f"data.seconds={seconds}"],
            f"data.seconds={seconds} is to be the length in s of each person's recording, at least 3 s",
        )
    yield ["data.people=3"], "are for a connectivity matrix; recordings tell both themselves"
    yield ["data=fc_matrix"], "Missing mandatory value: data.path"
    yield ["observation.band=[8,60]"], "Nyquist frequency 50 Hz"
    yield ["observation.band=[12,8]"], "is empty"
    yield ["parameters.signal_speed.value=3 s"], "not in units of m/s"
    yield ["parameters.k.value=100"], "must lie inside its bounds"
    yield ["simulation.duration=1 s"], "simulation: a simulation of 1 s leaves"
    yield ["network.node=wilson"], "choose from"
    yield ["precision=16"], "32 or 64"
    yield ["simulation.precision=16"], "simulation: precision must be 32 or 64 bits; got 16"
    yield ["simulation.precision=64"], "simulation: JAX computes in 32 bits; 64 need its setting jax_enable_x64"
    yield ["solver=response_then_simulate", "polish.steps=-1"], "polish: steps (-1)"
    yield ["device=gpu"], "JAX sees none"
    yield ["fit.clip=-1"], "must be at least 1, clip"
    yield ["search.population=1"], "search: search population must be at least 4"
    yield ["evaluation.surrogates=-1"], "evaluation: surrogates must not be negative"
    yield ["simulation.adjoint=backward"], "choose from block"
    yield ["simulation.dt=50 ms"], "simulation: steps of 50 ms"
    yield ["network.delays=none"], "choose from measured, mean, zero"
    yield ["parameters=regional"], "a value for each region: take solver=descend or solver=response"
    yield ["solver.stages=[serach]"], "there is no stage 'serach'; choose from start, search"
    yield ["solver=response", "response.damping=8 Hz s"], "cannot read"
    yield ["solver=response", "response.seconds=-1"], "response.seconds must be positive"
    yield ["resume=true", f"hydra.run.dir={tmp_path}/none"], "nothing to resume"


@pytest.mark.slow
def test_bad_command_lines_get_a_sentence_and_no_traceback(tmp_path):
    """Composed in this process where that is enough; some, and the exit code, through the script."""
    import scripting.command as commands
    from scripting import build

    from fitting import InputError

    for overrides, words in list(bad(tmp_path))[:-1]:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("config", overrides=["experiment=debug", *overrides])
        try:
            with pytest.raises((InputError, Exception), match=re.escape(words)) as caught:
                build.setup(config)
        finally:
            import jax

            jax.config.update("jax_enable_x64", True)
        assert isinstance(caught.value, commands.SENTENCES), caught.value
    nothing = list(bad(tmp_path))[-1]
    misspelt = ["+sed=1", f"hydra.run.dir={tmp_path}/run"], "there is no setting 'sed'; did you mean seed?"
    brackets = ["data.path=my data (1).npz"], "needs quotes of its own, as in 'data.path="
    dashes = ["seed=1", "--fit.steps=5"], "write it without dashes: fit.steps=5"
    short = ["simulation.duration=1 s", f"hydra.run.dir={tmp_path}/short"], "a simulation of 1 s leaves"
    for overrides, words in (nothing, misspelt, brackets, dashes, short):
        done = run("fit.py", "experiment=debug", *overrides)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    # The corrected command can have the folder.
    assert not (tmp_path / "short" / "run.json").exists()


def test_settings_that_are_written_as_options_are_refused():
    with pytest.raises(InputError, match=r"write it without dashes: fit\.steps=5"):
        refuse_dashes(["seed=1", "--fit.steps=5"])
    with pytest.raises(InputError, match="--solver is a setting; write it without dashes: solver=VALUE"):
        refuse_dashes(["--solver", "response"])
    assert run("fit.py", "--cfg", "job", "--package", "seed").stdout.split() == ["0"]


def test_no_internet_for_kaggle_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    done = run("fit.py", "experiment=debug", "data=meg", f"hydra.run.dir={tmp_path}/run")
    assert done.returncode == 2
    assert "could not be downloaded" in done.stderr
    assert "data=recording data.path=FILE" in done.stderr
    assert "Traceback" not in done.stderr


def choices():
    """Every option of every group, as overrides."""
    for folder in sorted(p for p in CONF.iterdir() if p.is_dir() and p.name != "hydra"):
        for option in sorted(folder.glob("*.yaml")):
            overrides = [f"{folder.name}={option.stem}"]
            if folder.name == "network" and (CONF / "parameters" / option.name).exists():
                overrides += [f"parameters={option.stem}", "data.network={parameters: {drive: 0.74}}"]
            if option.stem == "regional" or folder.name == "optimizer":
                # Gauss-Newton steps take no values for each region, and ask no optimiser.
                overrides.append("solver=descend")
            if folder.name != "parameters" or not (CONF / "network" / option.name).exists():
                yield overrides


@pytest.fixture(scope="module")
def small_data(tmp_path_factory):
    """A connectivity matrix and a recording of the first regions of the embedded connectome."""
    folder, rng = tmp_path_factory.mktemp("small"), np.random.default_rng(0)
    labels = embedded()["target"].values[:4].tolist()
    signals = rng.standard_normal((3000, 4)) @ rng.standard_normal((4, 4))
    np.savez(folder / "recording.npz", signals=signals, fs=100.0, labels=labels)
    np.savez(folder / "fc.npz", fc=np.corrcoef(signals.T), labels=labels)
    return folder


#: A fit of four regions and three steps.
SMALL = (
    *("data.regions=4", "simulation.duration=8 s", "search.generations=1", "fit.steps=3", "fit.patience=2"),
    *(
        "fit.average=1",
        "compilation_cache=null",
        "observation.trim=0.5",
        "gauss_newton.rounds=3",
        "gauss_newton.scan=0",
    ),
)


@pytest.mark.parametrize("overrides", list(choices()), ids=" ".join)
def test_every_config_composes(overrides):
    from scripting import build  # noqa: F401  registers the types of settings

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=overrides)
    assert set(config) >= {"data", "network", "observation", "parameters", "solver", "evaluation"}


@pytest.fixture(scope="module")
def histories():
    """Of fits, by what identifies them: several configs say what others have by default."""
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("overrides", list(choices()), ids=" ".join)
def test_every_config_takes_three_steps(overrides, small_data, histories, monkeypatch):
    import jax
    from scripting import build

    from fitting.data import read_recordings
    from fitting.optimize import Fit, identity

    (recording,) = read_recordings(small_data / "recording.npz")
    foreseen, targets = build.foreseen, []
    monkeypatch.setattr(build, "foreseen", lambda *some: targets.append(foreseen(*some)) or targets[-1])
    monkeypatch.setattr(build, "kaggle_recording", lambda: recording)
    monkeypatch.setattr(build, "kaggle_connectome", embedded)
    paths = {"data=fc_matrix": "fc.npz", "data=recording": "recording.npz"}
    paths = [f"data.path={small_data / paths[o]}" for o in overrides if o in paths]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[*overrides, *paths, *SMALL])
    if config.data.source == "demo":
        config.data.duration = "12 s"
    try:
        made = build.setup(config)
        (local,) = [stage for stage in made.stages if stage.name in ("descent", "gauss-newton")]
        same = json.dumps([identity(made.problem), identity(local)])
        if same not in histories:
            histories[same] = local.run(Fit.begin(made.problem), jax.random.key(0)).history
    finally:
        jax.config.update("jax_enable_x64", True)
    (announced,), target = targets, made.problem.target
    assert (announced.seconds, announced.people) == (pytest.approx(target.seconds), target.people)
    assert (announced.held_out is None) == (target.held_out is None)
    losses = histories[same]["loss"]
    # A descent keeps three steps; Gauss-Newton keeps the start and what lowers the loss.
    assert len(losses) == 3 if local.name == "descent" else 1 <= len(losses) <= 4
    assert np.isfinite(losses).all(), losses


def test_a_hemisphere_is_held_out(tmp_path, monkeypatch):
    """Only pairs within one side are seen, whatever the share; what leaks to the others is announced."""
    import jax
    from scripting import build

    for module in ("cost", "linear_response"):
        monkeypatch.setattr(sys.modules[f"fitting.predict.{module}"], "pace", lambda: 1.0)

    labels = embedded()["target"].values[:8].tolist()
    np.savez(tmp_path / "fc.npz", fc=np.corrcoef(np.random.default_rng(0).standard_normal((8, 99))), labels=labels)
    overrides = ["data=fc_matrix", f"data.path={tmp_path / 'fc.npz'}", *SMALL, "data.regions=8"]
    overrides += ["data.people=3", "data.seconds=30"]
    for seed, side, word in ((0, ".L", "left"), (1, ".R", "right")):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("config", overrides=[*overrides, "data.held_out_by=hemisphere", f"data.split_seed={seed}"])
        expected = []
        try:
            made = build.setup(config, announce=expected.append)
            config.evaluation.leaks = 0
            build.setup(config, announce=expected.append)
        finally:
            jax.config.update("jax_enable_x64", True)
        # Fifteen people's independent signals take time.
        assert expected[0].stages["evaluation"].seconds > expected[1].stages["evaluation"].seconds
        assert made.problem.target.seconds == 90
        within = np.array([label.endswith(side) for label in labels])
        np.testing.assert_array_equal(made.problem.target.pairs, np.outer(within, within) & ~np.eye(8, dtype=bool))
        assert made.split == f"all pairs but those within the {word} hemisphere"


def test_the_exact_command_of_an_experiment_is_in_it():
    for file in (CONF / "experiment").glob("*.yaml"):
        assert f"experiment={file.stem}" in file.read_text(), file


def test_misspelt_and_mistyped_settings_are_refused(tmp_path):
    """Before the library is asked; through the function that prints what Hydra raises."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from scripting import command

    for override, words in (
        ("fit.stesp=3", "there is no setting 'fit.stesp'; did you mean fit.steps?"),
        ("netwrok.node=hopf", "did you mean network.node"),
        ("sed=1", "there is no setting 'sed'; did you mean seed?"),
        ("parameters.kk.value=3", "did you mean parameters.k.value"),
        ("experiment=debgu", "there is no experiment=debgu; did you mean debug? Choose from bands, debug"),
        ("fit.steps=many", "fit.steps: Value 'many' of type 'str' could not be converted to Integer"),
        ("simulation.duration=[1]", "simulation.duration: "),
        ("observation.band=[low,12]", "observation.band[0]: Value 'low' of type 'str' could not be converted to Float"),
        ("parameters.k.free=maybe", "parameters.k.free: Value 'maybe'"),
        ("fit", "Error parsing override 'fit'"),
        ("observation.band=[8,", "cannot read a setting: write it without spaces, or in quotes"),
        ("data=/folder/fc.csv", "data=/folder/fc.csv: a file is named by data=fc_matrix data.path=FILE"),
        ("parameters.wEE.value=20", "fits it as well, network.parameters.wEE=VALUE sets it"),
    ):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            with pytest.raises((HydraException, OmegaConfBaseException)) as caught:
                compose("config", overrides=[override])
            assert words in command.sentence(caught.value), override
    file = tmp_path / "experiment" / "mine.yaml"
    file.parent.mkdir()
    file.write_text("# @package _global_\nfit: {stesp: 3}\n")
    done = run("fit.py", f"--config-dir={tmp_path}", "experiment=mine")
    assert done.returncode == 2
    assert "in experiment/mine: there is no setting 'fit.stesp'; did you mean fit.steps?" in done.stderr
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=["+sed=1"])
    with pytest.raises(InputError, match="there is no setting 'sed'; did you mean seed"):
        command.refuse_unknown(config)


def test_nothing_to_fit_is_said_before_a_recording_is_simulated():
    import jax
    from scripting import build

    fixed = [f"parameters.{name}.free=false" for name in ("k", "signal_speed", "sigma")]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", ["experiment=debug", *fixed])
    told = []
    try:
        with pytest.raises(InputError, match="no parameter is free"):
            build.setup(config, told.append, progress=told.append)
    finally:
        jax.config.update("jax_enable_x64", True)
    assert told == []


def test_help_names_every_choice():
    done = run("fit.py", "--help")
    assert done.returncode == 0, done.stderr
    for overrides in choices():
        assert overrides[0].split("=")[1] in done.stdout
    assert "data=fc_matrix data.path=FILE" in done.stdout


def test_data_of_a_recording_bring_the_meg_observation():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=["data=fc_matrix", "data.path=x"])
        assert config.observation.orthogonalize is True
        assert config.observation.orthogonalize_simulation is None
        assert config.observation.filter == "fir"
        config = compose("config", overrides=["data=fc_matrix", "data.path=x", "observation=simulated"])
        assert config.observation.orthogonalize is False


@pytest.mark.slow
def test_benchmark_prints_json_lines(tmp_path):
    done = run("benchmark.py", "case=envelope_fc_32_bits", f"hydra.run.dir={tmp_path / 'new'}")
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert line["case"] == "envelope_fc_32_bits"
    assert line["median_s"] > 0
    assert line["peak_rss_mb"] > 0
    assert (tmp_path / "new" / "benchmark.jsonl").read_text() == done.stdout
    wrong = {
        "case=nothing": "unknown case nothing",
        "seed=1": "no setting 'seed' here",
        "pairs=2": "must be true or false",
    }
    for arguments, words in wrong.items():
        refused = run("benchmark.py", arguments)
        assert refused.returncode == 2
        assert words in refused.stderr


@pytest.mark.slow
def test_readmes_library_sections_run_as_printed(small_data, tmp_path):
    """Both Python blocks, one after the other, on files of four regions; and they are as short as they promise."""
    first, second = (part.split("```")[0] for part in (ROOT / "README.md").read_text().split("```python\n")[1:3])
    lines = [[line for line in block.splitlines() if line.strip()] for block in (first, second)]
    assert len(lines[0]) <= 15
    assert len(lines[1]) <= 12
    assert sum(line.startswith(("import", "from")) for line in lines[0]) <= 3
    connectome = embedded(regions=4)
    names = connectome["target"].values.tolist()
    np.savez(tmp_path / "connectome.npz", labels=names, **{n: connectome[n].values for n in ("weights", "lengths")})
    fc = np.load(small_data / "fc.npz")["fc"]
    rows = "".join(f"{name},{','.join(map(str, row))}\n" for name, row in zip(names, fc, strict=True))
    (tmp_path / "fc.csv").write_text(f"region,{','.join(names)}\n{rows}")
    code = f"{first}\n{second}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "r of the mean FC over 10 seeds" in done.stdout
    assert done.stdout.count("signal_speed") == 2


@pytest.mark.slow
def test_a_fit_by_linear_response(tmp_path):
    done = run(
        "fit.py", "experiment=debug", "solver=response", "data.held_out=0.3", f"hydra.run.dir={tmp_path}",
        "evaluation.fresh_seeds=2", "evaluation.initial_seeds=1", "evaluation.profile_steps=3", *SHORT,
        "network.parameters.drive=0.6", "gauss_newton.rounds=3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "The solver does not use the settings gauss_newton.*" in " ".join(done.stdout.split())
    summary = json.loads((tmp_path / "summary.json").read_text())
    held_out = summary["fc_correlation"]["held_out"]
    assert held_out["split"].startswith("30 %")
    assert {"r", "own", "leak", "baselines"} <= set(held_out)
    assert set(held_out["leaks"]) == set(held_out["baselines"])
    assert {"region_effects", "rank_two", "region_effects_and_geometry"} <= set(held_out["baselines"])
    assert any("inear response" in note for note in summary["notes"])
    fixed = "experiment=debug", "solver=response", "parameters=k_speed_sigma"
    refused = run("fit.py", *fixed, f"hydra.run.dir={tmp_path}/unstable")
    assert refused.returncode == 2  # the demo's nodes oscillate by themselves
    assert "the start is unstable" in refused.stderr
    assert "fit drive as well, or lower the network's" in " ".join(refused.stderr.split())
    assert not (tmp_path / "unstable" / "run.json").exists()
    again = run("fit.py", "experiment=debug", "solver=response", f"hydra.run.dir={tmp_path}")
    assert again.returncode == 2
    assert "already holds a run" in again.stderr


@pytest.mark.slow
def test_a_recovery_study(tmp_path):
    """Two draws of eight regions, by one step of linear response; what is there is not computed again."""
    arguments = (
        "experiment=recovery_meg", "data.regions=8", "data.duration=20 s", "study.draws=2", "solver.stages=[fit]",
        "fit.steps=1", "observation.low_pass=null", "simulation.duration=8 s", "evaluation.fresh_seeds=1",
        "evaluation.duration=8 s", f"hydra.run.dir={tmp_path}",
    )  # fmt: skip
    done = run("recover.py", *arguments)
    assert done.returncode == 0, done.stderr
    study = json.loads((tmp_path / "recovery.json").read_text())
    draws = [json.loads((tmp_path / f"draw_{number:02d}.json").read_text()) for number in range(2)]
    assert set(study) == set(draws[0]["true"]) == {"k", "signal_speed", "drive"}
    assert draws[0]["true"] != draws[1]["true"]
    for name, row in study.items():
        errors = [abs(draw["fitted"][name] / draw["true"][name] - 1) for draw in draws]
        assert row["median_relative_error"] == pytest.approx(np.mean(errors))
        inside = [low <= draw["true"][name] <= high for draw in draws for low, high in [draw["intervals"][name]]]
        assert (row["intervals"], row["covered"]) == (2, sum(inside))
    assert (tmp_path / "figures" / "recovery.png").stat().st_size > 5000
    import recover

    assert recover.kept(tmp_path / "draw_00.json", pytest.fail) == draws[0]


@pytest.mark.slow
def test_a_recovery_study_of_coefficients_of_maps(tmp_path):
    arguments = (
        "experiment=recovery_maps", "data.regions=8", "data.duration=20 s", "study.draws=2", "solver.stages=[fit]",
        "fit.steps=1", "simulation.duration=8 s", "evaluation.fresh_seeds=1", "evaluation.duration=8 s",
        f"hydra.run.dir={tmp_path}",
    )  # fmt: skip
    done = run("recover.py", *arguments)
    assert done.returncode == 0, done.stderr
    study = json.loads((tmp_path / "recovery.json").read_text())
    draws = [json.loads((tmp_path / f"draw_{number:02d}.json").read_text()) for number in range(2)]
    assert any(draw["true"]["drive.log_strength"] < 0 or draw["true"]["sigma.log_strength"] < 0 for draw in draws)
    for name in ("drive.log_strength", "sigma.log_strength"):
        errors = [abs(draw["fitted"][name] - draw["true"][name]) for draw in draws]
        assert study[name]["median_error"] == pytest.approx(np.mean(errors))
    assert "drive.log_strength: median error" in done.stdout.replace("\n", " ")


@pytest.mark.slow
def test_describe_says_what_was_loaded(tmp_path, rng):
    """A folder of two subjects in the atlas's long names, one with a bad segment."""
    for subject in ("01", "02"):
        file = tmp_path / "data" / f"sub-{subject}_task-rest_timeseries.tsv"
        file.parent.mkdir(exist_ok=True)
        rows = "\n".join("\t".join(f"{v:.4f}" for v in row) for row in rng.standard_normal((4000, 94)))
        file.write_text("\t".join(region.name for region in aal2()) + "\n" + rows)
        file.with_suffix(".json").write_text('{"SamplingFrequency": 200, "Units": "T"}')
    events = tmp_path / "data" / "sub-02_task-rest_events.tsv"
    events.write_text("onset\tduration\ttrial_type\n4\t2\tbad_blink\n")
    run_in = f"hydra.run.dir={tmp_path}/run"
    settings = ["observation.low_pass=1", f"data.path={tmp_path}/data"]
    done = run("describe.py", "data=recording", *settings, run_in)
    assert done.returncode == 0, done.stderr
    for words in ("80 regions", "Hippocampus_L", "2 subject(s) (01, 02)", "200 Hz", "6.83 to 248 mm", "symmetric"):
        assert words in " ".join(done.stdout.split()), words
    # The 4 s before the bad segment are as long as two trims and two periods of 1 Hz.
    assert "2 s in bad segments" in done.stdout
    for name in ("connectome", "data"):
        assert (tmp_path / "run" / "figures" / f"{name}.png").stat().st_size > 10_000


OTHER_SCRIPTS = ("recover", "poor_start", "describe", "evaluate", "simulate")


@pytest.mark.parametrize("script", ["fit", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHER_SCRIPTS)])
def test_settings_of_jax_are_made_before_it_computes(script):
    """Importing the library makes JAX compute, and a setting made after that is not heard."""
    code = f"""
import os
import re
from jax._src import xla_bridge
really = os.environ.setdefault
def watched(name, value):
    assert name != "XLA_FLAGS" or not xla_bridge._backends, "JAX has computed already"
    return really(name, value)
os.environ.setdefault = watched
import {script}
assert "XLA_FLAGS" in os.environ and xla_bridge._backends
import jax
from fitting.environment import cores
assert jax.device_count() == cores(), jax.devices()
"""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "experiments", env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_operations_of_a_program_are_counted():
    """A loop: its body adds and writes a row of four numbers in place; its condition compares if turns are unknown."""
    from scripting.work import work_of

    program = """
HloModule small

%put (at.1: s32[], rows.1: f32[5,4]) -> f32[5,4] {
  %at.1 = s32[] parameter(0)
  %rows.1 = f32[5,4]{1,0} parameter(1)
  %one.1 = f32[1,4]{1,0} broadcast(%at.1), dimensions={}
  ROOT %put.1 = f32[5,4]{1,0} dynamic-update-slice(%rows.1, %one.1, %at.1, %at.1)
}

%body (state.2: (s32[], f32[5,4])) -> (s32[], f32[5,4]) {
  %state.2 = (s32[], f32[5,4]{1,0}) parameter(0)
  %at.2 = s32[] get-tuple-element(%state.2), index=0
  %rows.2 = f32[5,4]{1,0} get-tuple-element(%state.2), index=1
  %next.2 = s32[] add(%at.2, %at.2)
  %written.2 = f32[5,4]{1,0} fusion(%at.2, %rows.2), kind=kLoop, calls=%put
  ROOT %new.2 = (s32[], f32[5,4]{1,0}) tuple(%next.2, %written.2)
}

%condition (state.3: (s32[], f32[5,4])) -> pred[] {
  %state.3 = (s32[], f32[5,4]{1,0}) parameter(0)
  %at.3 = s32[] get-tuple-element(%state.3), index=0
  ROOT %less.3 = pred[] compare(%at.3, %at.3), direction=LT
}

ENTRY %main (rows.4: f32[5,4]) -> f32[5,4] {
  %rows.4 = f32[5,4]{1,0} parameter(0)
  %zero.4 = s32[] constant(0)
  %copied.4 = f32[5,4]{1,0} copy(%rows.4)
  %state.4 = (s32[], f32[5,4]{1,0}) tuple(%zero.4, %copied.4)
  %done.4 = (s32[], f32[5,4]{1,0}) while(%state.4), condition=%condition, body=%body, TURNS
  ROOT %result.4 = f32[5,4]{1,0} get-tuple-element(%done.4), index=1
}
"""
    five = 'backend_config={"known_trip_count":{"n":"5"}}'
    assert work_of(program.replace("TURNS", five)) == (1 + 5 * 2, 80 + 5 * (4 + 16))
    assert work_of(program.replace("TURNS", "")) == (1 + 3, 80 + 4 + 16 + 1)


def test_counting_kernels_without_a_compiler_says_what_to_install(monkeypatch, capsys):
    import kernels

    assert kernels.main(["case=nothing"]) == 2
    assert "unknown case nothing; choose from candidates_1," in capsys.readouterr().err
    monkeypatch.setattr(kernels, "has_compiler", lambda: False)
    assert kernels.main(["case=candidates_1"]) == 2
    assert "pip install 'fitting[cuda]'" in capsys.readouterr().err


def test_the_table_of_a_gpu():
    """Rates are for the rounds in which the candidates fit; estimates agree if each lies in the other's interval."""
    import gpu
    from rich.console import Console

    name = "candidates_256"
    found = {"case": name, "median_s": 2.0, "device": "H100", "batch": 100}
    counted = {"kernels": 100_000, "written_gb": 40.0}
    assert gpu.rates(found, counted) == (2e6 / 300_000, 20.0)
    mine = {"fitted": 2.0, "interval": [1.5, 2.5]}
    assert gpu.agreement(mine, {"fitted": 2.4, "interval": [1.9, 2.9]}) == "agree"
    assert gpu.agreement(mine, {"fitted": 2.6, "interval": [1.9, 2.9]}) == "DISAGREE"
    assert gpu.agreement(mine, {"fitted": 2.6, "interval": None}) == "no interval"
    fits = {
        "meg_alpha_global": tuple({"wall_seconds": s, "parameters": {"k": mine}} for s in (10.0, 50.0)),
        "meg_alpha_regional": ({"wall_seconds": 20.0, "parameters": {"k": mine}}, None),
    }
    console = Console(width=200, record=True)
    console.print(gpu.table_of({name: found}, {name: {"median_s": 80.0}}, {name: counted}, fits))
    rows = [line.split() for line in console.export_text().replace("│", " ").splitlines()]
    assert [name, "2", "80", "40", "-", "6.67", "20"] in rows
    assert ["meg_alpha_global", "10", "50", "5", "-", "-", "-"] in rows
    assert ["k", "2", "2", "agree", "-", "-", "-"] in rows
    assert ["meg_alpha_regional", "20", "-", "-", "-", "-", "-"] in rows


@pytest.mark.slow
def test_what_sensors_mix_goes_from_the_script_into_a_fit(tmp_path):
    """The demo's recording is mixed as the written matrix says, and so is what is fitted to it."""
    from scripting.build import setup
    from scripting.compose import composed

    done = run("mixing.py", "data.regions=6", "study={sensors: neuromag}", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "within 40 mm leaks" in done.stdout
    assert (tmp_path / "figures" / "leakage.png").stat().st_size > 10_000
    small = ["experiment=debug", "data.regions=5", "precision=64", "compilation_cache=null"]
    plain, mixed = (setup(composed([*small, *more])) for more in ([], [f"observation.mixing={tmp_path}/mixing.csv"]))
    matrix = mixed.problem.observation.mixing.values
    assert matrix.shape == (5, 5)
    np.testing.assert_allclose(mixed.recordings[0].values, plain.recordings[0].values @ matrix.T, rtol=1e-6)
    assert "mixed as mixing.csv" in str(mixed.problem.observation)
    refused = run("fit.py", *small, "observation.mixing=nowhere.csv", f"hydra.run.dir={tmp_path}/none")
    assert refused.returncode == 2
    assert "nowhere.csv" in refused.stderr
