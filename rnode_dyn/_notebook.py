"""How things of every floor look in a notebook: a flow, a recipe, a run.

What they are shown by, pictures and costs, stands on floors above theirs. So nothing of it is
imported here: it is found by its name when a notebook asks.
"""

from collections.abc import Callable
from importlib import import_module


def shown_by(name: str) -> Callable[[object], str]:
    """Return a ``_repr_html_`` that asks a function of ``rnode_dyn.report.notebook``.

    Args:
        name: The function's name; it takes the object, and returns HTML.
    """

    def _repr_html_(self: object) -> str:
        """Show this in a notebook."""
        return getattr(import_module("rnode_dyn.report.notebook"), name)(self)

    return _repr_html_
