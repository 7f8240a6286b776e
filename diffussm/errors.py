"""Errors that a user can cause, and how they are told: one line, exit code 2, no traceback."""

import argparse
import difflib
import errno
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn

REFUSALS = (
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
)


class UserError(Exception):
    """A mistake in what the user gave: the message names the field, the value and what is allowed."""


class Parser(argparse.ArgumentParser):
    """argparse, with its errors told like any other mistake of a user's."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


class Diverged(Exception):
    """A training's loss is not finite."""


class NotFinite(ValueError):
    """Numbers that a network gave: the message names the first sample that has them."""


def unknown(what: str, name: str, valid: Iterable[str]) -> UserError:
    """The error for a name that is not one of `valid`: suggests the nearest and lists them all."""
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UserError(f"{what}: unknown name {name!r}; {hint}valid: {', '.join(names)}")


def one_line(error: UserError | OSError) -> str:
    """Return what a user is told of the error, in one line."""
    told = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
    return " ".join(told.split())


def exit_code(main: Callable[[], int]) -> int:
    """Run `main`; a UserError, or a file system that refuses, is told in one line, with exit code 2; Ctrl-C is 130."""
    try:
        return main()
    except UserError as error:
        message = one_line(error)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        message = one_line(error)
    except KeyboardInterrupt:
        return 130
    print(f"error: {message}", file=sys.stderr)
    return 2
