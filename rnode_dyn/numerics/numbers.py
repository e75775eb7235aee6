"""Checking the numbers that people give."""

import math


def check_positive(owner: str, **values: float) -> None:
    """Raise ``ValueError`` for what is no positive number, naming its owner and itself."""
    for name, value in values.items():
        if not (isinstance(value, int | float) and 0 < value < math.inf):
            raise ValueError(
                f"{owner}: {name} is {value!r}; write a positive number (time may run backwards "
                "all the same: t_span alone gives the direction)."
            )
