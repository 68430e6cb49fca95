"""The errors that a user sees: each is one sentence that says what is wrong and what to do."""

from __future__ import annotations


class PennameError(Exception):
    """A run that failed for a reason the user can act on. The command line prints it as one line and exits 1."""

    exit_code = 1


class UsageError(PennameError):
    """The command or the config is wrong: nothing was started. Exit code 2."""

    exit_code = 2


class DataError(PennameError):
    """The input data cannot be used: names the file, the line where there is one, and what to do. Exit code 1."""


class ModelError(PennameError):
    """The model cannot be found, loaded or adapted. Exit code 1."""


class RunDirError(PennameError):
    """The run folder cannot be used as asked: another run, another process, a damaged file. Exit code 1."""


class StoreError(PennameError):
    """A place for files (S3, the hub, a web server) does not give or take what it should. Exit code 1."""
