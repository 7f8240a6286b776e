"""One thread for every test: results and times do not depend on what runs beside. A cache that is gone afterwards."""

import os

import pytest
import torch

pytest_plugins = ["tests.support.evaluating"]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["DIFFUSSM_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ.pop("DIFFUSSM_WEIGHTS", None)
