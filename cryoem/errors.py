"""The one exception for input that a user can put right."""


class InputError(Exception):
    """Bad input, described in one or two lines.

    The message names the file, the row or key, the value, and the way out. Entry points print it
    to stderr without a traceback and exit with status 2.
    """
