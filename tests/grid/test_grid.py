"""The runs of grids, and their states."""

import itertools
from pathlib import Path

import pytest
import torch

from ablations.grid import reading as grids
from ablations.grid.arms import arms
from ablations.grid.reading import load
from ablations.grid.runs import Run, expand
from ablations.grid.schema import GridFile
from ablations.plan.plan import PlannedRun, broken_matches
from ablations.plan.plan import plan as plan_on
from diffussm.config import Config, Request
from diffussm.errors import UserError
from diffussm.metrics.key import evaluation_key
from diffussm.models.build import build_model
from diffussm.rng import Stream, name_hash, normal
from diffussm.store import records
from diffussm.store.rundir import RunDir
from diffussm.store.state import State
from diffussm.store.writing import write_atomically
from tests.support.fitting_grids import fitting

HEADER = {"claim": "c", "source": "s", "expected": "e", "cost": "c", "command": "m", "base": "digits", "seeds": 2}


def grid(**parts: object) -> GridFile:
    return GridFile.model_validate(HEADER | parts)


def plan(runs: list[Run], folder: Path) -> list[PlannedRun]:
    return plan_on("digits", runs, folder)


@pytest.mark.parametrize("name", grids.grids())
def test_shipped_grids(name: str) -> None:
    """Every shipped grid states what it tests and how to run it, and its arms differ from one another."""
    content = load(name)
    assert all(getattr(content, field).strip() for field in ("claim", "source", "expected", "cost"))
    assert content.command == f"python ablations/launch.py --grid {name}"
    runs = expand(content, content.bases[0], content.seed_list, {})
    identities = {(run.run_id, Request.from_config(run.config).digest) for run in runs}
    assert len(identities) == len(runs) == len(arms(content)) * len(content.seed_list)


EMBEDDED = ["digits", "mnist", "photos"]


@pytest.mark.parametrize(("name", "base"), fitting([*EMBEDDED, "imagenet256"]))
def test_every_grid_plans_on_every_base(name: str, base: str, tmp_path: Path) -> None:
    content = load(name)
    planned = plan(expand(content, base, [0], {}), tmp_path)
    assert len(planned) == len(arms(content))
    assert {p.status for p in planned} == {"lacks data" if base == "imagenet256" else "new"}
    assert all(p.spec.parameters > 0 and p.spec.macs.total for p in planned)
    assert broken_matches(content.matched, planned) == []


@pytest.mark.parametrize(("name", "base"), fitting(EMBEDDED))
def test_every_arm_makes_a_difference(name: str, base: str) -> None:
    """Any two arms of a grid differ in the outputs of their models, or in their evaluation keys."""
    runs = expand(load(name), base, [0], SMALL if name != "model_scale" else {"training.batch": 2})
    identities = [(output(run.config), evaluation_key(run.config)) for run in runs]
    for (a, key_a), (b, key_b) in itertools.combinations(identities, 2):
        assert key_a != key_b or not torch.equal(a, b)


SMALL = {"model.width": 16, "model.depth": 1, "training.batch": 2}


def output(config: Config) -> torch.Tensor:
    """The output of the untrained model, after adding noise to each weight, drawn by the weight's name."""
    model = build_model(config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = normal(1, Stream.INIT, name_hash(name), 0, 1, tuple(p.shape))[0]
            p.add_(0.1 * torch.from_numpy(noise))
        m = config.model
        x = normal(0, Stream.NOISE, 0, 0, 2, (m.channels, m.image_size, m.image_size))
        return model(torch.from_numpy(x), torch.tensor([10, 500]), torch.tensor([0, 0]))


def test_a_broken_match_is_reported(tmp_path: Path) -> None:
    runs = expand(grid(arms={"a": {"model.hourglass": 1}, "b": {"model.hourglass": 2}}), "digits", [0], {})
    (message,) = broken_matches(("parameters",), plan(runs, tmp_path))
    assert message == ("parameters are declared matched, but b has 3.7% more than a (121,284 and 116,930)")
    assert broken_matches((), plan(runs, tmp_path)) == []


def test_a_grid_from_a_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((grids.GRIDS / "direction.toml").read_text())
    assert load(str(path)) == load("direction")


def test_hourglass_vs_patch() -> None:
    runs = expand(load("hourglass_vs_patch"), "digits", range(3), {})
    shapes = {run.arm.name: (run.config.model.hourglass, run.config.model.patch) for run in runs}
    assert shapes == {"M = 2, P = 1": (2, 1), "M = 1, P = 2": (1, 2), "M = 1, P = 1": (1, 1)}
    assert [run.config.seed for run in runs] == [0, 1, 2] * 3


def test_axes_multiply_in_order() -> None:
    made = arms(
        grid(
            axes={
                "ratio": {"M1": {"model.hourglass": 1}, "M2": {"model": {"hourglass": 2}}},
                "direction": {"both": {"model.direction": "bidirectional"}, "one": {"model.direction": "forward"}},
            }
        )
    )
    assert [arm.name for arm in made] == ["M1, both", "M1, one", "M2, both", "M2, one"]
    assert made[3].overrides == {"model.hourglass": 2, "model.direction": "forward"}
    assert made[3].levels == {"ratio": "M2", "direction": "one"}


def test_arms_that_differ_in_their_evaluation_only_share_a_run() -> None:
    runs = expand(load("sampler_steps"), "digits", [0], {})
    assert len(runs) == 9
    assert len({run.run_id for run in runs}) == 3


def test_settings_that_an_arm_sets_are_refused() -> None:
    with pytest.raises(UserError, match=r"--set model\.patch: arms\.M = 2, P = 1 sets it already"):
        expand(load("hourglass_vs_patch"), "digits", [0], {"model.patch": 4})
    with pytest.raises(UserError, match="--set seed: use --seeds"):
        expand(load("hourglass_vs_patch"), "digits", [0], {"seed": 4})


def test_states(tmp_path: Path) -> None:
    runs = expand(load("hourglass_vs_patch"), "digits", [0], {})[:1]
    request, key = Request.from_config(runs[0].config), evaluation_key(runs[0].config)

    def state() -> str:
        return plan(runs, tmp_path)[0].description

    assert state() == "new"
    run = RunDir.create(tmp_path, runs[0].config)
    for step in request.milestones[:2]:
        write_atomically(run.weights(step, "ema"), b"")
    write_atomically(run.checkpoint(600, 1), b"")
    assert state() == "resumable (step 600 of 2400)"
    attempt = run.claim()
    assert state() == "running (step 600 of 2400)"
    run.write_state(State(phase="failed", reason="OSError: no space", attempt=attempt))
    assert state() == "failed (OSError: no space)"
    run.add_order("retry", [run])
    assert state() == "resumable (step 600 of 2400)"
    run.add_order("cancel")
    assert state() == "cancelled"
    run.add_order("retry")
    run.write_state(State(phase="stopped", attempt=attempt))
    write_atomically(run.checkpoint(2400, 1), b"")
    assert state() == "unreachable (the weights of step 1200 were not kept; --replay trains 1800 steps again)"
    for step in request.milestones:
        write_atomically(run.weights(step, "ema"), b"")
    assert state() == "resumable (5 evaluations left)"
    for step in request.milestones:
        metrics = dict.fromkeys(key.metrics, 1.0)
        record = records.Record(run_id=run.run_id, step=step, key=key, metrics=metrics, timing={}, provenance={})
        records.write(record, run.record(step, key.digest))
    assert state() == "done"
    run.record(request.milestones[0], key.digest).write_text("torn")
    assert state() == "resumable (1 evaluation left)"
