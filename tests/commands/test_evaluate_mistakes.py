"""Mistakes with `diffussm evaluate`, grids and runs: one line, and nothing half-written."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

import tests.support.tiny as tiny
from ablations import launch
from diffussm.config import Request
from diffussm.errors import UserError
from diffussm.metrics.key import evaluation_key
from diffussm.models.trained import requested_config
from diffussm.store import records
from diffussm.store.rundir import RunDir
from tests.support.evaluating import DIGITS, Run, assert_error, listed


def jpegs(path: Path) -> None:
    path.mkdir()
    Image.new("L", (8, 8)).save(path / "1.jpg")


def of(array: Any, **more: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, arr_0=array, **more)

    return write


def truncated(path: Path) -> None:
    of(np.zeros((9, 8, 8, 1), dtype=np.uint8))(path)
    path.write_bytes(path.read_bytes()[:-50])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda _: None, "no such file or folder"),
        (lambda path: path.mkdir(), "holds no PNG files"),
        (jpegs, "holds JPEG files"),
        (truncated, "is damaged"),
        (lambda path: path.write_bytes(b""), "is damaged"),
        (of(np.array([None])), "holds Python objects"),
        (of(np.zeros((9, 8, 8, 1))), "is float64; allowed: uint8"),
        (of(np.zeros((9, 1, 8, 8), dtype=np.uint8)), "allowed: (N, H, W, C)"),
        (of(np.zeros((0, 8, 8, 1), dtype=np.uint8)), "holds no images"),
        (of(np.zeros((9, 16, 16, 1), dtype=np.uint8)), "is for 1 x 8 x 8 images, but these are 1 x 16 x 16"),
        (of(np.zeros((9, 8, 8, 3), dtype=np.uint8)), "is for 1 x 8 x 8 images, but these are 3 x 8 x 8"),
        (of(np.zeros((9, 8, 16, 1), dtype=np.uint8)), "images are 8 x 16 pixels; they must be square"),
        (of(np.zeros((3, 8, 8, 1), dtype=np.uint8)), "kid needs at least 4 samples, but there are 3"),
        (of(np.zeros((1, 8, 8, 1), dtype=np.uint8)), "fid needs at least 2 samples, but there is 1"),
    ],
)
def test_samples_that_are_refused(
    make: Callable[[Path], Any], words: str, tmp_path: Path, diffussm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFUSSM_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "samples"
    make(path)
    before = listed(tmp_path)
    assert_error(diffussm("evaluate", path, *DIGITS), words)
    assert listed(tmp_path) == before


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "the reference must be given: --reference"),
        (["--reference", "digit"], "evaluation.reference: unknown name 'digit'; did you mean 'digits'?"),
        (["--reference", "nowhere.npz"], "nowhere.npz: no such file"),
        (["--reference", "img512.pkl"], "evaluation.reference = img512.pkl: is a pickle, as EDM2's references are"),
        ([*DIGITS[:2], "--extractor", "digit-cnn"], "evaluation.extractor: unknown name 'digit-cnn'; did you mean"),
        ([*DIGITS, "--metrics", "fid,fod"], "evaluation.metrics: unknown name 'fod'; did you mean 'fid'?"),
        ([*DIGITS, "--metrics", "fid,label_accuracy"], "label_accuracy needs class labels"),
        ([*DIGITS, "--metrics", "clean_fid"], "an extractor for natural images, which digits-cnn is not"),
        ([*DIGITS[:2], "--extractor", "inception-v3-compat"], "needs weights file weights-inception-2015"),
        ([*DIGITS[:2], "--extractor", "photos-cnn"], "is for 3 x 32 x 32 images, but these are 1 x 8 x 8"),
        ([*DIGITS, "--step", "8"], "not a run folder; --step applies to runs only"),
        ([*DIGITS, "--set", "evaluation.samples=5"], "and --set, apply to runs and models only"),
        ([*DIGITS, "--set", "model.width=3"], "--set model.width: only fields of the evaluation"),
        ([*DIGITS[:2], "--extractor", "no_such_module:FACTS"], "no_such_module:FACTS: ModuleNotFoundError"),
        ([*DIGITS[:2], "--extractor", "broken_module:FACTS"], "broken_module:FACTS: ZeroDivisionError"),
        ([*DIGITS[:2], "--extractor", "torn_module:FACTS"], "torn_module:FACTS: SyntaxError"),
        ([*DIGITS[:2], "--extractor", "good_module:NONE"], "good_module:NONE: AttributeError"),
        ([*DIGITS[:2], "--extractor", "good_module:FACTS"], "expected an ExtractorFacts"),
        ([*DIGITS[:2], "--extractor", ":FACTS"], "evaluation.extractor = :FACTS"),
    ],
)
def test_mistakes_with_samples(
    given: list[str], words: str, npz: Path, tmp_path: Path, diffussm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "broken_module.py").write_text("1 / 0\n")
    (modules / "torn_module.py").write_text("def\n")
    (modules / "good_module.py").write_text("FACTS = 3\n")
    monkeypatch.syspath_prepend(modules)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("DIFFUSSM_CACHE", str(tmp_path / "cache"))
    before = listed(tmp_path)
    assert_error(diffussm("evaluate", npz, *given), words)
    assert listed(tmp_path) == before


def test_clean_fid_without_its_weights(npz: Path, diffussm: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before Inception is loaded, whose weights are there."""
    from diffussm.metrics.features.weights_file import CLEAN_FID, WeightsFile

    monkeypatch.setattr(WeightsFile, "missing_requirement", lambda self, _="": "" if self != CLEAN_FID else "needs X")
    given = (*DIGITS[:2], "--extractor", "inception-v3-compat", "--metrics", "fid,clean_fid")
    assert_error(diffussm("evaluate", npz, *given), "evaluation.metrics: clean-fid needs X")


