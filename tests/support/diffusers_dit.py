"""Diffusers' DiT with random weights."""

from typing import Any

import torch
from diffusers import DiTTransformer2DModel

SMALL = {
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "num_layers": 2,
    "sample_size": 8,
    "num_embeds_ada_norm": 10,
}


def theirs(**changes: Any) -> DiTTransformer2DModel:
    """Diffusers' DiT with weights at random, one embedder for all blocks, and the official code's two constants."""
    torch.manual_seed(0)
    model = DiTTransformer2DModel(out_channels=8, patch_size=2, norm_eps=1e-6, **changes).eval()
    embedder = model.transformer_blocks[0].norm1.emb
    for block in model.transformer_blocks:
        block.norm1.emb.load_state_dict(embedder.state_dict())
        block.norm1.emb.time_proj.downscale_freq_shift = 0
    return model
