"""Orders of a user to a run: the last one is in force, under the names that older versions wrote."""

import json
from pathlib import Path

import pytest

from diffussm.errors import UserError
from diffussm.run.tasks import failure, failures
from diffussm.store.orders import Order
from diffussm.store.rundir import RunDir
from diffussm.store.state import State
from tests.support import damage, tiny


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path, tiny.config())


def fail(run: RunDir, part: str = "") -> RunDir:
    folder = RunDir(run.path / part)
    folder.write_state(State(phase="failed", reason="x", attempt=folder.claim(), heartbeat=1))
    return folder


def test_the_last_order_is_in_force(run: RunDir) -> None:
    assert (run.order_number(), run.last_order(), run.cancelled) == (0, None, False)
    run.add_order("cancel")
    assert (run.order_number(), run.cancelled) == (1, True)
    run.add_order("retry")
    assert (run.order_number(), run.cancelled) == (2, False)
    assert run.last_order() == Order(order="retry")


def test_the_names_on_disk(run: RunDir) -> None:
    run.add_order("retry", [fail(run), fail(run, "milestones/8/key")])
    stored = json.loads((run.path / "orders" / "1.json").read_text())
    assert stored == {"order": "retry", "forgiven": {".": 1, "milestones/8/key": 1}}
    (run.path / "orders" / "2.json").write_text('{"order": "retry", "forgiven": {".": 3}}')
    order = run.last_order()
    assert order is not None
    assert order.retried_attempts == {".": 3}


def test_a_retried_failure_counts_no_more(run: RunDir) -> None:
    training, evaluation = fail(run), fail(run, "milestones/8/key")
    assert [folder.path for folder in failures(run)] == [training.path, evaluation.path]
    run.add_order("retry", failures(run))
    assert failure(run, training) is failure(run, evaluation) is None
    fail(run)
    run.add_order("retry", failures(run))  # covers the evaluation too, which nobody has tried since
    assert failure(run, training) is failure(run, evaluation) is None
    fail(run)
    assert failure(run, training)


@pytest.mark.parametrize("how", damage.EVERY_WAY)
def test_damage_names_the_file_and_a_new_order_mends_it(how: str, run: RunDir) -> None:
    run.add_order("cancel")
    damage.corrupt(run.path / "orders" / "2.json", how)
    with pytest.raises(UserError, match=rf"^{run.path}/orders/2.json: is damaged: .*order anew \(manage.py"):
        _ = run.cancelled
    run.add_order("retry")
    assert not run.cancelled


def test_an_order_of_a_later_version_is_refused_by_name(run: RunDir) -> None:
    path = run.path / "orders" / "1.json"
    damage.corrupt(path, "empty")
    path.write_text('{"order": "cancel", "forgiven": {}, "after": 100}')
    with pytest.raises(UserError, match="after: unknown field, perhaps of a later version"):
        run.last_order()
    path.write_text('{"order": "pause", "forgiven": {}}')
    with pytest.raises(UserError, match="order = 'pause': allowed: 'cancel' or 'retry'"):
        run.last_order()
