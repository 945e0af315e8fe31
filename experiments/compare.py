"""Lay runs side by side: ``python experiments/compare.py runs=[FOLDER,...]``; a folder of a sweep holds many."""

from __future__ import annotations

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console
from scripting.build import plain
from scripting.command import run, sentences

from fitting import InputError
from fitting.report import comparison_table, figures, find_runs, read_runs, write_csv


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
@sentences
def main(config: DictConfig) -> float:
    """Print a table, write it as CSV, and draw it; returns the best score."""
    if not config.runs:
        raise InputError("name the runs to compare: runs=[FOLDER,...], or a folder that holds them")
    places = [config.runs] if isinstance(config.runs, str) else plain(config.runs)
    rows = read_runs(find_runs([Path(str(place)).expanduser() for place in places]))
    folder, console = Path(HydraConfig.get().runtime.output_dir), Console()
    console.print(comparison_table(rows))
    write_csv(rows, folder / "comparison.csv")
    figures.save(figures.comparison(rows), folder / "figures" / "comparison")
    console.print(f"Written: {folder}", soft_wrap=True)
    return max((row["r"] for row in rows if row["r"] is not None), default=float("nan"))


if __name__ == "__main__":
    run(main)
