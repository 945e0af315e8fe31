"""Read a MATLAB file of version 4 to 7.2 and write its arrays as NPZ: a program, run as a process of its own.

SciPy's reader takes type codes from the file unchecked, so that a damaged file can end the whole process (scipy/scipy
pull request 25349). Here that process is not the user's. It imports nothing of this package, to start fast.
"""

import sys
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse

#: Exit status where the file is sound, but not what is needed.
REFUSED = 3


class Refused(ValueError):
    """A sound file that does not hold plain arrays."""


def plain(value: Any, name: str) -> np.ndarray:
    """A MATLAB array; cells of text become an array of str."""
    if scipy.sparse.issparse(value):
        raise Refused(f"{name} is a sparse matrix; store full({name}) instead")
    value = np.asarray(value)
    if value.dtype.names:
        raise Refused(f"{name} is a struct or an object; store its fields as variables of their own")
    if value.dtype.kind != "O":
        return value
    if not all(isinstance(cell, np.ndarray) and cell.dtype.kind == "U" and cell.size <= 1 for cell in value.flat):
        raise Refused(f"{name} is a cell array that does not hold one text per cell")
    return np.array([str(cell.item()) if cell.size else "" for cell in value.flat], str)


def main(path: str, out: str, largest: int, names: list[str]):
    """Write the named arrays to ``out``, and the names of all as the array ``__names__``."""
    with open(path, "rb") as stream:
        listing = scipy.io.whosmat(stream)
        for name, shape, kind in listing:
            size = 8.0 * float(np.prod([float(n) for n in shape]))
            if size > largest:
                raise Refused(
                    f"{name} ({kind}) would take {size / 2**30:,.0f} GB; at most {largest / 2**30:g} GB are read"
                )
        stream.seek(0)
        present = [name for name, _, _ in listing]
        wanted = [name for name in present if name in names]
        values = scipy.io.loadmat(stream, variable_names=wanted) if wanted else {}
    arrays: dict[str, Any] = {name: plain(values[name], name) for name in wanted}
    np.savez(out, __names__=np.array(present, str), **arrays)


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
    except Exception as error:
        print(" ".join((str(error) or type(error).__name__).split())[:300], file=sys.stderr)
        sys.exit(REFUSED if isinstance(error, Refused) else 1)
