"""The one exception a user sees."""


class PosesynError(Exception):
    """Bad input or environment. The message says what is wrong, where, and what to do about it."""


def bad_input(error: BaseException) -> str | None:
    """The sentence for the user, where an exception is a :class:`PosesynError` or was raised from one (the config
    parser wraps what constructors raise, once for each type that an argument may have); None for any other.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, PosesynError):
        cause = cause.__cause__
    # A loader process sends its traceback along, as text.
    return None if cause is None else str(cause).strip().rsplit("PosesynError: ", 1)[-1]
