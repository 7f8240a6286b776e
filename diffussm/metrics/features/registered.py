"""The shipped CNNs by their names in torch-fidelity's registry, once this module is imported:

torch_fidelity.calculate_metrics(feature_extractor="digits-cnn", ...)
"""

from typing import Any

from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import register_feature_extractor

from diffussm.metrics.features.small_cnn import SmallCNNFeatures


class Registered(FeatureExtractorBase):
    """SmallCNNFeatures as torch-fidelity wants it."""

    def __init__(
        self, name: str, features_list: list[str], feature_extractor_weights_path: Any = None, **_: Any
    ) -> None:
        super().__init__(name, features_list)
        self.network = SmallCNNFeatures(name, features_list, feature_extractor_weights_path)

    def forward(self, input: Tensor) -> tuple[Tensor, ...]:
        return self.network(input)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return "features", "spatial", "logits"

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "logits" if metric == "isc" else "features"

    @staticmethod
    def can_be_compiled() -> bool:
        return True


for shipped in ("digits-cnn", "digits16-cnn", "photos-cnn"):
    register_feature_extractor(shipped, Registered)
