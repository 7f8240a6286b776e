"""What the precision of sampling does, in a table: of a tiny run."""

from pathlib import Path

import pytest

from bench import precision
from diffussm.run.claim import assume_owner_dead
from diffussm.run.runner import TaskRunner
from tests.support import tiny


def test_a_run_sampled_in_each_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tiny.run_folder(tmp_path, training__steps=8, training__milestones=[8])
    TaskRunner(run.path).run_pending(assume_owner_dead, kinds=("train",))
    precision.main([str(run.path)])
    header, _, exact, reduced, *_ = (line.split(" | ") for line in capsys.readouterr().out.splitlines())
    assert [cell.strip("| ") for cell in header] == list(precision.HEADINGS)
    assert (exact[1:4], reduced[1:4]) == (["8", "12", "float32"], ["8", "12", "bf16"])
    assert exact[6:] == ["100.00%", "100.00% |"]
    assert float(exact[4]) == pytest.approx(float(reduced[4]), rel=0.1)
    assert reduced[6] != "100.00%"
    assert float(reduced[7].rstrip(" |%")) > 90
