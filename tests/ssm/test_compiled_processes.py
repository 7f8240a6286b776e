"""The compiled backend in its process: threads, forks, several processes, its cache, and where it cannot run."""

import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffussm.models.build import initialise
from diffussm.ssm import selection
from diffussm.ssm.compiled import cache, convolution, threads
from diffussm.ssm.s4d import S4D
from tests.support.ending import popen
from tests.support.s4d_layers import layer, outputs_and_gradients, sequences


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("batch", "length"), [(30, 64), (2, 300)])
def test_the_same_to_the_bit_on_any_number_of_threads(batch: int, length: int) -> None:
    """Widths that leave work for several; so a run may go on with other threads than it started with."""
    (u, dy), made, before = sequences(batch, length, 40), layer(40, 64), torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            found.append(outputs_and_gradients(made, u, dy))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for name, value in found[0].items():
            torch.testing.assert_close(other[name], value, rtol=0, atol=0, msg=name)


@pytest.mark.usefixtures("two_threads")
def test_numbas_threads_where_torchs_are_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    (u, dy), made = sequences(4, 150, 20), layer(20, 8)
    expected = outputs_and_gradients(made, u, dy)
    monkeypatch.setattr(threads, "_openmp", lambda: None)
    for name, value in outputs_and_gradients(made, u, dy).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0, msg=name)


def test_torchs_threads_are_found_on_linux() -> None:
    if sys.platform != "linux":
        pytest.skip("another system")
    assert threads._openmp() is not None


def checksum(made: S4D, u: Tensor) -> float:
    """Summed by NumPy: torch itself would wait for its lost threads."""
    with torch.no_grad():
        return float(made(u).numpy().sum())


def _in_child(queue: Any, made: S4D, u: Tensor) -> None:
    queue.put([float(convolution.forked()), checksum(made, u)])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process")  # Python's own warning of forks beside threads
@pytest.mark.usefixtures("two_threads")
def test_a_forked_process_computes_without_the_threads_it_lost() -> None:
    (u, _), made = sequences(4, 300, 32), layer(32, 8)
    expected = checksum(made, u)
    queue = multiprocessing.get_context("fork").SimpleQueue()
    child = multiprocessing.get_context("fork").Process(target=_in_child, args=(queue, made, u))
    child.start()
    child.join(30)
    child.kill()
    assert child.exitcode == 0
    assert queue.get() == [1.0, expected]


WORK = """
import torch
from diffussm.models.build import initialise
from diffussm.ssm.s4d import S4D
torch.set_num_threads(1)
made = S4D(8, 8, True, "{backend}")
initialise(made, 0)
print(made(torch.linspace(-1, 1, 8 * 40).view(1, 40, 8)).square().sum().item())
"""


def in_processes(count: int, backend: str, **environment: str) -> list[str]:
    command = [sys.executable, "-c", WORK.format(backend=backend)]
    started = [
        popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | environment)
        for _ in range(count)
    ]
    outputs = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0] * count, outputs
    return [out for out, _ in outputs]


@pytest.mark.slow
def test_several_processes_compile_at_once(tmp_path: Path) -> None:
    found = in_processes(3, "compiled", NUMBA_CACHE_DIR=str(tmp_path))
    assert len(set(found)) == 1
    names = [path.name for path in tmp_path.rglob("*.nbc")]
    assert len(names) == len(set(names)) == 2, names  # one of them compiled each pass, the others loaded it


@pytest.mark.slow
def test_nowhere_to_keep_what_was_compiled(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = in_processes(1, "compiled", NUMBA_CACHE_DIR=str(tmp_path / "file" / "below"))
    assert found == in_processes(1, "compiled")


NO_NUMBA = """
import sys, diffussm, diffussm.models.build, diffussm.training.loop
assert 'numba' not in sys.modules
sys.modules['numba'] = None
"""


def test_importing_the_package_imports_no_numba_and_without_it_plain_torch_takes_over() -> None:
    code = "".join(
        WORK.format(backend=backend) + "print(made._backend(torch.zeros(1, 40, 8)))\n"
        for backend in ("compiled", "auto")
    )
    process = subprocess.run([sys.executable, "-c", NO_NUMBA + code], capture_output=True, text=True, check=True)
    made = layer(8, 8, backend="chunked")
    initialise(made, 0)
    expected = made(torch.linspace(-1, 1, 8 * 40).view(1, 40, 8)).square().sum().item()
    first, used, second, used_by_auto = process.stdout.split()
    assert used == used_by_auto == "chunked"
    assert float(first) == float(second) == pytest.approx(expected, rel=1e-6)


def test_a_cache_that_something_spoiled() -> None:
    """What cannot be kept or read is compiled for this process alone."""

    def compile_(kept: cache.Cache | None) -> str:
        if kept is not None:
            raise OSError("no space left")
        return "compiled"

    def function() -> None: ...

    assert cache.with_cache(function, compile_) == "compiled"


def test_a_copy_of_the_package_finds_what_was_compiled(tmp_path: Path) -> None:
    """As a launch makes them; the folder is that of the sources' content, wherever they are."""
    shutil.copytree(Path(convolution.__file__).parents[2], tmp_path / "diffussm")
    code = "from diffussm.ssm.compiled import cache; print(cache.__file__, cache.folder())"
    command, alike = [sys.executable, "-c", code], os.environ | {"PYTHONPATH": str(tmp_path)}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=alike).stdout
    assert printed.split() == [str(tmp_path / "diffussm/ssm/compiled/cache.py"), str(cache.folder())]


def test_numba_that_may_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.numba.config, "DISABLE_JIT", True)
    convolution.unavailable_reason.cache_clear()
    try:
        assert "NUMBA_DISABLE_JIT" in convolution.unavailable_reason()
        assert selection.select("compiled", "cpu", 64, 64) == "chunked"
    finally:
        convolution.unavailable_reason.cache_clear()
