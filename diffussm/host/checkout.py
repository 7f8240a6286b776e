"""The git checkout that the code lies in. A repository counts only if it holds this code at its top level: code that
was unpacked inside another repository belongs to none of its commits."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

SECONDS = 20  # that a git command may take
HELD = "diffussm/config/schema.py"  # a file that every repository of this code has
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")
_UNCACHED = ("core.sparseCheckout=false", "core.ignoreStat=false", "core.fsmonitor=false")  # what files hold is read
_DIFF = ("diff", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")


@dataclass(frozen=True)
class Checkout:
    """The commit that the code was checked out from, and what the code has on top of it.

    `commit` is None, with the reason in `absence`, if no commit names the code. `changes` is a patch of the code's own
    files; `untracked` are those that the commit does not have.
    """

    commit: str | None = None
    absence: str = ""
    changes: bytes = b""
    untracked: tuple[str, ...] = ()

    @property
    def dirty(self) -> bool | None:
        """Whether any file of the code differs from the commit; None without a commit."""
        return None if self.commit is None else bool(self.changes or self.untracked)


def read_checkout(root: Path, files: Collection[str], is_code: Callable[[str], bool]) -> Checkout:
    """Return the checkout at the folder `root`. `files` are the code's files there; `is_code` says of the path of a
    file, which may have been deleted, whether it belongs to the code."""
    try:
        top = Path(os.fsdecode(_git(root, "rev-parse", "--show-toplevel").removesuffix(b"\n")))
        if top.resolve() != root.resolve():
            return Checkout(absence=f"it lies inside another repository, {top}")
        commit = _git(root, "rev-parse", "--verify", "HEAD").decode().strip()
        tracked = set(filter(is_code, _names(_git(root, "ls-tree", "-r", "-z", "--name-only", commit))))
        if HELD not in tracked:
            return Checkout(absence=f"the repository {top} does not hold it")
        changes = _changes(root, commit, tracked)
    except FileNotFoundError:
        return Checkout(absence="git is missing")
    except subprocess.CalledProcessError as error:
        return Checkout(absence=_first_line(error.stderr))
    except (OSError, subprocess.SubprocessError) as error:
        return Checkout(absence=f"git failed: {error}")
    return Checkout(commit, changes=changes, untracked=tuple(sorted({*files} - tracked)))


def ignored_variables() -> list[str]:
    """Return the variables of the environment that would make git look at another repository, were they not ignored."""
    return [name for name in _ELSEWHERE if name in os.environ]


def _changes(root: Path, commit: str, tracked: Collection[str]) -> bytes:
    """Return a patch from the commit to the files, by what they hold: the user's index, in which files may be marked as
    unchanged or as not checked out, is left alone."""
    with tempfile.TemporaryDirectory() as folder:
        index = os.path.join(folder, "index")
        _git(root, "read-tree", commit, index=index)
        return _git(root, *_DIFF, commit, "--", *sorted(tracked), index=index)


def _git(root: Path, *arguments: str, index: str = "") -> bytes:
    """Return the output of a git command at `root`, which sees none of the environment's GIT_* variables, nor any
    object in another one's place; `index` replaces the repository's."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"LC_ALL": "C", "GIT_LITERAL_PATHSPECS": "1", "GIT_OPTIONAL_LOCKS": "0"}
    environment |= {"GIT_NO_REPLACE_OBJECTS": "1"} | ({"GIT_INDEX_FILE": index} if index else {})
    command = ["git", *(part for setting in _UNCACHED for part in ("-c", setting)), *arguments]
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, check=True, timeout=SECONDS, stdin=subprocess.DEVNULL
    ).stdout


def _names(output: bytes) -> list[str]:
    return [os.fsdecode(name) for name in output.split(b"\0") if name]


def _first_line(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").splitlines()
    return lines[0].removeprefix("fatal: ") if lines else "git failed"
