"""Files of latents, in the exact layouts of the programs that write them."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

Latents = NDArray[np.float32]
WNIDS = ("n01440764", "n01443537", "n01484850")
EDM2_MEAN, EDM2_STD = np.array([5.81, 3.25, 0.12, -2.15]), np.array([4.17, 4.62, 3.71, 3.28])


def latents(count: int, channels: int = 4, side: int = 4, seed: int = 0) -> Latents:
    return np.random.default_rng(seed).standard_normal((count, channels, side, side), dtype=np.float32)


def deviations(count: int, channels: int = 4, side: int = 4) -> Latents:
    return np.random.default_rng(9).uniform(0.01, 0.1, (count, channels, side, side)).astype(np.float32)


def fast_dit(root: Path, values: Latents, labels: list[int], stems: list[str] | None = None) -> Path:
    """fast-DiT's extract_features.py: np.save of arrays (1, C, h, w) and (1,) in two folders."""
    for name in ("imagenet256_features", "imagenet256_labels"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for number, (value, label) in enumerate(zip(values, labels, strict=True)):
        stem = stems[number] if stems else number
        np.save(root / f"imagenet256_features/{stem}.npy", value[None])
        np.save(root / f"imagenet256_labels/{stem}.npy", np.array([label], dtype=np.int64))
    return root


def edm2(path: Path, mean_std: Latents, labels: list[int] | None) -> Path:
    """EDM2's `dataset_tool.py encode`, from arrays (N, 2, C, h, w): a folder, or a zip by its suffix."""
    members: dict[str, bytes] = {}
    for number, value in enumerate(mean_std):
        content = io.BytesIO()
        np.save(content, value.reshape(-1, *value.shape[2:]))
        members[f"{number:08d}"[:5] + f"/img-mean-std-{number:08d}.npy"] = content.getvalue()
    rows = None if labels is None else [[name, label] for name, label in zip(members, labels, strict=True)]
    members["dataset.json"] = json.dumps({"labels": rows}).encode()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    else:
        for name, data in members.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return path


def edm2_moments(count: int, whitened: bool) -> Latents:
    """Return (N, 2, 4, 4, 4), with the channels' means of EDM2's ImageNet, or with means of 0."""
    means = latents(count)
    if whitened:
        means = (means * EDM2_STD[:, None, None] + EDM2_MEAN[:, None, None]).astype(np.float32)
    return np.stack([means, deviations(count)], axis=1)


def mar(root: Path, moments: Latents, flipped: Latents | None, labels: list[int]) -> Path:
    """MAR's `cache_latents`, from arrays (N, 2C, h, w)."""
    for number, label in enumerate(labels):
        folder = root / WNIDS[label]
        folder.mkdir(parents=True, exist_ok=True)
        flips = {} if flipped is None else {"moments_flip": flipped[number]}
        np.savez(folder / f"{WNIDS[label]}_{number}.JPEG.npz", moments=moments[number], **flips)
    return root


def ddt(root: Path, mean: Latents, logvar: Latents, labels: list[int], dtype: torch.dtype = torch.float16) -> Path:
    """DDT's cache of `torch.save`d dicts."""
    for number, label in enumerate(labels):
        folder = root / WNIDS[label]
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"mean": torch.tensor(mean[number]).to(dtype), "logvar": torch.tensor(logvar[number]).to(dtype)}
        torch.save(tensors, folder / f"{WNIDS[label]}_{number}.JPEG.pt")
    return root


def lightningdit(
    root: Path, values: Latents, flipped: Latents, labels: list[int], ranks: int = 1, per_shard: int = 3
) -> Path:
    """LightningDiT's extract_features.py on `ranks` processes: images r, r + ranks, ..., the first ones after the last.

    Duplicates differ by a draw from the posterior.
    """
    root.mkdir(parents=True, exist_ok=True)
    count = -(-len(labels) // ranks) * ranks
    order = np.arange(count) % len(labels)
    drawn = np.random.default_rng(3).standard_normal((2, count, *values.shape[1:]), dtype=np.float32) * 0.05
    drawn[:, : len(labels)] = 0
    for rank in range(ranks):
        mine = np.arange(rank, count, ranks)
        for number, first in enumerate(range(0, len(mine), per_shard)):
            rows = mine[first : first + per_shard]
            tensors = {
                "latents": torch.tensor(values[order[rows]] + drawn[0, rows]),
                "latents_flip": torch.tensor(flipped[order[rows]] + drawn[1, rows]),
                "labels": torch.tensor([labels[index] for index in order[rows]]),
            }
            path = root / f"latents_rank{rank:02d}_shard{number:03d}.safetensors"
            save_file(tensors, path, {"total_size": str(len(rows)), "dtype": "torch.float32", "device": "cpu"})
    return root


def statistics(root: Path, mean: list[float], std: list[float]) -> None:
    """LightningDiT's `latents_stats.pt`."""
    torch.save(
        {name: torch.tensor(v).reshape(1, -1, 1, 1) for name, v in (("mean", mean), ("std", std))},
        root / "latents_stats.pt",
    )


def dimsum(root: Path, values: Latents, flipped: Latents, labels: list[int]) -> Path:
    """DiMSUM's memory maps."""
    root.mkdir(parents=True, exist_ok=True)
    np.concatenate([values, flipped]).astype("<f4").tofile(root / "imagenet256_feature_flip.dat")
    np.array([*labels, *labels], dtype="<i8").tofile(root / "imagenet256_label_flip.dat")
    return root


def uvit(root: Path) -> Path:
    """U-ViT's features: np.save of a pair, which is an array of objects, and so a pickle."""
    (root / "imagenet256_features").mkdir(parents=True)
    pair = np.empty(2, dtype=object)
    pair[:] = latents(1, 8)[0], 3
    np.save(root / "imagenet256_features/0.npy", pair, allow_pickle=True)
    return root
