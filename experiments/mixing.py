"""What sensors mix, for a connectome's regions: ``python experiments/mixing.py [data.connectome=FILE]``.

Writes ``mixing.csv`` for ``observation.mixing=FILE``: the resolution matrix of a minimum-norm estimate from MNE's
canonical sensors around a spherical head. ``'study={sensors: neuromag, snr: 10}'`` chooses others.
"""

from __future__ import annotations

from pathlib import Path

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console
from scripting.build import connectome_of, plain, setting
from scripting.command import run, sentences

from fitting.data import centres_of, sphere_mixing
from fitting.report.figures import leakage, relative_leakage, save


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
@sentences
def main(config: DictConfig) -> float:
    """Write the matrix and a figure of it; returns what neighbours within 40 mm leak, relative to the region itself."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    connectome = connectome_of(config)
    with setting("study"):
        mixing = sphere_mixing(connectome, **({} if config.study is None else plain(config.study)))
    labels = mixing["region"].values.tolist()
    mixing.to_pandas().to_csv(folder / "mixing.csv")
    centres = centres_of(connectome)
    save(leakage(mixing.values, centres, labels), folder / "figures" / "leakage")
    own, distances = relative_leakage(mixing, centres)
    near, far = (np.median(own[(low < distances) & (distances <= high)]) for low, high in ((0, 40), (80, np.inf)))
    console = Console()
    console.print(
        f"{mixing.attrs['provenance']}: relative to a region itself, another one within 40 mm leaks {near:.2f} into "
        f"its estimate, one beyond 80 mm {far:.3f} (medians)."
    )
    console.print(f"Written: {folder / 'mixing.csv'}; simulate with observation.mixing=FILE", soft_wrap=True)
    return float(near)


if __name__ == "__main__":
    run(main)