STATISTICS = {"mu": np.zeros(64), "sigma": np.eye(64)}
ZEROS = np.zeros((9, 8, 8, 1), dtype=np.uint8)


def stated(**fields: Any) -> np.ndarray:
    content = {"channels": 1, "image_size": 8, **fields}
    return np.frombuffer(json.dumps(content).encode(), dtype=np.uint8)


@pytest.mark.parametrize(
    ("arrays", "metrics", "words"),
    [
        (
            {"arr_0": np.zeros((9, 16, 16, 1), dtype=np.uint8)},
            "fid",
            "is for 1 x 16 x 16 images, but these are 1 x 8 x 8",
        ),
        ({"arr_0": np.zeros((9, 8, 16, 1), dtype=np.uint8)}, "fid", "squares with 1 or 3 channels"),
        ({"arr_0": np.zeros((9, 1, 8, 8), dtype=np.uint8)}, "fid", "squares with 1 or 3 channels"),
        ({"arr_0": np.zeros((0, 8, 8, 1), dtype=np.uint8)}, "fid", "squares with 1 or 3 channels"),
        ({"arr_0": np.zeros((9, 8, 8, 1))}, "fid", "not uint8 (N, H, W, C)"),
        ({"arr_0": np.array([None])}, "fid", "holds Python objects, which are not loaded from files"),
        ({"arr_0": ZEROS[:1]}, "fid", "fid needs at least 2 images of the reference"),
        ({"x": ZEROS}, "fid", "has neither arr_0 nor mu, but x"),
        (STATISTICS, "fid,precision", "precision needs at least 4 images of the reference, but reference has none"),
        ({**STATISTICS, "arr_0": ZEROS}, "fid,sfid", "sfid needs mu_s and sigma_s besides mu and sigma"),
        ({"mu": np.zeros(64)}, "fid", "mu without a sigma of its size"),
        ({"mu": np.float64(0), "sigma": np.float64(1)}, "fid", "mu of shape (), not of one axis"),
        ({"mu": np.zeros(7), "sigma": np.eye(7)}, "fid", "statistics have 7 features, but digits-cnn gives 64"),
        (
            {**STATISTICS, "diffussm": stated(extractor_sha256="0" * 64)},
            "fid",
            "were computed with other weights (0000",
        ),
        (
            {**STATISTICS, "diffussm": stated(image_size=16)},
            "fid",
            "is for 1 x 16 x 16 images, but these are 1 x 8 x 8",
        ),
    ],
)
def test_references_that_are_refused_before_anything_starts(
    arrays: dict[str, Any], metrics: str, words: str, run: RunDir, npz: Path, tmp_path: Path, diffussm: Run
) -> None:
    reference = tmp_path / "reference.npz"
    np.savez(reference, **arrays)
    before = listed(tmp_path)
    for samples in (run.path, npz):
        assert_error(diffussm("evaluate", samples, "--reference", reference, *DIGITS[2:], "--metrics", metrics), words)
    assert listed(tmp_path) == before


