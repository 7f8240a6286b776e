"""One thread for every test: results and times do not depend on what runs beside. A cache that is gone afterwards.

No process outlives the test that started it.
"""

import multiprocessing
import os
from collections.abc import Iterator

import pytest
import torch

from tests.support import ending

pytest_plugins = ["tests.support.evaluating"]

# What the processes that are forked from it need not import.
multiprocessing.get_context("forkserver").set_forkserver_preload(
    ["tests.support.preloaded", "tests.support.forked", "tests.training.test_resume"]
)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["DIFFUSSM_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    for variable in ("DIFFUSSM_WEIGHTS", "DIFFUSSM_DATA"):
        os.environ.pop(variable, None)


@pytest.fixture(autouse=True)
def _processes_end() -> Iterator[None]:
    yield
    ending.end_all()
