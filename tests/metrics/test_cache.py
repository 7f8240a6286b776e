"""The cache: hits by content, misses by content, and never in the way."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffussm.config import EvaluationConfig
from diffussm.metrics.key import external_key
from diffussm.metrics.reference import cache
from diffussm.metrics.reference import statistics as reference_module
from diffussm.metrics.suite import MetricSuite
from diffussm.store.records import EvaluationKey
from tests.support.damage import flip
from tests.support.ending import popen

ROOT = Path(__file__).parents[2]
CONTENT = {"reference": "abc", "weights": "def"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIFFUSSM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def made() -> dict[str, np.ndarray]:
    return {"x": np.arange(6.0).reshape(2, 3), "y": np.arange(3, dtype=np.float32)}


def not_made() -> Any:
    raise AssertionError("it is there")


def check(found: dict[str, np.ndarray]) -> None:
    assert found.keys() == made().keys()
    for name, array in made().items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_hit_and_miss_by_content() -> None:
    check(cache.cached_arrays(CONTENT, made))
    check(cache.cached_arrays(dict(reversed(CONTENT.items())), not_made))
    for name in CONTENT:
        with pytest.raises(AssertionError, match="it is there"):
            cache.cached_arrays({**CONTENT, name: "another"}, not_made)
    assert cache.cached_number(CONTENT, lambda: 0.1) == 0.1
    assert cache.cached_number(CONTENT, not_made) == 0.1
    with pytest.raises(AssertionError, match="it is there"):
        cache.cached_number({**CONTENT, "samples": 2}, not_made)


def test_damaged_arrays_are_made_anew(folder: Path) -> None:
    cache.cached_arrays(CONTENT, made)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        damaged = [whole[:place]] + [whole[:place] + bytes([whole[place] ^ b]) + whole[place + 1 :] for b in (1, 0xFF)]
        for content in damaged if place % 2 == 0 else damaged[:1]:
            path.write_bytes(content)
            check(cache.cached_arrays(CONTENT, made))
    path.write_bytes(whole[:-1])
    cache.cached_arrays(CONTENT, made)
    check(cache.cached_arrays(CONTENT, not_made))


def test_arrays_whose_shape_became_smaller_are_made_anew(folder: Path) -> None:
    """So that NumPy stops before the end of the member, where its checksum would be compared."""
    large = {"x": np.ones((5000, 64), dtype=np.float32)}
    cache.cached_arrays(CONTENT, lambda: large)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes().replace(b"(5000, 64)", b"(4000, 64)", 1))
    assert cache.cached_arrays(CONTENT, lambda: large)["x"].shape == (5000, 64)


def test_damaged_numbers_are_made_anew(folder: Path) -> None:
    number = 12.345678901234567
    cache.cached_number(CONTENT, lambda: number)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place])
        assert cache.cached_number(CONTENT, lambda: number) == number
        for bit in range(8):
            path.write_bytes(whole)
            flip(path, 8 * place + bit)
            assert cache.cached_number(CONTENT, lambda: number) == number
    for other in (f'{{"number": {number}}}', "12.3", "[]", '{"number": "12.3"}', '{"number": null}'):
        path.write_text(other)
        assert cache.cached_number(CONTENT, lambda: number) == number
    assert cache.cached_number(CONTENT, not_made) == number


def test_a_folder_that_cannot_be_written_to_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/diffussm")):
        monkeypatch.setenv("DIFFUSSM_CACHE", str(place))
        check(cache.cached_arrays(CONTENT, made))
        assert cache.cached_number(CONTENT, lambda: 1.5) == 1.5


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder_is_read(folder: Path) -> None:
    cache.cached_arrays(CONTENT, made)
    folder.chmod(0o555)
    try:
        check(cache.cached_arrays(CONTENT, not_made))
        check(cache.cached_arrays({"other": 1}, made))
    finally:
        folder.chmod(0o755)


def test_several_processes_at_once(folder: Path) -> None:
    """Each finds nothing or the whole: one content, written again and again by four processes that all read it."""
    script = (
        "import numpy as np, os\n"
        "from diffussm.metrics.reference import cache\n"
        "for i in range(150):\n"
        "    x = cache.cached_arrays({'n': i // 10}, lambda: {'x': np.full(10_000, float(i // 10))})['x']\n"
        "    assert x.shape == (10_000,) and (x == i // 10).all()\n"
        "    if i % 7 == 0:\n"
        "        for path in cache.folder().glob('*.npz'):\n"
        "            path.unlink(missing_ok=True)\n"
    )
    command = [sys.executable, "-c", script]
    running = [popen(command, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(4)]
    for process in running:
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == 0
    assert not list(folder.glob(".*"))


def measured(key: EvaluationKey) -> MetricSuite:
    found = MetricSuite(EvaluationConfig(), key)
    found.load_reference()
    return found


def floor_of(suite: MetricSuite) -> float | None:
    return suite.reference.layer("features").floor


def test_what_a_reference_is_asked_again_is_not_computed_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = external_key(EvaluationConfig(samples=20), (1, 8))
    floor = floor_of(measured(key))
    assert {path.suffix for path in folder.iterdir()} == {".npz", ".json"}
    before = set(folder.iterdir())
    extract = reference_module.Reference._extract
    monkeypatch.setattr(reference_module.Reference, "_extract", not_made)
    monkeypatch.setattr(reference_module, "noise_floor", not_made)
    assert floor_of(measured(key)) == floor
    for changed in ({"reference_sha256": "0"}, {"extractor_sha256": "0"}):
        with pytest.raises(TypeError):  # not_made is called with the reference
            measured(key.model_copy(update=changed))
    with pytest.raises(TypeError):  # another n has another floor, of the same features
        measured(key.model_copy(update={"samples": 21}))
    assert set(folder.iterdir()) == before
    monkeypatch.undo()
    monkeypatch.setenv("DIFFUSSM_CACHE", str(folder))
    assert reference_module.Reference._extract is extract
    other = floor_of(measured(key.model_copy(update={"samples": 21})))
    assert other != floor
    assert len(set(folder.iterdir()) - before) == 1  # the floor alone


def test_nothing_is_written_elsewhere(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "XDG_CACHE_HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.chdir(home)
    cache.cached_arrays(CONTENT, made)
    cache.cached_number(CONTENT, lambda: 1.0)
    assert list(home.iterdir()) == []
    assert len(list(folder.iterdir())) == 2
    monkeypatch.delenv("DIFFUSSM_CACHE")
    assert cache.folder() == home / "diffussm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folder() == home / ".cache/diffussm"
    assert json.loads(next(folder.glob("*.json")).read_text())["number"] == 1.0


def test_another_layer_of_an_outside_extractor_is_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name and weights may stay the same."""
    module = tmp_path / "outside_facts.py"
    module.write_text(
        "from dataclasses import replace\n"
        "from diffussm.metrics.features.registry import EXTRACTORS\n"
        "MINE = replace(EXTRACTORS['digits-cnn'], features='features')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    evaluation = EvaluationConfig(extractor="outside_facts:MINE")
    before = external_key(evaluation, (1, 8))
    import outside_facts  # type: ignore[import-not-found]

    monkeypatch.setattr(outside_facts, "MINE", replace(outside_facts.MINE, features="logits"))
    after = external_key(evaluation, (1, 8))
    assert (before.extractor, before.extractor_sha256) == (after.extractor, after.extractor_sha256)
    assert before.digest != after.digest
    assert external_key(EvaluationConfig(), (1, 8)).extractor_layers == ""