def test_another_transform_and_numbers_that_are_not_finite(run: RunDir, tmp_path: Path, diffussm: Run) -> None:
    reference = tmp_path / "reference.npz"
    given = ("evaluate", run.path, "--reference", reference, "--metrics", "fid")
    np.savez(reference, **STATISTICS, diffussm=stated(transform="centre-crop 8"))
    before = listed(tmp_path)
    assert_error(diffussm(*given), "built with transform 'centre-crop 8', but the training data use 'none'")
    np.savez(reference, mu=np.full(64, np.nan), sigma=np.eye(64))
    assert_error(diffussm(*given), "reference.npz: mu: holds numbers that are not finite")
    np.savez(reference, **STATISTICS)
    assert listed(tmp_path) == before
    assert diffussm(*given)[0] == 0  # one that says nothing fits


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--step", "7"], "step 7: no ema weights are kept of this step; available: 8, 16, 24"),
        (["--set", "model.width=3"], "--set model.width: only fields of the evaluation"),
        (["--set", "evaluation.sample=3"], "did you mean 'evaluation.samples'?"),
        (["--set", "evaluation.samples=1"], "evaluation.samples"),
        (["--set", "evaluation.samples=3", "--metrics", "kid"], "kid needs at least 4 samples, but there are 3"),
        (["--set", "evaluation.weights=raw"], "no raw weights are kept yet"),
        (["--metrics", "fod"], "evaluation.metrics"),
        (["--metrics", "clean_fid"], "clean_fid needs an extractor for natural images"),
        (["--extractor", "digit-cnn"], "did you mean 'digits-cnn'?"),
        (["--extractor", "digits16-cnn"], "is for 1 x 16 x 16 images, but these are 1 x 8 x 8"),
        (["--extractor", "inception-v3-compat", "--metrics", "fid"], "needs weights file weights-inception-2015"),
        (["--reference", "digits16"], "is for 1 x 16 x 16 images, but these are 1 x 8 x 8"),
        (["--reference", "nowhere.npz"], "nowhere.npz: no such file"),
    ],
)
def test_mistakes_with_runs(given: list[str], words: str, run: RunDir, diffussm: Run) -> None:
    before = listed(run.path)
    assert_error(diffussm("evaluate", run.path, *given), words)
    assert listed(run.path) == before


def test_outputs_that_are_not_finite(run: RunDir, diffussm: Run) -> None:
    path = run.weights(24, "ema")
    weights = load_file(path)
    weights[next(iter(weights))].view(-1)[0] = float("nan")
    save_file(weights, path)
    before = listed(run.path)
    assert_error(diffussm("evaluate", run.path), f"{path}: sample 0 is not finite")
    for more in ((), ("--npz", run.path / "new.npz", "--samples", "4")):
        assert_error(diffussm("sample", run.path, *more), f"{path}: sample 0 is not finite")
    assert listed(run.path) == before


def test_weights_that_are_gone(run: RunDir, diffussm: Run) -> None:
    """A record by an extractor whose weights are not here is shown; one cannot be made."""
    given = ("--extractor", "inception-v3-compat", "--metrics", "fid")
    config = requested_config(run, {"extractor": "inception-v3-compat", "metrics": ["fid"]})
    key = evaluation_key(config)
    record = records.Record(run_id=run.run_id, step=24, key=key, metrics={"fid": 1.0}, timing={}, provenance={})
    records.write(record, run.record(24, key.digest))
    code, out, _ = diffussm("evaluate", run.path, *given)
    assert code == 0
    assert re.search(r"FID † +1\.00", out)
    assert_error(diffussm("evaluate", run.path, *given, "--step", "8"), "needs weights file")


# Grids and runs


def test_a_grid_without_its_weights_writes_nothing(tmp_path: Path) -> None:
    given = ["--grid", "hourglass_vs_patch", "--runs", str(tmp_path / "runs")]
    given += ["--set", "evaluation.extractor=inception-v3-compat", "--set", 'evaluation.metrics=["fid"]']
    with pytest.raises(UserError, match="inception-v3-compat: needs weights file weights-inception") as error:
        launch.main(given)
    assert "\n" not in str(error.value)
    assert listed(tmp_path) == []


def test_a_run_whose_weights_are_gone_is_refused_before_it_trains(tmp_path: Path, diffussm: Run) -> None:
    config = tiny.config(evaluation__extractor="inception-v3-compat", evaluation__metrics=["fid"])
    run = RunDir.create(tmp_path, config)
    run.add_requests([Request.from_config(config)])
    code, _, err = diffussm("train", run.path)
    assert code == 2
    assert err.startswith("error: evaluation.extractor = inception-v3-compat: needs weights file")
    assert err.count("\n") == 1
    assert run.checkpoints() == []
    assert not (run.path / "train-1.jsonl").exists()
    assert not run.kept_milestones("ema")
    assert run.state().phase == "failed"
