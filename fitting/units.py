"""Physical quantities at the boundary; plain numbers inside compiled code.

Compiled code works in milliseconds, millimetres and millimetres per millisecond (the same number
as metres per second). People write ``"2 m/s"``, ``2 * u.meter / u.second`` or a bare number that
is already in the unit named by the function's documentation.
"""

from __future__ import annotations

import re
from typing import Any

import brainunit as u

from fitting.errors import InputError

#: Units that a setting may be written in, by the spelling used in configuration files.
UNITS = {
    "1": u.UNITLESS,
    "us": u.us,
    "ms": u.ms,
    "s": u.second,
    "min": u.minute,
    "Hz": u.Hz,
    "1/s": u.Hz,
    "kHz": u.kHz,
    "m/s": u.meter / u.second,
    "mm/ms": u.mm / u.ms,
    "mm": u.mm,
    "cm": u.cm,
    "m": u.meter,
    "mV": u.mV,
    "mV/s": u.mV / u.second,
    "nA": u.nA,
}

_NUMBER_AND_UNIT = re.compile(r"^\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S*)\s*$")


def unit(name: str, what: str = "unit") -> Any:
    """The brainunit unit that ``name`` spells, see :data:`UNITS`; ``what`` it is of, for the error message."""
    try:
        return UNITS[name or "1"]
    except KeyError:
        raise InputError(f"{what}: unknown unit {name!r}; known units are {', '.join(UNITS)}") from None


def magnitude(value: Any, name: str, what: str = "value") -> Any:
    """The plain number of ``value`` in the unit ``name``.

    Parameters
    ----------
    value : number, array, str or brainunit.Quantity
        A bare number is taken to be in ``name`` already; a string such as ``"2 m/s"`` and a
        quantity are converted.
    name : str
        Unit to convert to, a key of :data:`UNITS`.
    what : str
        What the value is, for the error message.

    Returns
    -------
    float or array

    Raises
    ------
    InputError
        If the text is not a number with a unit, or the unit has another dimension.

    Examples
    --------
    >>> from fitting.units import magnitude
    >>> magnitude("0.5 s", "ms")
    500.0
    >>> magnitude(3.0, "m/s")
    3.0
    """
    if value is None:
        raise InputError(f"{what}: a number of {name} is needed")
    if isinstance(value, str):
        match = _NUMBER_AND_UNIT.match(value)
        if match is None:
            raise InputError(f"{what}: cannot read {value!r}; write a number and a unit, such as '2 {name}'")
        number, text = float(match.group(1)), match.group(2)
        value = number * unit(text, what) if text and text != "1" else number
    if not isinstance(value, u.Quantity):
        return value
    target = unit(name)
    if not u.have_same_dim(value, 1.0 * target):
        raise InputError(f"{what}: {value} is not in units of {name}; write it as a number of {name}")
    return value.to_decimal(target)


def in_words(seconds: float) -> str:
    """A duration as a reader wants it.

    Examples
    --------
    >>> from fitting.units import in_words
    >>> [in_words(s) for s in (12.3, 300.0, 7000.0)]
    ['12 s', '5 min', '1.9 h']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
