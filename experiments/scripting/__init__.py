"""What only the scripts share: configs become library objects, runs have folders, errors become sentences."""

import gc
import os
from pathlib import Path

# What packages make while they are imported stays, so Python need not search it for garbage, then or later. The search
# would take a third of the time until a script does something.
gc.disable()
import fitting  # noqa: E402, F401  prepares JAX before anything computes

gc.freeze()
gc.enable()
# Tracing and drawing make many objects and little garbage: it is searched for less often.
gc.set_threshold(20_000)

# Launchers start jobs in processes of their own, which must find these modules.
_here = str(Path(__file__).resolve().parents[1])
if _here not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_here, os.environ.get("PYTHONPATH")]))
