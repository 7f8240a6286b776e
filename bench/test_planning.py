"""Planning a grid, as `launch.py --dry-run` does: nine runs of a shipped grid, and 3,000 runs of a made-up one."""

from pathlib import Path

import pytest

from ablations.plan.request import GridRequest
from bench.measure import Bench, Contender

LARGE = """
claim = "None: it is large."
source = "ours"
expected = "a plan"
cost = "none"
command = "none"
base = "digits"
seeds = {seeds}

[axes.lr]
{rates}
"""
RATES = 100


def grid(kind: str, folder: Path, seeds: int) -> str:
    if kind == "hourglass_vs_patch":
        return kind
    rates = "\n".join(f'"{n}" = {{ training.lr = {n / 1000} }}' for n in range(1, RATES + 1))
    path = folder / "large.toml"
    path.write_text(LARGE.format(seeds=seeds, rates=rates))
    return str(path)


@pytest.mark.parametrize("kind", ["hourglass_vs_patch", "made up"])
def test_plan(bench: Bench, tmp_path: Path, kind: str) -> None:
    seeds = 2 if bench.scale.tiny else 30
    runs = 9 if kind == "hourglass_vs_patch" else RATES * seeds
    bench.describe("planning", f"plan of {runs} runs", kind, dtype="", device="cpu")
    name = grid(kind, tmp_path, seeds)

    def plan() -> int:
        request = GridRequest.from_arguments(name, None, None, {}, tmp_path / "runs")
        return len({planned.run.run_id for planned in request.plan()})

    def check() -> None:
        assert plan() == runs, "runs of the plan"

    bench.measure(Contender(plan, check))
