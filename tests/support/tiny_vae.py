"""Small autoencoders in Diffusers' format."""

import json
from pathlib import Path
from typing import Any

import torch


def tiny_vae(folder: Path, seed: int = 0, blocks: int = 4, **config: Any) -> Path:
    """Save a random AutoencoderKL of a few thousand weights, which halves the side blocks - 1 times."""
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    network = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=(4,) * blocks,
        norm_num_groups=2,
        sample_size=32,
        **{"latent_channels": 4, **config},
    )
    network.save_pretrained(folder)
    return folder


def change_config(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder
