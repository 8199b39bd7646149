"""The one exception a user sees."""


class PosesynError(Exception):
    """Bad input or environment. The message says what is wrong, where, and what to do about it."""
