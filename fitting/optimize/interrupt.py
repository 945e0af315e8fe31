"""Ctrl-C that waits for the end of a step."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Interrupt:
    """While it is entered, the first Ctrl-C is remembered, and the second one interrupts at once.

    Attributes
    ----------
    asked : bool
        Whether there has been one.

    Examples
    --------
    >>> import signal
    >>> from fitting.optimize.interrupt import Interrupt
    >>> with Interrupt() as interrupt:
    ...     signal.raise_signal(signal.SIGINT)
    ...     print(interrupt.asked)
    True
    """

    def __init__(self):
        self.asked = False

    def __enter__(self) -> Interrupt:
        # Signals reach the main thread only; elsewhere Ctrl-C stays as it is.
        self._listens = threading.current_thread() is threading.main_thread()
        if self._listens:
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_):
        if self._listens:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: FrameType | None):
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
