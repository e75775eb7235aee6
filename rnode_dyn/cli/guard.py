"""What a user can get wrong, and how a command ends: one message, an exit status, no traceback."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

import typer
from rich.markup import escape

from rnode_dyn.cli.printing import errors

WRONG_INPUT = 2
FAILED = 1
INTERRUPTED = 130

Command = TypeVar("Command", bound=Callable[..., None])


def guarded(command: Command) -> Command:
    """Turn what a user can get wrong into one message and an exit status, without a traceback."""

    @wraps(command)
    def run_guarded(*args: Any, **kwargs: Any) -> None:
        try:
            with _warnings_told():
                command(*args, **kwargs)
        except KeyboardInterrupt:
            errors().print("interrupted", style="yellow")
            raise typer.Exit(INTERRUPTED) from None
        except (OSError, ValueError, RuntimeError) as error:
            status = exit_status(error)
            if status is None:
                raise
            _say(error)
            raise typer.Exit(status) from None

    return run_guarded  # type: ignore[return-value]


@contextmanager
def _warnings_told() -> Iterator[None]:
    """Say what a user has to know of data or of a run as this command says things."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Any, category: type[Warning], *where: Any) -> None:
            from rnode_dyn.data.errors import DataWarning
            from rnode_dyn.runs.errors import RunWarning

            if not issubclass(category, DataWarning | RunWarning):
                usual(message, category, *where)
                return
            text = f"[yellow]warning:[/] {escape(str(message))}"
            errors().print(text, highlight=False, soft_wrap=True)

        warnings.showwarning = show
        yield


def exit_status(error: Exception) -> int | None:
    """Return the status with which the command ends on an error; ``None`` for a fault of ours."""
    # Imported here, since a command that goes well needs none of them.
    from rnode_dyn.data.errors import DataError
    from rnode_dyn.evaluation.errors import TooManyDimensionsError
    from rnode_dyn.numerics.errors import SolverError
    from rnode_dyn.recipe.errors import RecipeError
    from rnode_dyn.runs.errors import RunError
    from rnode_dyn.training.loop.errors import DivergedError, LostProcessError

    if isinstance(error, SolverError | DivergedError | LostProcessError):
        return FAILED
    told = (RecipeError, DataError, RunError, TooManyDimensionsError, OSError)
    return WRONG_INPUT if isinstance(error, told) else None


def _say(error: Exception) -> None:
    message = "\n".join([str(error), *getattr(error, "__notes__", [])])
    errors().print(f"[red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
