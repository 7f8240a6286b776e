"""Inception as ADM's evaluator has it: torch-fidelity's port of the TensorFlow graph, and the layer that sFID is on."""

from typing import Any

from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

SPATIAL = 7  # channels
BEHIND = ("768", "2048", "logits_unbiased", "logits")  # layers that the spatial one lies before


class Inception(FeatureExtractorInceptionV3):
    """torch-fidelity's layers and `spatial`: the first 7 channels of the graph's mixed_6/conv, the output of
    Mixed_6d.branch1x1, flattened H, W, C: (B, 17 * 17 * 7 = 2023)."""

    features_list: list[str]

    def __init__(self, name: str, features_list: list[str], **keywords: Any) -> None:
        super().__init__(name, features_list, **keywords)
        self._spatial: Tensor | None = None
        self.Mixed_6d.branch1x1.register_forward_hook(self._keep)

    def _keep(self, _: nn.Module, __: Any, output: Tensor) -> None:
        self._spatial = output[:, :SPATIAL].permute(0, 2, 3, 1).flatten(1)

    def forward(self, input: Tensor) -> tuple[Tensor, ...]:
        asked: list[str] = self.features_list
        theirs = [name for name in asked if name != "spatial"]
        if "spatial" in asked and not set(theirs) & set(BEHIND):
            theirs.append(BEHIND[0])  # they stop at the last layer that is asked for
        self.features_list = theirs
        try:
            layers = dict(zip(theirs, super().forward(input), strict=True))
        finally:
            self.features_list = asked
            spatial, self._spatial = self._spatial, None
        if "spatial" in asked:
            assert spatial is not None
            layers["spatial"] = spatial
        return tuple(layers[name] for name in asked)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return *FeatureExtractorInceptionV3.get_provided_features_list(), "spatial"
