"""The error of everything that reads pictures, labels and measurements."""


class DataError(Exception):
    """Data that are missing, damaged or of another kind, and in which file."""
