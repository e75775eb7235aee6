"""What is raised where a flow cannot be measured as asked."""


class TooManyDimensionsError(ValueError):
    """A block of too many dimensions for the exact trace."""
