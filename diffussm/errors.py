"""Errors that a user can cause, reported in one line without a traceback and with exit code 2."""

import argparse
import contextlib
import difflib
import errno
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

USER_ERRNOS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EIO,
    errno.ESTALE,
)


class UserError(Exception):
    """A mistake of the user; the message names the field, the value and what is allowed."""


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises UserError, so that its errors are reported as all others."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


class Diverged(Exception):
    """A training's loss is not finite."""


class NotFinite(ValueError):
    """The output of a network is not finite; the message names the first sample concerned."""


@contextlib.contextmanager
def naming_weights(weights: object, kind: type[Exception] = NotFinite) -> Iterator[None]:
    """Let a NotFinite raised inside begin with the weights that the samples are of, as an error of this kind."""
    try:
        yield
    except NotFinite as error:
        raise kind(f"{weights}: {error}") from None


def unknown(what: str, name: str, valid: Iterable[str], other: str = "") -> UserError:
    """Return the error for a name that is not one of `valid`: it suggests the nearest and lists them all.

    `other` describes what else is valid, such as a path.
    """
    names = sorted(valid)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return UserError(f"{what}: unknown name {name!r}; {hint}valid: {', '.join(names)}{f', or {other}' * bool(other)}")


def is_of_missing_file(error: OSError) -> bool:
    """Return whether a file, which the error names, is not there or cannot be made there, as in /proc."""
    return error.errno == errno.ENOENT and bool(error.filename)


def one_line(error: UserError | OSError) -> str:
    """Return the message of the error in one line."""
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        message = str(error)
    return printable(" ".join(message.split()))


def printable(text: str) -> str:
    """Return the text with everything that is not printable, such as control characters and line ends, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def exit_code(main: Callable[[], int]) -> int:
    """Run `main` and return its exit code; 2 after a UserError or an error of the file system that a user can cause,
    whose message is printed in one line, and 130 after Ctrl-C. What the output's encoding lacks is printed escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return main()
    except UserError as error:
        message = one_line(error)
    except OSError as error:
        if error.errno not in USER_ERRNOS and not is_of_missing_file(error):
            raise
        message = one_line(error)
    except KeyboardInterrupt:
        return 130
    print(f"error: {message}", file=sys.stderr)
    return 2
