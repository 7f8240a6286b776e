"""Grids that share runs: a run is sampled as the grid that was asked for last says."""

from pathlib import Path

from ablations.plan.request import GridRequest
from diffussm.store.rundir import RunDir
from tests.support import tiny
from tests.support.grid_file import HEADER


def test_the_grid_that_was_asked_for_last_decides(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    grids = {"few": (2, 4), "many": (10, 20)}
    for name, levels in grids.items():
        table = "\n".join(f'"{steps}" = {{ evaluation.sampler_steps = {steps} }}' for steps in levels)
        (tmp_path / f"{name}.toml").write_text(f'{HEADER}base = "digits"\nseeds = 1\n[axes.steps]\n{table}\n')
    settings = {key: value for key, value in tiny.SETTINGS.items() if key != "evaluation.sampler_steps"}
    asked = []
    for name in ("few", "many", "few", "few"):
        request = GridRequest.from_arguments(str(tmp_path / f"{name}.toml"), None, None, settings, runs)
        planned = request.plan()
        request.write(planned, planned, replay=False)
        (run,) = [RunDir(path.parent) for path in runs.glob("*/config.json")]
        asked.append(run.latest_request().evaluation.sampler_steps)
    assert asked == [4, 20, 4, 4]
    assert len(run.requests()) == 4
    assert len(list((run.path / "asked").iterdir())) == 3  # none for what is the latest already
