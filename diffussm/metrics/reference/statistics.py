"""The reference that samples are compared with: its features and Gaussians, computed once and cached by content."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffussm.config import is_npz_name
from diffussm.data.load import reference_images
from diffussm.data.pixels import ArrayPixels, NpzPixels, Pixels
from diffussm.metric_table import CLEAN_FID
from diffussm.metrics.features.extractor import Extractor, Layers
from diffussm.metrics.reference import cache
from diffussm.metrics.reference.file import STATISTICS, ReferenceFile
from diffussm.metrics.reference.gaussian import stated_gaussian
from diffussm.metrics.statistics.fid import noise_floor
from diffussm.metrics.statistics.finite import finite
from diffussm.metrics.statistics.frechet import FrechetDistance, Statistics
from diffussm.store.records import EvaluationKey

BATCH = 500


class Reference:
    """The reference named `reference` (a data set or an .npz file) in an evaluation of `key`.

    Its features are those of its images. Frechet distances use the statistics in its file, or else those of its images.
    """

    def __init__(
        self,
        reference: str,
        key: EvaluationKey,
        extractor: Extractor,
        second_extractor: Callable[[NDArray[np.uint8]], Layers] | None = None,  # for layers of other networks
    ):
        self.reference, self.key = reference, key
        self.extractor, self.second_extractor = extractor, second_extractor
        self._by_layer: dict[str, CachedLayer] = {}

    @cached_property
    def pixels(self) -> Pixels:
        """Return its images; raise UserError if it has none."""
        if not is_npz_name(self.reference):
            return ArrayPixels(reference_images(self.reference).pixels)
        return NpzPixels(Path(self.reference))

    @cached_property
    def layers(self) -> Layers:
        """Return the layers of its images, (m, size of the layer) each; computed once per content and extractor."""
        kind = torch.device(self.extractor.device).type
        made_by = {"layers": [*self.extractor.layers], "device": kind, "torch": torch.__version__}
        modes = [metric for metric in CLEAN_FID if metric in self.key.metrics]
        clean_fid = {"clean_fid": self.key.clean_fid_sha256, "modes": modes} if modes else {}
        return cache.cached_arrays({**self._content, **made_by, **clean_fid}, self._extract)

    def _extract(self) -> Layers:
        second = self.second_extractor
        parts = [self.extractor(batch) | (second(batch) if second else {}) for batch in self.pixels.batches(BATCH)]
        layers = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "logits"}
        return {name: finite(layer, f"its {name}", "reference image") for name, layer in layers.items()}

    def layer(self, name: str) -> "CachedLayer":
        """Return the layer that the metrics compare the samples with; the same object at every call."""
        return self._by_layer.setdefault(name, CachedLayer(self, name))

    def statistics(self, layer: str) -> Statistics:
        """Return the Gaussian of a layer, from its file or of its images; raise UserError if that of a file is none."""
        if self.key.reference_kind == "images":
            return Statistics.of(self.layers[layer])
        return stated_gaussian(Path(self.reference), layer)

    def stated_size(self, layer: str) -> int | None:
        """Return the number of features in its file's statistics of the layer; None if it has none."""
        if not is_npz_name(self.reference) or layer not in STATISTICS:
            return None
        header = ReferenceFile(Path(self.reference)).headers.get(STATISTICS[layer][0])
        return header.shape[0] if header else None

    def floor(self, layer: str) -> float | None:
        """Return the Frechet distance of its own images at the key's n; None if it has fewer than two images."""
        if self.key.reference_samples < 2:
            return None
        content = {**self._content, "floor": layer, "samples": self.key.samples}
        return cache.cached_number(content, lambda: noise_floor(self.layers[layer], self.key.samples))

    @property
    def _content(self) -> dict[str, Any]:
        return {
            "reference": self.key.reference_sha256,
            "extractor": self.key.extractor,
            "weights": self.key.extractor_sha256,
            "network": self.extractor.facts.network,
            "of_network": self.extractor.layers,
        }


class CachedLayer:
    """One layer of a reference: a ReferenceLayer whose properties are computed once."""

    def __init__(self, reference: Reference, name: str):
        self._reference, self._name = reference, name

    @property
    def features(self) -> NDArray[np.float32]:
        """Return the layer of its images: (m, size of the layer)."""
        return self._reference.layers[self._name]

    @cached_property
    def distance(self) -> FrechetDistance:
        """Return the function that gives Frechet distances to its Gaussian."""
        return FrechetDistance(self._reference.statistics(self._name))

    @cached_property
    def floor(self) -> float | None:
        """Return the Frechet distance of its own images at the key's n; None if it has fewer than two images."""
        return self._reference.floor(self._name)
