"""Figures of samples show the names of their classes, in any script."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

import tests.support.synthetic_records as synthetic
from diffussm.host import fonts
from reports import style
from reports.grid import report
from reports.grid.results import load
from reports.grid.sample_rows import sample_rows

NAMES = ["daisy", "Ромашка", "菊", "a$b$", "golden retriever of the north", "\udcff", "\n", "0"]


ROWS = {"A": np.zeros((8, 8, 8, 1), dtype=np.uint8), "大": np.zeros((8, 8, 8, 1), dtype=np.uint8)}


def test_figures_are_drawn_whatever_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "installed_with", lambda _: None)
    assert style.drawable("Ромашка 菊\udcff\n") == "Ромашка \\u83ca\\udcff\n"
    plain, named = tmp_path / "plain.png", tmp_path / "named.png"
    style.save(sample_rows(ROWS, [], "samples"), plain)
    style.save(sample_rows(ROWS, NAMES, "samples"), named)  # a warning would be an error
    assert len(np.asarray(Image.open(named))) > len(np.asarray(Image.open(plain)))


def test_an_installed_font_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    brought, arc = fonts.dejavu_sans(), "\u2312"
    assert brought
    monkeypatch.setattr(fonts, "installed_with", lambda _: brought.with_name("DejaVuSansMono.ttf"))
    monkeypatch.setattr(style, "_registered", {})
    assert style.drawable(arc) == arc
    assert style.families()[-1] == "DejaVu Sans Mono"
    style.save(sample_rows({arc: ROWS["A"]}, [arc] * 8, f"an arc {arc}"), tmp_path / "arc.png")  # without a warning


@pytest.mark.parametrize("names", [[], list("abcdefgh"), [*"abcdefg", "golden_retriever_of_the_north"], ["temple"] * 8])
@pytest.mark.parametrize("columns", [1, 8])
def test_texts_are_inside_the_figure(names: list[str], columns: int) -> None:
    rows = {name: images[:columns] for name, images in ROWS.items()}
    figure = sample_rows(rows, names[-columns:], "hourglass_vs_patch on digits: same noise and labels (columns)")
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(Text) if text.get_text()]
    assert len(texts) == len(names[-columns:]) + 3
    for text in texts:
        box = text.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1, text
        assert 0 <= box.y0 < box.y1 <= figure.bbox.y1, text
    plt.close(figure)


def test_a_long_name_is_cut() -> None:
    (axis, *_) = sample_rows(ROWS, ["golden_retriever_of_the_north"] * 8, "samples").axes
    assert axis.get_title() == "golden_retriever_..."
    plt.close()


@pytest.mark.parametrize("stored", [True, False])
def test_names_are_those_beside_the_samples(stored: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples of before have labels alone."""
    results = load(synthetic.write(tmp_path, synthetic.basic_metrics), tmp_path)
    for path in tmp_path.rglob("samples.npz") if stored else ():
        with np.load(path) as file:
            arrays = dict(file)
        np.savez(path, **arrays, class_names=np.array([f"digit {label}" for label in arrays["labels"]]))
    shown: list[list[str]] = []

    def keep(samples: dict[str, np.ndarray], classes: list[str], title: str):  # type: ignore[no-untyped-def]
        shown.append(list(classes))
        return sample_rows(samples, classes, title)

    monkeypatch.setattr(report, "sample_rows", keep)
    report._samples(results, tmp_path / "samples")
    assert shown[0][:3] == (["digit 0", "digit 1", "digit 2"] if stored else ["0", "1", "2"])


@pytest.mark.parametrize(("side", "columns"), [(64, 3 + 3 * 64 * 64), (65, 3)])
def test_large_images_are_not_in_the_table(
    side: int, columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would take a second and 50 MB for each row of 256 x 256."""
    runs = tmp_path / "runs"
    manifest = synthetic.write(runs, synthetic.basic_metrics)
    for path in runs.glob("*/milestones/*/*/samples.npz"):
        np.savez(path, arr_0=np.zeros((2, side, side, 3), np.uint8), labels=np.zeros(2, np.int64))
    report._samples(load(manifest, runs), tmp_path / "samples")
    assert len((tmp_path / "samples.csv").read_text().partition("\n")[0].split(",")) == columns
    assert (tmp_path / "samples.png").exists()


@pytest.mark.parametrize(
    ("labels", "shared"), [(np.zeros(64), "same noise (columns)"), (np.arange(64) % 10, "same noise and labels")]
)
def test_the_title_names_what_columns_share(
    labels: np.ndarray, shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = load(synthetic.write(tmp_path, synthetic.basic_metrics), tmp_path)
    for path in tmp_path.rglob("samples.npz"):
        np.savez(path, arr_0=np.zeros((64, 8, 8, 1), np.uint8), labels=labels.astype(np.int64))
    titles: list[str] = []

    def keep(samples: dict[str, np.ndarray], classes: list[str], title: str):  # type: ignore[no-untyped-def]
        titles.append(title)
        return sample_rows(samples, classes, title)

    monkeypatch.setattr(report, "sample_rows", keep)
    report._samples(results, tmp_path / "samples")
    assert shared in titles[0]
