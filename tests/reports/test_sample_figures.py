"""Figures of samples show the names of their classes, in any script."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tests.support.synthetic_records as synthetic
from reports import style
from reports.grid import figures, report
from reports.grid.results import load

NAMES = ["daisy", "Ромашка", "菊", "a$b$", "golden retriever of the north", "\udcff", "\n", "0"]


def test_a_character_that_cannot_be_drawn_is_a_box(tmp_path: Path) -> None:
    assert style.drawable("Ромашка 菊\udcff\n") == "Ромашка □□□"
    rows = {"A": np.zeros((8, 8, 8, 1), dtype=np.uint8)}
    plain, named = tmp_path / "plain.png", tmp_path / "named.png"
    style.save(figures.sample_rows(rows, [], "samples"), plain)
    style.save(figures.sample_rows(rows, NAMES, "samples"), named)  # a warning would be an error
    assert len(np.asarray(Image.open(named))) > len(np.asarray(Image.open(plain)))


@pytest.mark.parametrize("stored", [True, False])
def test_names_are_those_beside_the_samples(stored: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples of before have labels alone."""
    results = load(synthetic.write(tmp_path, synthetic.basic_metrics), tmp_path)
    for path in tmp_path.rglob("samples.npz") if stored else ():
        with np.load(path) as file:
            arrays = dict(file)
        np.savez(path, **arrays, class_names=np.array([f"digit {label}" for label in arrays["labels"]]))
    shown: list[list[str]] = []
    draw = figures.sample_rows

    def keep(samples: dict[str, np.ndarray], classes: list[str], title: str):  # type: ignore[no-untyped-def]
        shown.append(list(classes))
        return draw(samples, classes, title)

    monkeypatch.setattr(figures, "sample_rows", keep)
    report._samples(results, tmp_path / "samples")
    assert shown[0][:3] == (["digit 0", "digit 1", "digit 2"] if stored else ["0", "1", "2"])
