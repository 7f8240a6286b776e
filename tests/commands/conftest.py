"""A trained and evaluated run for tests that only read it."""

import pytest

import tests.support.tiny as tiny
from diffussm.run.claim import assume_owner_dead
from diffussm.run.runner import TaskRunner
from diffussm.store.rundir import RunDir


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Never modified."""
    run = tiny.run_folder(tmp_path_factory.mktemp("runs"))
    TaskRunner(run.path).run_pending(assume_owner_dead)
    return run
