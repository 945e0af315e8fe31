"""Explore data and model before a fit: a live page, a notebook, and a script in one.

``marimo run experiments/explore.py`` opens the page, ``-- --data PATH --connectome PATH`` shows files of yours;
``marimo edit`` opens the notebook; ``python experiments/explore.py`` runs it once, from top to bottom.
"""

import marimo

app = marimo.App(width="medium", app_title="fitting: explore")


@app.cell
def _():
    import sys
    import time
    from dataclasses import replace
    from pathlib import Path

    import jax
    import marimo as mo
    import numpy as np

    # What scripts share lies beside this file.
    sys.path.insert(0, str(Path(__file__).resolve().parent))

    from scripting.build import (
        connectome_of,
        keep_compiled,
        measured,
        network_of,
        observation_of,
        parameters_of,
        simulated,
    )
    from scripting.compose import command_line, composed, data_settings

    import fitting as ft
    from fitting.data import centres_of
    from fitting.evaluate import agreement, structural_baselines
    from fitting.predict import operating_point
    from fitting.report import interactive, signals
    from fitting.units import magnitude

    return (
        agreement,
        centres_of,
        command_line,
        composed,
        connectome_of,
        data_settings,
        ft,
        interactive,
        jax,
        keep_compiled,
        magnitude,
        measured,
        mo,
        network_of,
        np,
        observation_of,
        operating_point,
        parameters_of,
        replace,
        signals,
        simulated,
        structural_baselines,
        time,
    )


@app.cell
def _(
    composed,
    connectome_of,
    data_settings,
    ft,
    keep_compiled,
    magnitude,
    measured,
    mo,
    network_of,
    observation_of,
    simulated,
):
    # What the command line names, or a recording that the model itself makes.
    _arguments = mo.cli_args()
    try:
        settings = data_settings(_arguments.get("data"), _arguments.get("connectome"))
        config = composed(settings)
        keep_compiled(config.compilation_cache)
        connectome = connectome_of(config)
        _network = network_of(config, connectome).for_speeds(1.0, 40.0)
        own_observation = observation_of(config, _network)
        _step = magnitude(config.simulation.dt, "ms", "simulation.dt")
        data = measured(config, _network) or simulated(config, _network, own_observation, _step)
    except ft.InputError as error:
        if not mo.running_in_notebook():
            raise SystemExit(f"error: {error}") from None
        mo.stop(True, mo.callout(mo.md(f"**This cannot be explored.** {error}"), kind="danger"))
    labels = list(connectome["target"].values.tolist())
    _what = "a matrix" if data.matrix is not None else f"{len(data.recordings)} recording(s)"
    _left = f" Regions of the data that are not in the connectome: {', '.join(data.dropped)}." if data.dropped else ""
    mo.md(
        f"# Explore before you fit\n\n{len(labels)} regions; connectome: "
        f"{connectome.attrs.get('provenance', 'of a file')}; data: {_what} ({config.data.source}).{_left}"
    )
    return config, connectome, data, labels, own_observation, settings


@app.cell
def _(labels, mo):
    get_region, set_region = mo.state(labels[0])
    get_reference, set_reference = mo.state(labels[min(1, len(labels) - 1)])
    return get_reference, get_region, set_reference, set_region


@app.cell
def _(get_reference, get_region, labels, mo, set_reference, set_region):
    region = mo.ui.dropdown(labels, value=get_region(), on_change=set_region, label="region", searchable=True)
    reference = mo.ui.dropdown(
        labels, value=get_reference(), on_change=set_reference, label="reference", searchable=True
    )
    return reference, region


@app.cell
def _(mo, own_observation):
    _edges = list(own_observation.band)
    band = mo.ui.range_slider(1, 45, 0.5, value=_edges, label="band (Hz)", show_value=True, debounce=True)
    low_pass = mo.ui.slider(
        0,
        4,
        0.1,
        value=own_observation.low_pass or 0.0,
        label="low-pass of envelopes (Hz, 0: none)",
        show_value=True,
        debounce=True,
    )
    orthogonalize = mo.ui.switch(value=bool(own_observation.orthogonalize), label="orthogonalise")
    filter_kind = mo.ui.dropdown(["butterworth", "fir"], value=own_observation.filter, label="filter")
    return band, filter_kind, low_pass, orthogonalize


