"""Inception as in ADM's evaluator: torch-fidelity's port of the TensorFlow graph, and the spatial layer of sFID."""

from typing import Any

from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

SPATIAL = 7  # channels
LATER_LAYERS = ("768", "2048", "logits_unbiased", "logits")  # those that come after the spatial one


class Inception(FeatureExtractorInceptionV3):
    """torch-fidelity's layers and `spatial`, the first 7 channels of the graph's mixed_6/conv, which is the output of
    Mixed_6d.branch1x1, flattened as H, W, C: (B, 17 * 17 * 7 = 2023)."""

    features_list: list[str]

    def __init__(self, name: str, features_list: list[str], **keywords: Any) -> None:
        super().__init__(name, features_list, **keywords)
        self._spatial: Tensor | None = None
        self.Mixed_6d.branch1x1.register_forward_hook(self._keep)

    def _keep(self, _: nn.Module, __: Any, output: Tensor) -> None:
        self._spatial = output[:, :SPATIAL].permute(0, 2, 3, 1).flatten(1)

    def forward(self, input: Tensor) -> tuple[Tensor, ...]:
        requested: list[str] = self.features_list
        inherited = [name for name in requested if name != "spatial"]
        if "spatial" in requested and not set(inherited) & set(LATER_LAYERS):
            inherited.append(LATER_LAYERS[0])  # the forward pass of the base class stops at the last requested layer
        self.features_list = inherited
        try:
            layers = dict(zip(inherited, super().forward(input), strict=True))
        finally:
            self.features_list = requested
            spatial, self._spatial = self._spatial, None
        if "spatial" in requested:
            assert spatial is not None
            layers["spatial"] = spatial
        return tuple(layers[name] for name in requested)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return *FeatureExtractorInceptionV3.get_provided_features_list(), "spatial"
