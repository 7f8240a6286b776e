"""What a launch on this machine says at its end."""

from pathlib import Path

import pytest

from ablations.local.display import plain_console
from ablations.local.launch import _sum_up
from ablations.plan.request import GridRequest
from diffussm.run.outcome import Outcome


def test_a_percent_sign_in_the_folder_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    runs = Path("50%s")
    request = GridRequest.from_arguments("hourglass_vs_patch", None, None, {}, runs)
    outcomes = {runs / "a": Outcome("failed", "killed"), runs / "b": Outcome("cancelled", "by manage.py cancel")}
    assert _sum_up(request, outcomes, 2, plain_console()) == 1
    printed = capsys.readouterr().err
    for option in ("--failed", "--cancelled"):
        assert f"python ablations/manage.py retry {option} --grid hourglass_vs_patch --runs 50%s\n" in printed
