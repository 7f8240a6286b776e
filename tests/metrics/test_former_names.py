"""Extractors that were written for former names of modules still load, and keep their evaluation key."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from diffussm.data.load import reference_images
from diffussm.data.pixels import ArrayPixels
from diffussm.metrics.external import external_config, external_evaluation_key
from diffussm.metrics.features.extractor import Extractor
from diffussm.metrics.former_names import FORMER_NAMES

EXTRACTOR = """
from diffussm.metrics.catalogue import ExtractorFacts, extractor_facts
from diffussm.metrics.weights_file import WeightsFile

SHIPPED = extractor_facts("digits-cnn").weights
MINE = ExtractorFacts(
    name="mine",
    network="diffussm.metrics.small_cnn:SmallCNNFeatures",
    weights=WeightsFile(SHIPPED.name, SHIPPED.sha256, "a test", SHIPPED.shipped),
    channels=1,
    image_size=8,
    data="digits",
    spatial="spatial",
    logits="logits",
)
"""
DIGEST = "da3fd265d6e4"  # of the key that this extractor had at 26dc89b


@pytest.mark.parametrize(("former", "present"), FORMER_NAMES.items())
def test_a_former_name_is_the_same_module(former: str, present: str) -> None:
    assert importlib.import_module(former) is importlib.import_module(present)


def test_other_missing_modules_stay_missing() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'diffussm\.metrics\.no_such'"):
        importlib.import_module("diffussm.metrics.no_such")


def test_an_extractor_by_former_names_has_its_key_and_its_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_extractor.py").write_text(EXTRACTOR)
    monkeypatch.syspath_prepend(tmp_path)
    images = reference_images("digits").pixels[:100]
    pixels = ArrayPixels(images)
    key = external_evaluation_key(pixels, external_config(pixels, "digits", "their_extractor:MINE", ("fid",)))
    assert key.digest == DIGEST
    found, expected = (
        Extractor(name, ["features"])(images)["features"] for name in ("their_extractor:MINE", "digits-cnn")
    )
    np.testing.assert_array_equal(found, expected)
