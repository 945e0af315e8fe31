"""What was loaded: ``python experiments/describe.py [data=...]`` prints and draws it, before anything is fitted."""

from __future__ import annotations

from pathlib import Path

import hydra
import jax
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console
from scripting.build import connectome_of, measured, network_of, observation_of, parameters_of, simulated
from scripting.command import run, sentences

from fitting.evaluate import structural_baselines
from fitting.objective import Target
from fitting.optimize import Parameters
from fitting.predict import LinearResponse
from fitting.report import describe_connectome, describe_data
from fitting.report.figures import connectome_overview, data_overview, save
from fitting.signal import Observation
from fitting.units import magnitude


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
@sentences
def main(config: DictConfig) -> float:
    """Print two tables and draw two figures; returns the correlation of the data with the structural weights."""
    jax.config.update("jax_enable_x64", config.precision == 64)
    folder = Path(HydraConfig.get().runtime.output_dir)
    console = Console(markup=False)
    connectome = connectome_of(config)
    network = network_of(config, connectome)
    data = measured(config, network)
    speed = magnitude(config.parameters.signal_speed.value, "m/s", "parameters.signal_speed.value")
    console.print(describe_connectome(connectome, speed))
    save(connectome_overview(connectome, speed), folder / "figures" / "connectome")
    dt = magnitude(config.simulation.dt, "ms", "simulation.dt")
    observation = observation_of(config, network)
    start = Parameters(tuple(parameters_of(config)), network)
    growing = LinearResponse(network.for_speeds(*start.speeds), Observation(), dt).unstable(start.values(start.start()))
    console.print(f"The start: {f'{growing} modes grow' if growing else 'stable'}, by linear response.")
    data = data or simulated(config, network, observation, dt)
    matrix = data.matrix if data.recordings == [] else Target.of_recordings(data.recordings, observation, False).fc
    fc = np.asarray(matrix)
    baselines = structural_baselines(connectome, fc)
    console.print(describe_data(data.recordings, fc, data.dropped, observation, baselines))
    labels = connectome["target"].values.tolist()
    save(data_overview(data.recordings, fc, labels, observation), folder / "figures" / "data")
    console.print(f"Written: {folder / 'figures'}", soft_wrap=True)
    return baselines["structural_weights"]


if __name__ == "__main__":
    run(main)
