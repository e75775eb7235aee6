"""What is raised of a run folder that cannot be used."""


class RunError(ValueError):
    """A run folder that cannot be used, and why."""
