"""The one exception type for input that a person can correct."""

import re

#: Longest sentence, in characters: what a damaged file holds can be longer.
LONGEST = 10_000


class InputError(ValueError):
    r"""Input that cannot be used as it is, with a sentence that says what to change.

    Everything the library refuses at its door is refused with this type, so that a script can
    print the sentence and exit, while a programming error still ends in a traceback.

    Examples
    --------
    >>> from fitting import InputError
    >>> issubclass(InputError, ValueError)
    True
    >>> print(InputError("one line, whatever\t a damaged file holds"))
    one line, whatever a damaged file holds
    """

    def __init__(self, message: str = ""):
        line = re.sub(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", message)
        super().__init__(line if len(line) <= LONGEST else f"{line[:LONGEST]} ...")
