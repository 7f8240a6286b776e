"""Which request was asked for last: the order of asking is stored, and no copy changes it."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diffussm.config import Request
from diffussm.errors import UserError
from diffussm.store.rundir import RunDir
from tests.support import damage, tiny


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path, tiny.config())


def asking(steps: int) -> Request:
    return Request.from_config(tiny.config(evaluation__sampler_steps=steps))


def latest(run: RunDir) -> int:
    return run.latest_request().evaluation.sampler_steps


def set_times(run: RunDir, *steps: int) -> None:
    """Give the requests of these steps the file times 1, 2, ..., all others 0."""
    for path in run.path.rglob("*.json"):
        os.utime(path, (0, 0))
    for time, count in enumerate(steps, 1):
        os.utime(run.path / "requests" / f"{asking(count).digest}.json", (time, time))


def test_what_was_asked_for_again_is_the_latest(run: RunDir, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no request; make one with"):
        run.latest_request()
    for steps in (10, 20, 10):
        run.add_requests([asking(steps)])
        assert latest(run) == steps
    set_times(run, 10, 20)
    assert latest(run) == 10
    for copy in ("cp -r", "cp -rp"):
        function = shutil.copy2 if copy == "cp -rp" else shutil.copy
        copied = shutil.copytree(run.path, tmp_path / copy / run.run_id, copy_function=function)
        assert latest(RunDir(copied)) == 10
    assert {request.evaluation.sampler_steps for request in run.requests()} == {10, 20}


def test_asking_for_what_is_the_latest_adds_no_file(run: RunDir) -> None:
    run.add_requests([asking(10), asking(20)])
    files = sorted(run.path.rglob("*"))
    run.add_requests([asking(20)])
    run.add_requests([asking(10), asking(20)])  # a grid of both once more
    assert sorted(run.path.rglob("*")) == files
    assert latest(run) == 20


def test_many_who_ask_at_once_leave_one_latest(run: RunDir) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda steps: run.add_requests([asking(steps)]), [1, 2, 4, 5, 8, 10, 20, 25]))
    assert len(run.requests()) == len(list((run.path / "asked").iterdir())) == 8
    assert run.latest_request() in run.requests()


def test_requests_without_a_number_are_in_the_order_of_their_times_and_before_all_others(run: RunDir) -> None:
    run.add_requests([asking(steps) for steps in (10, 20, 25)])
    shutil.rmtree(run.path / "asked")  # as versions of before left it
    set_times(run, 25, 10, 20)
    assert latest(run) == 20
    run.add_requests([asking(25)])
    set_times(run, 25, 10, 20)
    assert latest(run) == 25


@pytest.mark.parametrize("how", damage.EVERY_WAY)
def test_damage_names_the_file_and_asking_anew_mends_it(how: str, run: RunDir) -> None:
    run.add_requests([asking(10)])
    damage.corrupt(run.path / "asked" / "2.json", how)
    with pytest.raises(UserError, match=rf"^{run.path}/asked/2.json: is damaged: .*; delete it to have the request"):
        run.latest_request()
    run.add_requests([asking(20)])
    assert latest(run) == 20


def test_a_number_leads_to_a_request_of_the_run_or_nowhere(run: RunDir, tmp_path: Path) -> None:
    run.add_requests([asking(10)])
    (run.path / "requests" / f"{asking(10).digest}.json").rename(tmp_path / "elsewhere.json")
    with pytest.raises(UserError, match=rf"asked/1.json: request {asking(10).digest} does not exist; restore it, or"):
        run.latest_request()
    (run.path / "asked" / "2.json").write_text('{"request": "../../elsewhere"}')
    with pytest.raises(UserError, match=r"asked/2.json: is damaged: request = '../../elsewhere'"):
        run.latest_request()


def test_a_request_is_that_of_its_file_s_name(tmp_path: Path) -> None:
    """A digit of a number that has changed makes another request, which is as valid."""
    run = tiny.run_folder(tmp_path)
    (path,) = (run.path / "requests").iterdir()
    path.write_text(path.read_text().replace('"samples": 12', '"samples": 13'))
    with pytest.raises(UserError, match=f"{path}: is damaged: its content has the digest [0-9a-f]{{12}}; delete it"):
        run.requests()
    with pytest.raises(UserError, match=f"{path}: is damaged"):
        run.latest_request()
