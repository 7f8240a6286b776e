"""Synthetic runs with records of known numbers, as if a grid had been launched; nothing is trained or timed."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import tests.support.tiny as tiny
from ablations.grid.runs import expand
from ablations.grid.schema import GridFile
from ablations.plan import manifest
from ablations.plan.plan import plan
from diffussm.config import Request
from diffussm.metric_table import FRECHET, METRICS
from diffussm.metrics.key import evaluation_key
from diffussm.store import records
from diffussm.store.rundir import RunDir
from diffussm.store.state import State

ARMS: dict[str, dict[str, object]] = {
    "A": {"model.hourglass": 2},
    "B": {"model.patch": 2},
    "C": {"model.hourglass": 1},
}
FID = {"A": [1.0, 2.0, 3.0], "B": [5.0, 6.1, 7.2], "C": [2.1, 1.9, 3.0]}  # by seed, at the last step

Metrics = Callable[[str, int, int], Mapping[str, float]]  # of arm, seed and step


def basic_metrics(arm: str, seed: int, step: int) -> dict[str, float]:
    """The metrics of the earliest records."""
    return {"fid": FID[arm][seed] * 24 / step, "fid_floor": 0.2, "label_accuracy": 0.5 + seed / 10}


def all_metrics(arm: str, seed: int, step: int) -> dict[str, float]:
    """Everything that a record can hold; intervals over samples reach a tenth of the value below and above it."""
    values = basic_metrics(arm, seed, step)
    fid = values["fid"]
    values |= {
        "sfid": 2 * fid,
        "inception_score": 9 - fid / 5,
        "kid": fid / 1000 - 0.001,
        "precision": 0.9 - fid / 50,
        "recall": 0.8 - fid / 40,
        "clean_fid": 1.1 * fid,
        "clean_fid_legacy": 0.9 * fid,
    }
    values |= {name: 0.7 - fid / 40 for name in METRICS if name not in values}  # any other metric
    for name, measure in METRICS.items():
        if measure.interval:
            tenth = abs(values[name]) / 10
            values |= {f"{name}_samples_low": values[name] - tenth, f"{name}_samples_high": values[name] + tenth}
    for name in FRECHET:
        values |= {f"{name}_floor": 0.2, f"{name}_infinity": 0.8 * values[name]}
    return values


def grid(arms: Mapping[str, object]) -> GridFile:
    header = {
        "claim": "A beats B",
        "source": "here",
        "expected": "open",
        "cost": "none",
        "command": "run me",
        "base": "digits",
    }
    return GridFile.model_validate({**header, "seeds": 3, "arms": arms})


def write(folder: Path, metrics: Metrics, arms: Mapping[str, Any] = ARMS, seeds: int = 3) -> Path:
    """Every run of arms and seeds with records at all milestones, but for C: its seed 1 was never started, its seed 2
    diverged. Returns the manifest."""
    content = grid(arms)
    settings = {key: value for key, value in tiny.SETTINGS.items() if key != "model.hourglass"}
    made = expand(content, "digits", range(seeds), settings)
    for run in made:
        arm, seed = run.arm.name, run.config.seed
        place = RunDir.create(folder, run.config)
        request, key = Request.from_config(run.config), evaluation_key(run.config)
        place.add_requests([request])
        if (arm, seed) == ("C", 2):
            place.write_state(State(phase="diverged", attempt=1, reason="loss is nan at step 8"))
        if arm == "C" and seed > 0:
            continue
        for step in request.milestones:
            pixels = np.full((64, 8, 8, 1), 10 * seed, dtype=np.uint8)
            path = place.record(step, key.digest)
            path.parent.mkdir(parents=True)
            np.savez(path.with_name("samples.npz"), arr_0=pixels, labels=np.arange(64) % 10)
            record = records.Record(
                run_id=place.run_id,
                step=step,
                key=key,
                metrics=dict(metrics(arm, seed, step)),
                timing={"seconds_per_step": 0.01, "evaluation_seconds": 1.0},
                provenance={},
            )
            records.write(record, path)
    manifest.write(folder, Path("hourglass_vs_patch.toml"), content, "digits", settings, plan("digits", made, folder))
    return folder / "grids" / "hourglass_vs_patch-digits.1.json"
