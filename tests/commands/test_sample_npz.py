"""`diffussm sample --npz`: the same samples as a run is evaluated on, whoever makes them and whatever was killed."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from diffussm.commands.sample import npz
from diffussm.commands.sample.model import RunModel
from diffussm.distributed.group import ProcessGroup
from diffussm.metrics.sampling import SampleMaker, generate
from diffussm.models.trained import load_network, requested_config
from diffussm.store.rundir import RunDir
from tests.commands.test_cli import diffussm

COUNT = 23  # in batches of 5


def write(run: RunDir, out: Path, processes: ProcessGroup | None = None, label: int | None = None) -> None:
    classes = [] if label is None else [str(label)]
    npz.write_samples(RunModel(run, {}, None, classes), COUNT, out, processes or ProcessGroup())


def test_samples_are_those_of_the_evaluation(trained: RunDir, tmp_path: Path) -> None:
    write(trained, tmp_path / "samples.npz")
    config = requested_config(trained, {})
    expected = generate(config, load_network(trained, config, "ema", 24, "auto"), COUNT)
    with np.load(tmp_path / "samples.npz") as file:
        np.testing.assert_array_equal(file["arr_0"], expected.pixels.transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(file["arr_1"], expected.labels)
    assert os.listdir(tmp_path) == ["samples.npz"]


def test_a_kill_costs_a_batch_and_changes_nothing(
    trained: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(trained, tmp_path / "whole.npz")
    made: list[int] = []
    call = SampleMaker.__call__

    def killed_at_the_third(self: SampleMaker, start: int, count: int):  # type: ignore[no-untyped-def]
        if len(made) == 2:
            made.clear()
            raise KeyboardInterrupt
        made.append(start)
        return call(self, start, count)

    monkeypatch.setattr(SampleMaker, "__call__", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        write(trained, tmp_path / "killed.npz")
    assert not (tmp_path / "killed.npz").exists()
    monkeypatch.setattr(SampleMaker, "__call__", lambda self, start, n: made.append(start) or call(self, start, n))
    write(trained, tmp_path / "killed.npz")
    assert made == [10, 15, 20]
    assert (tmp_path / "killed.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["killed.npz", "whole.npz"]


class Together(ProcessGroup):
    """Processes that are threads of this one."""

    threads = threading.Barrier(3)
    shared: object = None

    def broadcast(self, value: object) -> object:
        if self.is_rank_zero:
            Together.shared = value
        self.barrier()
        value = Together.shared
        self.barrier()
        return value

    def first_nonempty(self, value: object) -> object:
        assert not value
        self.barrier()
        return value

    def barrier(self) -> None:
        self.threads.wait(60)


def test_the_number_of_processes_changes_nothing(trained: RunDir, tmp_path: Path) -> None:
    write(trained, tmp_path / "alone.npz")
    ranks = [threading.Thread(target=write, args=(trained, tmp_path / "3.npz", Together(r, 3))) for r in range(3)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert (tmp_path / "3.npz").read_bytes() == (tmp_path / "alone.npz").read_bytes()


def test_one_class(trained: RunDir, tmp_path: Path) -> None:
    write(trained, tmp_path / "all.npz")
    write(trained, tmp_path / "threes.npz", label=3)
    with np.load(tmp_path / "threes.npz") as threes, np.load(tmp_path / "all.npz") as of_all:
        assert set(threes["arr_1"]) == {3}
        assert (threes["arr_0"] != of_all["arr_0"]).any()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--npz", "OUT"], "--npz FILE and --samples N: give both, or neither"),
        (["--samples", "4"], "--npz FILE and --samples N: give both, or neither"),
        (["--npz", "OUT", "--samples", "0"], "--samples"),
        (["--npz", "OUT", "--samples", "4", "--classes", "1,2"], "--classes 1,2: with --npz, give at most one class"),
        (["--npz", "OUT", "--samples", "4", "--classes", "10"], "--classes 10: must be between 0 and 9"),
        (
            ["--npz", "OUT", "--samples", "4", "--step", "9"],
            "step 9: no ema weights are kept of this step; available: 8, 16, 24",
        ),
        (["--npz", "THERE", "--samples", "4"], "already exists"),
    ],
)
def test_mistakes(
    given: list[str],
    words: str,
    trained: RunDir,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "there.npz").touch()
    paths = {"OUT": str(tmp_path / "out.npz"), "THERE": str(tmp_path / "there.npz")}
    assert diffussm(monkeypatch, "sample", str(trained.path), *(paths.get(word, word) for word in given)) == 2
    stderr = capsys.readouterr().err
    assert words in stderr
    assert stderr.count("\n") == 1
    assert os.listdir(tmp_path) == ["there.npz"]
