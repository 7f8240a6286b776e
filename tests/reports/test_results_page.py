"""What results.md says beside its numbers."""

from dataclasses import replace
from pathlib import Path

import tests.support.synthetic_records as synthetic
from diffussm.store import records
from reports.grid import report as grid_report
from reports.grid.results import load


def test_what_was_baked_into_latents_is_stated(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    manifest = synthetic.write(runs, synthetic.basic_metrics)
    paths = list(runs.glob("*/milestones/*/*/record.json"))
    for path, baked in zip(paths, (["one posterior sample", "one flip"], ["one posterior sample"], []), strict=False):
        stated = records.read(path)
        assert stated
        path.unlink()
        records.write(stated.model_copy(update={"provenance": {records.DATA_BAKED: baked}}), path)
    grid_report.results_page(load(manifest, runs), tmp_path / "results")
    count = f"Baked into the latents behind 1 of {len(paths)} records, the same in each epoch of training: "
    page = (tmp_path / "results.md").read_text()
    for what in ("one posterior sample, one flip.", "one posterior sample."):
        assert f"{count}{what}" in page
    assert page.count("Baked") == 2


def test_the_reference_behind_the_numbers_is_stated(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    results = load(synthetic.write(runs, synthetic.basic_metrics), runs)
    grid_report.results_page(results, tmp_path / "results")
    assert "against 1797 images of digits (SHA-256 0b7e9c3202d7...)" in (tmp_path / "results.md").read_text()
    for images, more in ((10_000, ", for precision, recall and KID its 10000 images"), (0, "")):
        of_adm = {
            "reference": "VIRTUAL_imagenet512", "reference_sha256": "ab" * 32, "reference_kind": "statistics",
            "reference_samples": images,
        }  # fmt: skip
        found = {
            row: record.model_copy(update={"key": record.key.model_copy(update=of_adm)})
            for row, record in results.found.items()
        }
        grid_report.results_page(replace(results, found=found), tmp_path / "results")
        expected = f"against the statistics in the file VIRTUAL_imagenet512 (SHA-256 abababababab...){more}"
        assert expected in (tmp_path / "results.md").read_text()


def test_a_reference_of_other_data_is_stated(tmp_path: Path) -> None:
    def page() -> str:
        grid_report.results_page(load(manifest, runs), tmp_path / "results")
        return (tmp_path / "results.md").read_text()

    runs = tmp_path / "runs"
    manifest = synthetic.write(runs, synthetic.basic_metrics)
    assert "Warning" not in page()
    paths = list(runs.glob("*/milestones/*/*/record.json"))
    for digests in ({"training": "1", "reference": "1"}, {"training": "1", "reference": "2", "extractor": "2"}):
        stated = records.read(paths[0])
        assert stated
        paths[0].unlink()
        records.write(stated.model_copy(update={"provenance": {records.DATA_DIGESTS: digests}}), paths[0])
    count = f"**Warning:** 1 of {len(paths)} records was measured"
    assert f"{count} against a reference that was built from other data than the runs were trained on. 1 of " in page()


def test_the_autoencoder_of_decoded_samples_is_stated(tmp_path: Path) -> None:
    manifest = synthetic.write(tmp_path / "runs", synthetic.basic_metrics)
    results = load(manifest, tmp_path / "runs")
    assert results.key
    assert "decoded" not in grid_report._evaluation_settings(results)
    object.__setattr__(results, "key", results.key.model_copy(update={"vae_sha256": "a1" * 32}))
    expected = "ema weights, decoded by the autoencoder with SHA-256 a1a1a1a1a1a1..., against 1797 images of digits"
    assert expected in grid_report._evaluation_settings(results)
