"""The one exception type for input that a person can correct."""


class InputError(ValueError):
    """Input that cannot be used as it is, with a sentence that says what to change.

    Everything the library refuses at its door is refused with this type, so that a script can
    print the sentence and exit, while a programming error still ends in a traceback.

    Examples
    --------
    >>> from fitting import InputError
    >>> issubclass(InputError, ValueError)
    True
    """
