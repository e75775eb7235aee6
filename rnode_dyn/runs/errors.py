"""What is raised of a run folder that cannot be used."""


class RunError(ValueError):
    """A run folder that cannot be used, and why."""


class SaveError(RunError):
    """Something of a run could not be written; what had been saved before is whole."""
