"""Python programs, as `subprocess` runs them with `sys.executable`, forked from a server that has imported torch.

A new interpreter takes several seconds for that. Python programs that such a program starts are forked from it, with
their pipes, environment and session as usual. All modules but those of installed libraries are imported anew, from
where the program's own path leads.
"""

import contextlib
import importlib
import os
import runpy
import signal
import subprocess
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NoReturn

import torch

from tests.support.ending import ending_with_test
from tests.support.processes import FORKS

LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class Program:
    """A running `command`, which begins with `sys.executable`; it ends with its test. The interface is that of
    subprocess.Popen."""

    def __init__(self, command: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None):
        assert command[0] == sys.executable
        self.args = command
        self._folder = tempfile.TemporaryDirectory()
        self._printed = [Path(self._folder.name) / name for name in ("stdout", "stderr")]
        environment = dict(os.environ if env is None else env)
        given = (self._printed, cwd, list(command[1:]), environment, _path_of_libraries())
        self._process = FORKS.Process(target=_start_program, args=given, daemon=True)
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid
        ending_with_test(self)

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.join()
        self._folder.cleanup()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; return what was printed to stdout and to stderr, once."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        with self._folder:
            stdout, stderr = (path.read_text() for path in self._printed)
        return stdout, stderr


def run(command: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run the program to its end, as subprocess.run does."""
    program = Program(command, cwd, env)
    stdout, stderr = program.communicate()
    assert program.returncode is not None
    return subprocess.CompletedProcess(command, program.returncode, stdout, stderr)


@cache
def _path_of_libraries() -> list[str]:
    """`sys.path` of a new interpreter, without what its command and its environment put in front."""
    code = "import sys; print(*sys.path, sep='\\n')"
    return subprocess.check_output([sys.executable, "-I", "-c", code], text=True).splitlines()


class _Popen(subprocess.Popen):
    """Forks this process where a new interpreter would be started."""

    path_of_libraries: list[str]

    def __init__(self, args: Any, **options: Any):
        if args[0] == sys.executable:
            environment = options.get("env") or dict(os.environ)
            options["preexec_fn"] = partial(_continue_as, list(args[1:]), environment, self.path_of_libraries)
        super().__init__(args, **options)


def _start_program(
    printed: Sequence[Path], cwd: Path, argv: list[str], environment: Mapping[str, str], path: list[str]
) -> NoReturn:
    """Start the program in the fork of the server."""
    for number, file in enumerate([Path(os.devnull), *printed]):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
    os.chdir(cwd)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    subprocess.Popen = _Popen  # type: ignore[misc]
    _Popen.path_of_libraries = path
    _execute(argv, environment, path)


def _continue_as(argv: list[str], environment: Mapping[str, str], path: list[str]) -> NoReturn:
    """Continue a fork of a program as a new interpreter would start."""
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(number)
    _execute(argv, environment, path)


def _execute(argv: list[str], environment: Mapping[str, str], path: list[str]) -> NoReturn:
    """Do what `python *argv` does, from its start to its exit."""
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    for name in [name for name, module in sys.modules.items() if not _is_of_a_library(module)]:
        del sys.modules[name]
    importlib.invalidate_caches()
    sys.path[:] = [*filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)), *path]
    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    code: Any = 0
    try:
        _interpret(argv)
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    os._exit(code)


def _interpret(argv: list[str]) -> None:
    match argv:
        case ["-u", *rest]:  # torchrun's; what it buffers is flushed at the exit
            _interpret(rest)
        case ["-P", "-m", module, *given]:
            sys.argv = [module, *given]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["-m", module, *given]:
            sys.path.insert(0, os.getcwd())
            sys.argv = [module, *given]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["-c", code, *given]:
            sys.path.insert(0, "")
            sys.argv = ["-c", *given]
            exec(code, {"__name__": "__main__"})
        case [script, *given] if not script.startswith("-"):
            sys.path.insert(0, str(Path(script).resolve().parent))
            sys.argv = [script, *given]
            runpy.run_path(script, run_name="__main__")
        case _:
            raise AssertionError(f"cannot run python {argv}")


def _is_of_a_library(module: ModuleType) -> bool:
    location = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), None)
    return location is None or location.startswith(LIBRARIES)
