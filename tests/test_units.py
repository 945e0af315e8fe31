"""Units at the boundary."""

import brainunit as u
import pytest

from fitting import InputError
from fitting.units import magnitude


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        ("2 m/s", "m/s", 2.0),
        ("2 mm/ms", "m/s", 2.0),
        ("1e3 ms", "s", 1.0),
        (" .5s ", "ms", 500.0),
        ("3", "Hz", 3.0),
        (4, "mm", 4),
        (2 * u.second, "ms", 2000.0),
        ("2 min", "s", 120.0),
        ("0.1", "1", 0.1),
    ],
)
def test_conversion(value, unit, expected):
    assert magnitude(value, unit) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        ("fast", "m/s", "cannot read 'fast'"),
        ("2 parsec", "m/s", "unknown unit 'parsec'"),
        ("2 s", "m/s", "not in units of m/s"),
        (2 * u.mV, "ms", "not in units of ms"),
    ],
)
def test_refusals(value, unit, words):
    with pytest.raises(InputError, match=words):
        magnitude(value, unit, "speed")
