"""What this floor raises, and warns of: a sentence saying what was given, why, what to write."""


class DataError(ValueError):
    """Data, or an option of a data set, that cannot be used as asked."""


class MissingDataError(DataError):
    """A data set whose files are not where they were looked for; the message says how to get it."""


class DataWarning(UserWarning):
    """Data that are used, with something about them that a user has to know."""
