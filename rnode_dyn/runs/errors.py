"""What is raised of a run folder that cannot be used, and warned of one that can."""


class RunError(ValueError):
    """A run folder that cannot be used, and why."""


class RunWarning(UserWarning):
    """A run folder that can be used, with something about it that a user has to know."""


class SaveError(RunError):
    """Something of a run could not be written; what had been saved before is whole."""


class ExportError(RunError):
    """A flow that cannot be exported, and why; nothing was written."""
