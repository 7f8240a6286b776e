"""Every command of every page runs (as --help or --dry-run) and every link leads somewhere."""

import os
import re
import subprocess
import sys
from functools import cache

import pytest

from tests.docs import pages
from tests.support import forked

COMMANDS = sorted({command for page in pages.WITH_COMMANDS for command in pages.commands(page)})
OURS = [command for command in COMMANDS if not command.startswith(pages.NOT_OURS)]


@cache  # many commands have one help
def output(*words: str) -> tuple[int, str]:
    """Exit code and output of a command."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    environment["COLUMNS"] = "200"
    if words[0] == sys.executable:
        done = forked.run(words, cwd=pages.ROOT, env=environment)
    else:
        done = subprocess.run(words, cwd=pages.ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("command", OURS)
def test_command(command: str) -> None:
    harmless = pages.harmless(command)
    code, shown = output(*harmless)
    assert code == 0, shown
    if harmless[-1] == "--help":
        plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
        unknown = [option for option in pages.options(command) if not re.search(rf"(?<![\w-]){option}(?![\w-])", plain)]
        assert not unknown, plain


def test_the_users_commands_are_in_the_readme() -> None:
    assert {
        "python ablations/launch.py --grid hourglass_vs_patch",
        "pytest bench/ --benchmark-only",
        "python reports/make_figures.py",
        "make demo",
        "make test",
    } <= set(pages.commands("README.md"))


def test_the_readme_has_at_most_150_lines() -> None:
    assert len(pages.text("README.md").splitlines()) <= 150


@pytest.mark.parametrize("page", pages.PAGES)
def test_links(page: str) -> None:
    here = pages.ROOT / page
    for link in pages.links(page):
        path, hash_sign, anchor = link.partition("#")
        target = here.parent / path if path else here
        assert target.exists(), link
        if hash_sign:
            assert anchor in pages.anchors(target), link


def test_every_page_is_in_the_index() -> None:
    listed = {link.partition("#")[0] for link in pages.links("docs/README.md")}
    written = {path.name for path in (pages.ROOT / "docs").glob("*.md")} - {"README.md"}
    assert written <= listed


def test_anchors_are_those_of_github(tmp_path: pages.Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# What `make demo` makes\n\n```sh\n# no heading\n```\n\n## A [link](x.md), too\n\n## A link, too\n"
    )
    assert pages.anchors(page) == {"what-make-demo-makes", "a-link-too", "a-link-too-1"}
