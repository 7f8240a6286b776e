"""Provenance names the commit that the code was checked out from, and never one of another repository."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.plan import snapshot
from ablations.status import doctor
from diffussm.host import source

TOKEN = "token-0123456789"
CODE = {
    "diffussm/config/schema.py": "DEPTH = 1\n",
    "diffussm/ssm/scan.py": "LEFT, RIGHT = 0, 1\n",
    "ablations/launch.py": "import diffussm\n",
}
OTHER = {"README.md": "a model\n", "ablations/grids/depth.toml": 'claim = "a"\n', "tests/test_scan.py": "pass\n"}


def git(where: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, *arguments]
    done = subprocess.run(command, cwd=where, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def repository(where: Path, content: dict[str, str]) -> str:
    """Make a repository with one commit of these files, and return the commit."""
    write(where, content)
    git(where, "init", "-q")
    git(where, "add", "-A")
    git(where, "commit", "-q", "-m", "first")
    return git(where, "rev-parse", "HEAD")


def write(where: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (where / name).parent.mkdir(parents=True, exist_ok=True)
        (where / name).write_text(text)


def identity(root: Path) -> tuple[str | None, bool | None]:
    found = source.identify(root)
    assert found["code"] == source.digest(source.files(root))
    return found["commit"], found["dirty"]


def test_the_commit_of_a_checkout_is_named(tmp_path: Path) -> None:
    commit = repository(tmp_path, CODE | OTHER)
    assert identity(tmp_path) == (commit, False)


def test_a_work_tree_and_a_linked_root_are_checkouts(tmp_path: Path) -> None:
    commit = repository(tmp_path / "main", CODE)
    git(tmp_path / "main", "worktree", "add", "-q", str(tmp_path / "second"))
    (tmp_path / "link").symlink_to(tmp_path / "second")
    assert identity(tmp_path / "second") == identity(tmp_path / "link") == (commit, False)


def unpacked_inside(outer: Path, root: Path) -> str:
    repository(outer, {"notes.txt": "mine\n"})
    write(root, CODE)
    return f"it lies inside another repository, {outer}"


def committed_below(outer: Path, root: Path) -> str:
    write(root, CODE)
    repository(outer, {"notes.txt": "mine\n"})
    return f"it lies inside another repository, {outer}"


def unpacked_over(outer: Path, root: Path) -> str:
    outer.mkdir()
    repository(root, {"notes.txt": "mine\n"})
    write(root, CODE)
    return f"the repository {root} does not hold it"


def never_committed(outer: Path, root: Path) -> str:
    outer.mkdir()
    write(root, CODE)
    git(root, "init", "-q")
    return "Needed a single revision"


def without_repository(outer: Path, root: Path) -> str:
    outer.mkdir()
    write(root, CODE)
    return "not a git repository (or any of the parent directories): .git"


@pytest.mark.parametrize("lay", [unpacked_inside, committed_below, unpacked_over, never_committed, without_repository])
def test_code_of_no_commit_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lay: Callable[[Path, Path], str]
) -> None:
    outer = tmp_path / "outer"
    root = outer / "code"
    reason = lay(outer, root)
    write(outer, {"notes.txt": TOKEN})
    write(root, {"notes.txt": TOKEN})
    assert identity(root) == (None, None)
    found = source.checkout(root)
    assert found.absence == reason
    assert found.changes == b""
    monkeypatch.setattr(source, "ROOT", root)
    monkeypatch.setattr(source, "origin", lambda: source.identify(root))
    check = doctor._code()
    assert check.verdict == "warning"
    assert check.message.endswith(f"no commit is recorded with results: {reason}")


@pytest.mark.parametrize(
    "variables",
    [
        {"GIT_DIR": ".git"},
        {"GIT_DIR": ".git", "GIT_WORK_TREE": "."},
        {"GIT_INDEX_FILE": ".git/index"},
        {"GIT_OBJECT_DIRECTORY": ".git/objects"},
        {"GIT_CEILING_DIRECTORIES": "."},
        {"GIT_EXTERNAL_DIFF": "none"},
    ],
)
def test_the_environment_leads_to_no_other_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    root, other, bare = (tmp_path / name for name in ("code", "other", "unpacked"))
    commit = repository(root, CODE)
    repository(other, CODE | {"diffussm/config/schema.py": TOKEN})
    write(bare, CODE)
    write(root, {"diffussm/ssm/scan.py": "LEFT = 1\n"})
    for name, value in variables.items():
        monkeypatch.setenv(name, str(other / value))
    assert identity(root) == (commit, True)
    assert b"+LEFT = 1" in source.checkout(root).changes
    assert TOKEN.encode() not in source.checkout(root).changes
    assert identity(bare) == (None, None)


def test_doctor_names_what_it_ignores_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = repository(tmp_path, CODE)
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setattr(source, "ROOT", tmp_path)
    monkeypatch.setattr(source, "origin", lambda: source.identify(tmp_path))
    check = doctor._code()
    assert check.verdict == "ok"
    assert f"commit {commit[:12]}; GIT_DIR of the environment: ignored" in check.message


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(tmp_path, CODE)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert identity(tmp_path) == (None, None)
    assert source.checkout(tmp_path).absence == "git is missing"


def test_changes_are_those_of_the_code_alone(tmp_path: Path) -> None:
    repository(tmp_path, CODE | OTHER)
    write(tmp_path, dict.fromkeys(OTHER, TOKEN))
    write(tmp_path, {"secrets.py": TOKEN, "diffussm/notes.md": TOKEN})
    git(tmp_path, "add", "secrets.py", "diffussm/notes.md")
    git(tmp_path, "config", "diff.noprefix", "true")
    git(tmp_path, "config", "color.ui", "always")
    assert not source.checkout(tmp_path).dirty
    write(tmp_path, {"ablations/launch.py": "import torch\n"})
    (tmp_path / "diffussm/ssm/scan.py").unlink()
    changes = source.checkout(tmp_path).changes.decode()
    assert TOKEN not in changes
    assert [line for line in changes.splitlines() if line.startswith("diff ")] == [
        "diff --git a/ablations/launch.py b/ablations/launch.py",
        "diff --git a/diffussm/ssm/scan.py b/diffussm/ssm/scan.py",
    ]
    assert source.checkout(tmp_path).dirty


@pytest.mark.parametrize("ignored", [True, False])
def test_an_untracked_file_is_a_change(tmp_path: Path, ignored: bool) -> None:
    repository(tmp_path, CODE | {".gitignore": "new.py\n" if ignored else ""})
    write(tmp_path, {"diffussm/new.py": "x = 1\n"})
    found = source.checkout(tmp_path)
    assert (found.dirty, found.untracked) == (True, ("diffussm/new.py",))


def test_a_copy_holds_the_identity_and_the_changes_of_its_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = repository(tmp_path / "code", CODE | OTHER)
    write(tmp_path / "code", {"diffussm/ssm/scan.py": "LEFT = 1\n", "README.md": TOKEN})
    monkeypatch.setattr(source, "ROOT", tmp_path / "code")
    runs = tmp_path / "code" / "runs"  # inside the repository
    with snapshot.code_snapshot(runs, []) as copy:
        assert source.identify(copy) == {"code": copy.name, "commit": commit, "dirty": True}
        assert "+LEFT = 1" in (copy / source.CHANGES).read_text()
        assert TOKEN not in (copy / source.CHANGES).read_text()
        changed = copy / "ablations" / "launch.py"
        changed.chmod(0o644)
        changed.write_text("import os\n")
        assert identity(copy) == (None, None)


@pytest.mark.parametrize("mark", ["--assume-unchanged", "--skip-worktree"])
def test_an_edit_that_the_index_hides_is_dirty(tmp_path: Path, mark: str) -> None:
    commit = repository(tmp_path, CODE)
    git(tmp_path, "update-index", mark, "diffussm/ssm/scan.py")
    index = (tmp_path / ".git/index").read_bytes()
    (tmp_path / "diffussm/ssm/scan.py").write_text("LEFT, RIGHT = 1, 0\n")
    assert identity(tmp_path) == (commit, True)
    assert b"+LEFT, RIGHT = 1, 0" in source.checkout(tmp_path).changes
    assert (tmp_path / ".git/index").read_bytes() == index


def test_a_commit_in_the_place_of_another_is_not_compared_with(tmp_path: Path) -> None:
    commit = repository(tmp_path, CODE)
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "second")
    (tmp_path / "diffussm/ssm/scan.py").write_text("LEFT, RIGHT = 1, 0\n")
    git(tmp_path, "commit", "-q", "-a", "-m", "third")
    git(tmp_path, "replace", commit, "HEAD")
    git(tmp_path, "checkout", "-q", commit)
    assert identity(tmp_path) == (commit, True)
