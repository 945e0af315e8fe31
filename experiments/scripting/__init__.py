"""What only the scripts share: configs become library objects, runs have folders, errors become sentences."""

import os
from pathlib import Path

import fitting  # noqa: F401  prepares JAX before anything computes

# Launchers start jobs in processes of their own, which must find these modules.
_here = str(Path(__file__).resolve().parents[1])
if _here not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_here, os.environ.get("PYTHONPATH")]))
