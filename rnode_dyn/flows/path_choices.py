"""Which ways of laying and weighing straight paths go together."""

from typing import Literal


def excluded_choice(
    coupling: str | None, times: str | None, weighting: str | None, targets: str | None
) -> tuple[Literal["weighting", "targets"], str] | None:
    """Return which of these choices does not go with the others, and why.

    Example:
        >>> excluded_choice("minibatch-ot", "near-data", "even", "expected")[0]
        'targets'
    """
    if weighting == "likelihood" and times == "logit-normal":
        return "weighting", (
            "logit-normal times hardly ever come near the data, where the likelihood weighs most: "
            'say times = "near-data"'
        )
    if weighting == "likelihood" and coupling != "independent":
        return "weighting", (
            f"errors count so where noise is drawn independently of the data, not with {coupling}: "
            'say weighting = "even"'
        )
    if targets == "expected" and coupling != "independent":
        return "targets", (
            f"with {coupling} what a pixel's noise is says which noise its path goes to: say "
            'targets = "drawn"'
        )
    return None
