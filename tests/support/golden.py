"""Identities that exist in users' folders: `python -m tests.support.golden` adds those of new cases, and changes none.

A case is a base and overrides; its identities are the run id, the digest of its request and that of its evaluation key.
They change only where a change is meant: with SCHEMA_VERSION, with RECORD_VERSION, or with an extractor's weights.
"""

import json
from pathlib import Path
from typing import Any

from ablations.grid.arms import arms
from ablations.grid.reading import grids, load
from diffussm.config import Request, bases, resolve, run_id
from diffussm.metrics.key import evaluation_key
from diffussm.metrics.requirements import missing_requirement

PATH = Path(__file__).parents[1] / "golden.json"

FIELDS: dict[str, Any] = {  # one other value for each field that a run or a request holds
    "seed": 2,
    "size": "S",
    "model.kind": "dit",
    "model.depth": 3,
    "model.width": 32,
    "model.hourglass": 4,
    "model.patch": 2,
    "model.mixer": "attention",
    "model.direction": "forward",
    "model.residual": "full",
    "model.scan": "hilbert",
    "model.state": 32,
    "model.s4d_init": "inv",
    "model.classes": 0,
    "data.digest": "ab" * 32,
    "data.flip": True,
    "diffusion.timesteps": 500,
    "diffusion.loss": "simple",
    "diffusion.normal_cdf": "tanh",
    "training.batch": 16,
    "training.lr": 1e-3,
    "training.warmup": 10,
    "training.lr_decay_start": 50,
    "training.clip": 1.0,
    "training.ssm_lr_scale": 0.1,
    "training.weight_decay": 0.01,
    "training.ema": 0.99,
    "training.label_dropout": 0.2,
    "training.precision": "bf16",
    "training.steps": 300,
    "training.milestones": [100, 200],
    "evaluation.samples": 100,
    "evaluation.sampler": "ddpm",
    "evaluation.sampler_steps": 50,
    "evaluation.precision": "bf16",
    "evaluation.ddim_eta": 0.5,
    "evaluation.guidance": 1.5,
    "evaluation.labels": "balanced",
    "evaluation.clip": False,
    "evaluation.metrics": ["fid"],
    "evaluation.weights": "raw",
}
FIRST_RELEASES: dict[str, dict[str, Any]] = {  # what bases said before they were changed
    "digits": {"evaluation.metrics": ["fid", "label_accuracy"]},
    "digits16": {"evaluation.metrics": ["fid", "label_accuracy"]},
    "photos": {"evaluation.metrics": ["fid"]},
    "imagenet256": {"data.flip": False},  # when there was no loader for its data
}
WITH = {
    "data.digest": {"data.name": "mine"},
    "model.classes": {"evaluation.metrics": ["fid"]},
    "diffusion.loss": {"diffusion.learned_variance": False},
}


def cases() -> dict[str, tuple[str, dict[str, Any]]]:
    """Name -> base and overrides: every base, every arm of every shipped grid on its base, every field; those that are
    sampled in bf16 also as before they were."""
    out: dict[str, tuple[str, dict[str, Any]]] = {f"base {base}": (base, {}) for base in bases()}
    for base, overrides in FIRST_RELEASES.items():
        out[f"base {base} as first released"] = (base, overrides)
    for name in grids():
        for base in load(name).bases:
            out |= {f"grid {name} on {base}: {arm.name}": (base, arm.overrides) for arm in arms(load(name))}
    for key, value in FIELDS.items():
        out[f"field {key}"] = ("digits", {key: value, **WITH.get(key, {})})
    in_bf16 = {base for base in bases() if resolve(base).evaluation.precision == "bf16"}
    for name, (base, overrides) in list(out.items()):
        if base in in_bf16:
            out[f"{name}, sampled in float32"] = (base, {**overrides, "evaluation.precision": "float32"})
    return out


def identities(base: str, overrides: dict[str, Any]) -> dict[str, str | None]:
    config = resolve(base, overrides)
    key = None if missing_requirement(config) else evaluation_key(config).digest
    return {"run": run_id(config), "request": Request.from_config(config).digest, "key": key}


def stored() -> dict[str, dict[str, str | None]]:
    return json.loads(PATH.read_text()) if PATH.exists() else {}


if __name__ == "__main__":
    known = stored()
    added = {name: identities(*case) for name, case in cases().items() if name not in known}
    PATH.write_text(json.dumps(known | added, indent=1) + "\n")
    print(f"{len(added)} added")
