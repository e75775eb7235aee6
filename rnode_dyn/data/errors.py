"""What this floor raises: a sentence saying what was given, why it cannot be, what to write."""


class DataError(ValueError):
    """Data, or an option of a data set, that cannot be used as asked."""


class MissingDataError(DataError):
    """A data set whose files are not where they were looked for; the message says how to get it."""
