"""What long work tells of itself while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Progress(NamedTuple):
    """How far a stage is.

    Attributes
    ----------
    stage : str
        In words, such as ``"search"``.
    done : int
    total : int or None
        None where it is not known.
    text : str
        What there is to say, such as the loss and the time left.
    values : mapping
        Parameter values where the stage is, where it moves from one to the next.
    """

    stage: str
    done: int
    total: int | None = None
    text: str = ""
    values: Mapping[str, Any] = MappingProxyType({})


#: Whatever takes a :class:`Progress`: every function that takes long has the argument ``progress``.
Reporter = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Say nothing."""
