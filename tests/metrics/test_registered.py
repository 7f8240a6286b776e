"""The shipped CNNs in torch-fidelity's own calculation, end to end."""

import numpy as np
import pytest
import torch
import torch_fidelity
from torch.utils.data import Dataset

from diffussm.data.load import reference_images
from diffussm.metrics.features import registered
from diffussm.metrics.features.extractor import Extractor
from diffussm.metrics.statistics.frechet import Statistics, frechet_distance


class Images(Dataset[torch.Tensor]):
    def __init__(self, pixels: np.ndarray):
        self.pixels = torch.from_numpy(pixels)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.pixels[index]


def test_fid_by_their_calculation_is_ours() -> None:
    assert registered.Registered.get_provided_features_list() == ("features", "spatial", "logits")
    a, b = np.split(reference_images("digits").pixels[:400], 2)
    found = torch_fidelity.calculate_metrics(
        input1=Images(a),
        input2=Images(b),
        fid=True,
        feature_extractor="digits-cnn",
        cuda=False,
        save_cpu_ram=True,
        verbose=False,
    )
    extract = Extractor("digits-cnn", ["features"])
    ours = frechet_distance(*(Statistics.of(extract(pixels)["features"]) for pixels in (a, b)))
    assert found["frechet_inception_distance"] == pytest.approx(ours, rel=1e-4)
