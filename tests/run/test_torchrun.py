"""Runs under torchrun: stopped, restarted, on two nodes, and what it prints of a process that fails."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from torch.distributed import TCPStore  # type: ignore[attr-defined]

import tests.support.tiny as tiny
from diffussm.config import DataConfig
from diffussm.data.catalogue import DataFacts
from diffussm.data.images import Images
from diffussm.store.rundir import RunDir
from tests.support.ending import popen
from tests.support.evaluating import ROOT
from tests.support.processes import children
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow
STEPS = {"training__steps": 400, "training__milestones": [100, 400]}
ALONE = ("--standalone", "--nproc-per-node=2")


class Broken:
    """Images of which the second half cannot be read at one step."""

    def __init__(self, data: DataConfig):
        pass

    @staticmethod
    def facts(_: DataConfig) -> DataFacts:
        return DataFacts(images=100, image_size=8, channels=1, classes=10)

    def batch(self, seed: int, step: int, size: int, start: int = 0, count: int | None = None) -> Images:
        if start and step == 5:
            raise ValueError("an unreadable image")
        pixels: NDArray[np.uint8] = np.full((size - start if count is None else count, 1, 8, 8), seed, dtype=np.uint8)
        return Images(pixels, np.zeros(len(pixels), dtype=np.int64))


def torchrun(run: RunDir, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "diffussm", "train", str(run.path)]
    return popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def output(process: "subprocess.Popen[str]", seconds: float = 400) -> str:
    """What it printed; it ends with code 0."""
    out, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, out
    return out


def wait_for_step(run: RunDir, step: int, *launched: "subprocess.Popen[str]") -> None:
    def has_come() -> bool:
        return (run.state().step or 0) > step or any(process.poll() is not None for process in launched)

    wait_for(has_come, 300)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return tiny.run_folder(tmp_path, **STEPS)


def test_a_stop_and_the_rest(run: RunDir) -> None:
    process = torchrun(run, *ALONE)
    wait_for_step(run, 20, process)
    os.kill(children(process.pid)[1], signal.SIGUSR2)
    process.communicate(timeout=200)
    assert process.returncode != 0
    assert run.state().phase == "preempted"
    output(torchrun(run, *ALONE))
    assert len(list(run.path.glob("milestones/*/*/record.json"))) == 2


@pytest.mark.parametrize("rank", [0, 1])
def test_killed_processes_are_started_again_and_resume(rank: int, run: RunDir) -> None:
    process = torchrun(run, *ALONE, "--max-restarts=1")
    wait_for_step(run, 120, process)
    os.kill(children(process.pid)[rank], signal.SIGKILL)
    output(process)
    assert_resumed(run)


def assert_resumed(run: RunDir) -> None:
    """From the checkpoint at step 100, by a second attempt that came to the end."""
    assert (run.owner(), run.state().phase) == (2, "done")
    assert run.loss_log(2).read_text().startswith('{"step": 110,')
    assert [row["step"] for row in run.loss_rows()] == list(range(10, 401, 10))
    assert len(list(run.path.glob("milestones/*/*/record.json"))) == 2


@pytest.fixture
def rendezvous() -> TCPStore:
    """Where nodes meet: a store of the test's, whose port the system chooses."""
    return TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=60), wait_for_workers=False)


@pytest.fixture
def nodes(run: RunDir, rendezvous: TCPStore) -> list["subprocess.Popen[str]"]:
    """Two agents, as on two machines."""
    place = (f"--rdzv-endpoint=127.0.0.1:{rendezvous.port}", "--rdzv-backend=c10d", "--rdzv-conf=is_host=0")
    options = ("--nnodes=2", "--nproc-per-node=1", "--max-restarts=1", "--rdzv-id=7", *place)
    return [torchrun(run, *options) for _ in range(2)]


def test_two_nodes_of_which_one_loses_its_process(run: RunDir, nodes: list["subprocess.Popen[str]"]) -> None:
    wait_for_step(run, 120, *nodes)
    assert run.execution().micro_batches == 2
    os.kill(children(nodes[1].pid)[0], signal.SIGKILL)
    for agent in nodes:
        output(agent)
    assert_resumed(run)


def test_the_first_error_ends_all_and_is_printed(tmp_path: Path) -> None:
    name = f"{__name__}:{Broken.__name__}"
    run = tiny.run_folder(tmp_path, data__name=name)
    process = torchrun(run, *ALONE)
    out, _ = process.communicate(timeout=400)
    assert process.returncode == 1
    root_cause = out.rpartition("Root Cause")[2]
    assert "rank      : 1" in root_cause
    assert "ValueError: an unreadable image" in root_cause
    assert run.state().reason == "rank 1: ValueError: an unreadable image"