@app.cell
def _(band, filter_kind, ft, low_pass, mo, orthogonalize, own_observation, reference, region, replace):
    _controls = mo.hstack(
        [region, reference, band, low_pass, filter_kind, orthogonalize], wrap=True, justify="start", gap=1
    )
    try:
        observation = replace(
            own_observation,
            band=tuple(band.value),
            low_pass=low_pass.value or None,
            filter=filter_kind.value,
            orthogonalize=orthogonalize.value,
        )
    except ft.InputError as error:
        mo.stop(True, mo.vstack([_controls, mo.callout(str(error), kind="danger")]))
    mo.vstack([mo.md("## Data"), _controls, mo.md(f"{observation}")])
    return (observation,)


@app.cell
def _(data, ft, mo, np, observation):
    # Connectivity of the data by this processing; a matrix is what it is.
    if data.matrix is not None:
        target = ft.Target.of_matrix(data.matrix)
    else:
        try:
            target = ft.Target.of_recordings(data.recordings, observation)
        except ft.InputError as error:
            mo.stop(True, mo.callout(str(error), kind="danger"))
    measured_fc = np.asarray(target.fc, float)
    return measured_fc, target


@app.cell
def _(interactive, labels, measured_fc, mo):
    data_figure = interactive.matrix(measured_fc, labels, "connectivity of the data")
    data_matrix = mo.ui.plotly(data_figure)
    mo.vstack([data_matrix, mo.md("Click on an entry to choose its two regions.")])
    return data_figure, data_matrix


@app.cell
def _(data_matrix, set_reference, set_region):
    # A click tells the names of row and column.
    if data_matrix.value:
        _entry = data_matrix.value[0]
        set_region(_entry["y"])
        set_reference(_entry["x"])
    return


@app.cell
def _(data, labels, mo, np, observation, reference, region, signals):
    pictures = []
    mo.stop(not data.recordings, mo.md("The data are a matrix: there are no signals to show."))
    _piece = data.recordings[0]
    _signals = np.asarray(observation.resample(_piece.values, float(_piece.attrs["fs"])))
    _pair = (labels.index(reference.value), labels.index(region.value))
    _one = (_signals, observation, labels, _pair[1], "recording")
    _two = (_signals, observation, labels, *_pair, "recording")
    pictures = [
        signals.traces(_signals, observation.fs, labels),
        signals.raw_and_band(*_one),
        signals.envelope(*_one),
        signals.orthogonalization(*_two),
        signals.smoothed_pair(*_two),
    ]
    mo.hstack([mo.as_html(figure).style(width="min(30rem, 100%)") for figure in pictures], wrap=True, justify="start")
    return (pictures,)


@app.cell
def _(mo):
    node = mo.ui.dropdown(
        ["wilson_cowan_alpha", "wilson_cowan_notebook", "hopf", "stuart_landau", "jansen_rit", "montbrio_pazo_roxin"],
        value="wilson_cowan_alpha",
        label="node",
    )
    coupling = mo.ui.dropdown(["diffusive", "additive", "sigmoidal"], value="diffusive", label="coupling")
    return coupling, node


@app.cell
def _(composed, coupling, node, parameters_of, settings):
    # Each node with the parameters that fits of it take, and their bounds.
    _alpha = node.value == "wilson_cowan_alpha"
    _group = "k_speed_sigma_drive" if _alpha else node.value
    _kept = [s for s in settings if _alpha or not s.startswith("network.")]
    _chosen = [f"network={node.value}", f"parameters={_group}", f"network.coupling={coupling.value}"]
    model_settings = [*_kept, *_chosen, "solver=response"]
    model_config = composed(model_settings)
    declared = parameters_of(model_config)
    return declared, model_config, model_settings


@app.cell
def _(declared, mo, np):
    def _slider(p):
        span = np.geomspace(p.lower, p.upper, 101) if p.scale == "log" else np.linspace(p.lower, p.upper, 101)
        steps = sorted({float(f"{value:.3g}") for value in (*span[1:-1], float(p.value))})
        unit = "" if p.unit == "1" else f" ({p.unit})"
        return mo.ui.slider(steps=steps, value=float(f"{p.value:.3g}"), label=f"{p.name}{unit}", show_value=True)

    sliders = mo.ui.dictionary({p.name: _slider(p) for p in declared if p.free})
    return (sliders,)


@app.cell
def _(connectome, declared, ft, mo, model_config, network_of, np, observation, operating_point):
    # Compiled for this node, coupling and observation: what sliders move compiles nothing.
    hz = np.arange(1.0, 46.0)
    _speed = next((p for p in declared if p.name == "signal_speed"), None)
    try:
        network = network_of(model_config, connectome)
        if _speed is not None:
            network = network.for_speeds(float(_speed.lower), float(_speed.upper))
        response = ft.LinearResponse(network, observation)
    except ft.InputError as error:
        mo.stop(True, mo.callout(str(error), kind="danger"))
    at = operating_point(response, hz)
    return at, hz, network, response


