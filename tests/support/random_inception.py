"""Inception's true architecture with random weights, for tests: the published ones cannot lie in this repository.

Every layer's output is brought to a mean of zero and a variance of one per channel before its ReLU by the batch norm's
running statistics, taken from photographs; class scores have a spread of 2. What such a network computes means nothing,
but differs between images as much as features do, so whatever reads the wrong layer, axis or file is found out.

In another process: `--extractor tests.support.random_inception:FACTS`, or FACTS_64 with a layer that costs little,
where the variable RANDOM_INCEPTION names the file of weights.
"""

import hashlib
import io
import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from diffussm.data.photos import Crops
from diffussm.metrics.features.registry import ExtractorFacts
from diffussm.metrics.features.weights_file import WeightsFile

ENVIRONMENT = "RANDOM_INCEPTION"
LAYERS = {"FACTS": "2048", "FACTS_64": "64"}
SPREAD = 2.0  # standard deviation of a class score between images


class _Unloaded(FeatureExtractorInceptionV3):
    """The network before any weights are in it."""

    def __init__(self) -> None:
        nothing = io.BytesIO()
        torch.save({}, nothing)
        nothing.seek(0)
        super().__init__("random", ["2048"], feature_extractor_weights_path=nothing)

    def load_state_dict(self, *_: object, **__: object) -> None:
        pass


def state_dict(images: int = 8) -> dict[str, Tensor]:
    """Random weights, the same at every call on one machine."""
    network, generator = _Unloaded(), torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            module.bias.uniform_(-0.3, 0.3, generator=generator)
            module.momentum = 1.0  # running statistics are those of the last batch
            module.train()
    pixels = torch.from_numpy(Crops(training=True).take(1, 0, images)[0])
    with torch.no_grad():
        (features,) = network(pixels)
        scores = network.fc.weight.normal_(generator=generator)
        typical = features.mean(0)
        scores -= (scores @ typical)[:, None] * typical / (typical @ typical)  # else all images are of the same class
        scores *= SPREAD / (features @ scores.T).std(0).mean()
        network.fc.bias.normal_(generator=generator)  # what `logits_unbiased` leaves out
    return network.state_dict()


def write(folder: Path) -> Path:
    """The file of weights, in torch-fidelity's form."""
    path = folder / "random-inception.pth"
    torch.save(state_dict(), path)
    return path


def facts(path: Path, features: str = "2048") -> ExtractorFacts:
    """An extractor of the weights at `path`, whose features are the layer named."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return ExtractorFacts(
        name=f"random-inception-{features}",
        network="diffussm.metrics.features.inception:Inception",
        weights=WeightsFile(path.name, sha256, "tests/support/random_inception.py", path),
        channels=3,
        image_size=None,
        data="natural images",
        scores=True,
        features=features,
        spatial="spatial",
        logits="logits_unbiased",
        batch=50,
    )


def __getattr__(name: str) -> ExtractorFacts:
    if name not in LAYERS or ENVIRONMENT not in os.environ:
        raise AttributeError(f"module {__name__} has no {name}, or {ENVIRONMENT} names no file")
    return facts(Path(os.environ[ENVIRONMENT]), LAYERS[name])
