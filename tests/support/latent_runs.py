"""A run on latents that takes a second, and an autoencoder of known values in the place of Diffusers'."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffussm.config import Config, Request
from diffussm.data.lookup.resolution import resolve_with_data
from diffussm.store.rundir import RunDir
from tests.support import tiny
from tests.support.prepared_set import write_latents

SIDE, CHANNELS, DECODED = 4, 4, 32


def latents(count: int = 20, flips: int = 1, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Means and standard deviations, (N, F, 2, C, h, w)."""
    drawn = np.random.default_rng(seed).normal(size=(count, flips, 2, CHANNELS, SIDE, SIDE)).astype(np.float32)
    drawn[:, :, 1] = np.abs(drawn[:, :, 1]) * 0.1
    return drawn


def latent_settings(folder: Path, **facts: Any) -> dict[str, Any]:
    """The settings of a tiny run on 20 latents, which are written to `folder`; beside it, a reference of images."""
    write_latents(folder, latents(), labels=np.arange(20) % 10, classes=tuple("abcdefghij"), **facts)
    reference = folder.with_name("reference.npz")
    if not reference.exists():
        pixels = np.random.default_rng(1).integers(0, 256, (12, DECODED, DECODED, 3), dtype=np.uint8)
        np.savez(reference, arr_0=pixels)
    return {
        **tiny.SETTINGS,
        "model.image_size": SIDE,
        "model.channels": CHANNELS,
        "data.name": "mine",
        "data.root": str(folder),
        "training.steps": 2,
        "training.milestones": [2],
        "evaluation.extractor": "photos-cnn",
        "evaluation.reference": str(reference),
        "evaluation.metrics": ["fid"],
        "evaluation.clip": False,
    }


def latent_config(folder: Path, changes: dict[str, Any] | None = None, **facts: Any) -> Config:
    """The config of `latent_settings`."""
    return resolve_with_data("digits", {**latent_settings(folder, **facts), **(changes or {})})


def latent_base(path: Path, **facts: Any) -> Path:
    """Write the settings, without a hourglass, as a base; the data lie in the folder `data` beside it."""
    sections: dict[str, list[str]] = {}
    for key, value in latent_settings(path.with_name("data"), **facts).items():
        section, field = key.split(".")
        if field != "hourglass":
            sections.setdefault(section, [f"[{section}]"]).append(f"{field} = {json.dumps(value)}")
    path.write_text("\n".join(['extends = "digits"', *(line for lines in sections.values() for line in lines)]))
    return path


def latent_run(runs: Path, config: Config) -> RunDir:
    run = RunDir.create(runs, config)
    run.add_requests([Request.from_config(config)])
    return run


class KnownNetwork:
    """An autoencoder that repeats the first 3 of 4 channels of a latent 8 x 8 times."""

    def to(self, _: object) -> "KnownNetwork":
        return self

    def decode(self, latents: Tensor) -> SimpleNamespace:
        repeated = latents[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3)
        return SimpleNamespace(sample=repeated)


def known_vae(folder: Path, monkeypatch: pytest.MonkeyPatch, **config: Any) -> Path:
    """Write the folder of an autoencoder in whose place `KnownNetwork` is loaded."""
    folder.mkdir()
    stated = {
        "_class_name": "AutoencoderKL",
        "latent_channels": CHANNELS,
        "block_out_channels": [1, 1, 1, 1],
        "scaling_factor": 0.18215,
        **config,
    }
    (folder / "config.json").write_text(json.dumps(stated))
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"known")
    monkeypatch.setattr("diffussm.vae.autoencoder._load", lambda _: KnownNetwork())
    return folder


def constant_latents(values: list[list[float]]) -> Tensor:
    """Latents (N, C, h, w) of one value per channel."""
    return torch.tensor(values)[:, :, None, None].repeat(1, 1, SIDE, SIDE)
