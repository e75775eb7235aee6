"""What is wrong with a recipe, as one message that a person can act on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a recipe.

    Example:
        >>> print(Problem("my.toml", "data.levels", "", "1", "a whole number of at least 2"))
        my.toml: data.levels: given 1; allowed: a whole number of at least 2
    """

    file: str
    """The recipe file, or the override as it was typed."""

    key: str = ""
    """The dotted key, empty where the whole file is wrong."""

    reason: str = ""
    """What is wrong, where that is more than a value that is not allowed."""

    given: str = ""
    """What was given, as the message shows it."""

    allowed: str = ""
    """What is allowed, in words."""

    suggestion: str = ""
    """The nearest right spelling."""

    def __str__(self) -> str:
        """The problem in one line."""
        details = [
            self.reason,
            self.given and f"given {self.given}",
            self.allowed and f"allowed: {self.allowed}",
            self.suggestion and f"did you mean {self.suggestion}?",
        ]
        where = [part for part in (self.file, self.key) if part]
        return ": ".join([*where, "; ".join(filter(None, details))])


class RecipeError(ValueError):
    """A recipe that cannot be used, and why.

    Its `file`, `key`, `given`, `allowed` and `suggestion` are those of the first problem.

    Args:
        problems: Everything that is wrong, at least one.

    Example:
        >>> error = RecipeError(Problem("a.toml", "sead", "unknown key"), Problem("a.toml", "nmae"))
        >>> len(error.problems), error.file, error.key
        (2, 'a.toml', 'sead')
    """

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems

    @property
    def file(self) -> str:
        """The recipe file, or the override as it was typed."""
        return self.problems[0].file

    @property
    def key(self) -> str:
        """The dotted key, empty where the whole file is wrong."""
        return self.problems[0].key

    @property
    def given(self) -> str:
        """What was given, as the message shows it."""
        return self.problems[0].given

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        return self.problems[0].allowed

    @property
    def suggestion(self) -> str:
        """The nearest right spelling, empty where there is none."""
        return self.problems[0].suggestion

    def __str__(self) -> str:
        """The one problem, or a header and one line for each."""
        if len(self.problems) == 1:
            return str(self.problems[0])
        header = f"the recipe has {len(self.problems)} mistakes:"
        return "\n  ".join([header, *map(str, self.problems)])


def problem_at(name: str, key: str, reason: str) -> RecipeError:
    """Return the error of a recipe of this name that is wrong at a key.

    Example:
        >>> print(problem_at("mine", "model.bells", "drop it"))
        recipe mine: model.bells: drop it
    """
    return RecipeError(Problem(f"recipe {name}", key, reason))