@app.cell
def _(at, coupling, mo, node, np, sliders, time):
    _began = time.perf_counter()
    point = at({name: float(value) for name, value in sliders.value.items()})
    point = point._replace(**{name: np.asarray(value) for name, value in point._asdict().items()})
    seconds = time.perf_counter() - _began
    _growth = float(point.growth)
    holds = bool(np.isfinite(point.fc).all() and _growth < 0)
    if not np.isfinite(point.fc).all():
        _lamp = mo.callout("No steady state was found here: linear response has nothing to say.", kind="danger")
    elif _growth >= 0:
        _lamp = mo.callout(
            f"Unstable: the fastest mode grows by {_growth:.1f} /s. Linear response does not hold; simulate.",
            kind="warn",
        )
    else:
        _lamp = mo.callout(
            f"Stable: the slowest mode decays by {-_growth:.1f} /s. At rest, activity is {point.activity.min():.3g} to "
            f"{point.activity.max():.3g}.",
            kind="success",
        )
    mo.vstack(
        [
            mo.md("## Model"),
            mo.hstack([node, coupling], wrap=True, justify="start"),
            mo.hstack(list(sliders.elements.values()), wrap=True, justify="start", gap=1),
            _lamp,
        ]
    )
    return holds, point, seconds


@app.cell
def _(connectome, measured_fc, structural_baselines):
    baselines = {name.replace("_", " "): r for name, r in structural_baselines(connectome, measured_fc).items()}
    return (baselines,)


@app.cell
def _(agreement, baselines, holds, interactive, measured_fc, mo, point, seconds):
    if holds:
        _model = agreement(point.fc, measured_fc)
        verdict = (
            f"r = {_model.r:.3f}, concordance {_model.concordance:.3f}, slope {_model.slope:.3g}; "
            f"mean FC {_model.model:.4f} of {_model.target:.4f}"
        )
        _scores = {"model, linear response": _model.r} | baselines
    else:
        verdict, _scores = "No score where linear response does not hold", baselines
    score_figure = interactive.bars(_scores, "correlation with the data, beside what needs no model")
    mo.vstack([mo.md(f"**{verdict}** ({seconds:.2f} s)"), mo.ui.plotly(score_figure)])
    return score_figure, verdict


@app.cell
def _(hz, interactive, labels, measured_fc, mo, np, observation, point, region):
    _limit = float(np.percentile(np.abs(measured_fc), 99)) or None
    model_figures = [
        interactive.matrix(point.fc, labels, "connectivity of the model, scale of the data", _limit),
        interactive.spectra(hz, point.power, labels, region.value, observation.band),
    ]
    mo.hstack([mo.ui.plotly(figure) for figure in model_figures], wrap=True, widths="equal")
    return (model_figures,)


@app.cell
def _(mo):
    quantity = mo.ui.dropdown(
        [
            "mean connectivity of the data",
            "mean connectivity of the model",
            "difference of both",
            "activity at rest",
            "power in the band",
        ],
        value="mean connectivity of the data",
        label="colour",
    )
    return (quantity,)


@app.cell
def _(
    centres_of,
    connectome,
    hz,
    interactive,
    labels,
    measured_fc,
    mo,
    np,
    observation,
    point,
    quantity,
    reference,
    region,
):
    _data, _model = ((fc.sum(1) - np.diag(fc)) / (len(fc) - 1) for fc in (measured_fc, point.fc))
    _inside = (hz >= observation.band[0]) & (hz <= observation.band[1])
    _colours = {
        "mean connectivity of the data": _data,
        "mean connectivity of the model": _model,
        "difference of both": _model - _data,
        "activity at rest": point.activity,
        "power in the band": point.power[_inside].sum(0),
    }
    _centres = centres_of(connectome)
    mo.stop(
        _centres is None,
        mo.md("## Brain\n\nThe connectome does not say where its regions lie (`centres`): there is no brain to show."),
    )
    _values, _chosen = _colours[quantity.value], [region.value, reference.value]
    brain_figures = [
        interactive.brain_from_above(_centres, _values, labels, "from above", _chosen),
        interactive.brain(_centres, _values, labels, quantity.value),
    ]
    brain_above = mo.ui.plotly(brain_figures[0])
    mo.vstack(
        [
            mo.md("## Brain"),
            quantity,
            mo.hstack([brain_above, mo.ui.plotly(brain_figures[1])], wrap=True, widths="equal"),
            mo.md("Click on a region from above to choose it; turn the brain beside it."),
        ]
    )
    return brain_above, brain_figures


