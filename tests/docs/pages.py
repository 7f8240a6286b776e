"""The project's pages: the commands, links and headings in them, and a harmless form of each command."""

import re
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WITH_COMMANDS = [  # paths below ROOT
    "README.md",
    "CONTRIBUTING.md",
    "slurm/README.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")),
]
PAGES = [*WITH_COMMANDS, "CHANGELOG.md", "slurm/local_cluster/README.md", "reports/published/README.md"]
PROGRAMS = ("make ", "pytest bench/", "python ", "diffussm ", "torchrun ")  # whose commands stand in prose, too
NOT_OURS = ("git ", "cd ", "source ", ". ", "cp ", "sed ", "mkdir ", "tar ", "for ", "export ")
QUICK_SUITE = "bench/test_startup.py"  # imports little
STANDS_FOR = {  # files that the pages have the reader write, and existing ones
    "--base mine.toml": "--base digits",
    "--base flat.toml": "--base digits",
    "--base paper256.toml": "--base imagenet256",
    "--profile mylab.toml": "--profile a100",
    "--grid ema": "--grid residual",
    "--grid my_grid.toml": "--grid residual",
}
FENCED = re.compile(r"^```.*?^```", flags=re.M | re.S)


def text(page: str) -> str:
    return (ROOT / page).read_text()


def commands(page: str) -> list[str]:
    """The commands of the page: lines of shell blocks, indented lines that begin with make, and code in prose."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text(page), flags=re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    lines += re.findall(r"^ {4}(make \S+)", text(page), flags=re.M)
    code = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCED.sub("", text(page)))]
    lines += [span for span in code if span.startswith(PROGRAMS)]
    return list(dict.fromkeys(re.split(r" +# ", line)[0] for line in lines))


def words_of(command: str) -> list[str]:
    """The words of a command without torchrun or srun before it, and with existing files for those not yet written."""
    for placeholder, existing in STANDS_FOR.items():
        command = command.replace(placeholder, existing)
    return shlex.split(re.sub(r"^(torchrun .*(-m|--no-python) |srun .*)diffussm ", "diffussm ", command))


def harmless(command: str) -> list[str]:
    """The command in a form that shows it exists and takes these arguments, but makes nothing."""
    words = words_of(command)
    match words:
        case ["make", *_]:
            return [*words, "--dry-run", f"PYTHON={sys.executable}"]  # none is looked for, as takes a second
        case ["pytest", *given]:
            suite = [re.sub("^bench/$", QUICK_SUITE, word) for word in given]
            return [sys.executable, "-m", "pytest", *suite, "--collect-only", "-q"]
        case ["diffussm", "cost", model, *_] if model != "MODEL":
            return [sys.executable, "-m", *words]
        case ["diffussm", ("data" | "reference") as group, subcommand, *_]:
            return [sys.executable, "-m", "diffussm", group, subcommand, "--help"]
        case ["diffussm", subcommand, *_]:
            return [sys.executable, "-m", "diffussm", subcommand, "--help"]
        case ["python", "-m", "bench.random_features"]:
            return [sys.executable, *words[1:], "--help"]
        case ["python", "-m", module]:
            return [sys.executable, "-c", f"import importlib.util as u; assert u.find_spec({module!r})"]
        case ["python", "ablations/launch.py", *given] if "--calibrate" not in given:  # it would measure
            dry = [] if "--dry-run" in given else ["--dry-run"]
            return [sys.executable, *words[1:], *dry]
        case ["python", "ablations/manage.py", subcommand, *_]:
            return [sys.executable, "ablations/manage.py", subcommand, "--help"]
        case ["python", script, *_]:
            return [sys.executable, script, "--help"]
    raise AssertionError(f"unknown kind of command: {command}")


def options(command: str) -> list[str]:
    """The options of the command, which its help must name."""
    return [word.partition("=")[0] for word in words_of(command) if re.match("-[a-z-]", word) and word != "-m"]


def links(page: str) -> list[str]:
    """Targets of the page's links and images, without those on the web."""
    found = re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", text(page)))
    return [link for link in found if not re.match(r"https?://", link)]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of the page."""
    out: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?)\s*$", FENCED.sub("", page.read_text()), flags=re.M):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = unique = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        number = 0
        while unique in out:
            number += 1
            unique = f"{anchor}-{number}"
        out.add(unique)
    return out
