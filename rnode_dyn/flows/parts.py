"""What a part of a flow or a layer must be."""


def check_part(name: str, value: object, kind: type, example: str) -> None:
    """Refuse a part of another kind; ``None`` is a part left out.

    Raises:
        TypeError: saying what was given, and what to write.

    Example:
        >>> check_part("solver", "dopri5", int, "Solver()")
        Traceback (most recent call last):
        TypeError: solver is 'dopri5'; write a int, such as Solver().
    """
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{name} is {value!r}; write a {kind.__name__}, such as {example}.")