@app.cell
def _(brain_above, brain_figures, set_region):
    # A click tells the place of a dot in the order in which they are drawn.
    if brain_above.indices:
        set_region(brain_figures[0].data[0].text[brain_above.indices[0]])
    return


@app.cell
def _(command_line, mo, model_settings, observation, sliders):
    # What fit.py would be told to begin here.
    _band = f"observation.band=[{observation.band[0]:g},{observation.band[1]:g}]"
    _chosen = [
        *model_settings,
        *(f"parameters.{name}.value={value:g}" for name, value in sliders.value.items()),
        _band,
        f"observation.low_pass={observation.low_pass if observation.low_pass else 'null'}",
        f"observation.filter={observation.filter}",
        f"observation.orthogonalize={str(observation.orthogonalize).lower()}",
    ]
    command = command_line(_chosen)
    mo.md(f"## From here\n\nThe fit that begins at these values:\n\n```bash\n{command}\n```")
    return (command,)


@app.cell
def _(mo):
    simulate = mo.ui.run_button(label="simulate 30 s")
    fit = mo.ui.run_button(label="fit from here")
    mo.hstack([simulate, fit], justify="start")
    return fit, simulate


@app.cell
def _(ft, network, observation):
    simulation = ft.Simulation(network, observation, duration="32 s")
    return (simulation,)


@app.cell
def _(agreement, interactive, jax, labels, measured_fc, mo, np, point, simulate, simulation, sliders):
    mo.stop(not simulate.value, mo.md("Noise comes in with a simulation: press the button."))
    with mo.status.spinner("simulating"):
        _values = {n: float(v) for n, v in sliders.value.items()}
        _fc = np.asarray(simulation.predict(_values, jax.random.key(0)).fc)
    _limit = float(np.percentile(np.abs(_fc), 99)) or None
    mo.vstack(
        [
            mo.md(
                f"**30 s of simulation: r = {agreement(_fc, measured_fc).r:.3f} with the data, "
                f"{agreement(_fc, point.fc).r:.3f} with linear response**"
            ),
            mo.hstack(
                [
                    mo.ui.plotly(interactive.matrix(_fc, labels, "one simulation", _limit)),
                    mo.ui.plotly(interactive.matrix(point.fc, labels, "linear response, same scale", _limit)),
                ],
                wrap=True,
                widths="equal",
            ),
        ]
    )
    return


@app.cell
def _(declared, fit, ft, holds, interactive, jax, mo, replace, response, sliders, target):
    mo.stop(not fit.value, mo.md("Gauss-Newton steps by linear response, from where the sliders stand."))
    mo.stop(not holds, mo.callout("A fit by linear response needs a stable start: move k or drive down.", kind="warn"))
    _parameters = [replace(p, value=float(sliders.value.get(p.name, p.value))) for p in declared]
    _steps = []

    def _show(progress):
        _steps.append({name: float(value) for name, value in progress.values.items()})
        mo.output.replace(mo.vstack([mo.md(f"step {progress.done}: {progress.text}"), interactive.course(_steps)]))

    try:
        _problem = ft.Problem(response, _parameters, target)
        _fit = ft.solve(_problem, [ft.GaussNewton(seeds=1, scan=0)], key=jax.random.key(0), progress=_show)
    except ft.InputError as error:
        mo.stop(True, mo.callout(str(error), kind="danger"))
    _rows = [{"parameter": n, "from": f"{_fit.initial[n]:.4g}", "to": f"{_fit.fitted[n]:.4g}"} for n in sliders.value]
    mo.vstack(
        [
            mo.md(
                f"**{_fit.status}: loss {_fit.history['loss'][-1]:.4f}, r {_fit.history['fc_correlation'][-1]:.3f}**"
            ),
            mo.ui.table(_rows, selection=None),
            mo.ui.plotly(interactive.course(_steps)),
        ]
    )
    return


if __name__ == "__main__":
    from pathlib import Path

    _, page = app.run()
    path = Path("outputs") / "explore.html"
    page["interactive"].write_page(
        "Explore before you fit",
        {
            "Data": [str(page["observation"]), page["data_figure"], *page["pictures"]],
            "Model": [page["verdict"], page["score_figure"], *page["model_figures"]],
            "Brain": page["brain_figures"],
            "From here": [page["command"]],
        },
        path,
    )
    print(f"{page['verdict']}\nWritten: {path}")
