"""The public names of `import diffussm`, and the code of the page on them."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import diffussm
import tests.support.tiny as tiny
from diffussm.errors import UserError
from diffussm.training.state import TrainingState
from tests.support.diffusers_dit import SMALL, theirs
from tests.support.tiny_vae import tiny_vae

PAGE = (Path(__file__).parents[2] / "docs" / "python_api.md").read_text()


def test_code_of_the_page_runs_in_ten_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFFUSSM_CACHE", str(tmp_path / "cache"))
    theirs(**{**SMALL, "num_embeds_ada_norm": 1000}).save_pretrained("models/dit-xl-2")
    tiny_vae(Path("sd-vae-ft-ema"), blocks=3)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.M | re.S)
    assert len(blocks[0].splitlines()) <= 10
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert isinstance(names["each"], np.ndarray)
    assert names["each"].shape == (4, 1, 8, 8)
    assert isinstance(names["images"], np.ndarray)
    assert names["images"].shape == (8, 3, 32, 32)


def test_page_lists_every_public_name() -> None:
    assert set(re.findall(r"^\| `(\w+)", PAGE, flags=re.M)) == set(diffussm.__all__)


def test_import_loads_no_torch_and_offers_every_name() -> None:
    code = (
        "import sys, diffussm\n"
        "assert set(diffussm.__all__) <= set(dir(diffussm))\n"
        "diffussm.resolve, diffussm.ExtractorFacts\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(callable(getattr(diffussm, name)) for name in diffussm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = diffussm.nonsense  # type: ignore[attr-defined]


def test_samples_depend_on_seed_and_index() -> None:
    config = tiny.config()
    model = diffussm.build(config)
    with torch.no_grad():
        model.get_submodule("final_layer").get_submodule("linear").get_parameter("weight").normal_()
    seven = diffussm.sample(model, config, 7)
    assert model.training
    assert np.array_equal(diffussm.sample(model, config, 3), seven[:3])
    assert not np.array_equal(diffussm.sample(model, config, 3, seed=1), seven[:3])
    of_class = diffussm.sample(model, config, 2, classes=3)
    assert np.array_equal(of_class, diffussm.sample(model, config, 2, classes=[3, 3]))
    assert np.array_equal(of_class, diffussm.sample(model, config, 2, classes=np.int64(3)))  # type: ignore[arg-type]


def test_what_does_not_fit_is_named() -> None:
    config = tiny.config()
    model = diffussm.build(config)
    for settings, message in (
        ({"classes": 10}, "0 to 9"),
        ({"classes": [1, 2, 3]}, "or 2 of them"),
        ({"classes": [[1], [1, 2]]}, "or 2 of them"),
        ({"steps": 3}, "does not divide"),
    ):
        with pytest.raises(UserError, match=message):
            diffussm.sample(model, config, 2, **settings)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="does not match the given model"):
        diffussm.sample(model, tiny.config(model__width=16), 2)
    with pytest.raises(UserError, match="must be an array"):
        diffussm.evaluate([1, 2], "digits")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="unknown name 'zzz'"):
        diffussm.load("anything", backend="zzz")
    with pytest.raises(UserError, match="uint8"):
        diffussm.evaluate(np.zeros((2, 1, 8, 8)), "digits")  # type: ignore[arg-type]


def test_load_reads_a_run_its_files_and_a_saved_folder(tmp_path: Path) -> None:
    run = tiny.run_folder(tmp_path)
    state = TrainingState(diffussm.build(run.config()), run.config().training)
    with torch.no_grad():
        state.model.get_submodule("final_layer").get_submodule("linear").get_parameter("weight").normal_()
    state.step = 8
    state.save(run, 1)
    for kind in ("ema", "raw"):
        state.save_weights(run, kind)
    diffussm.save(diffussm.load(run.path), tmp_path / "saved")
    for kind in ("ema", "raw"):
        from_run = diffussm.load(run.path, step=8, weights=kind)
        from_checkpoint = diffussm.load(run.checkpoint(8, 1), weights=kind)
        from_milestone = diffussm.load(run.weights(8, kind))
        assert not from_run.training
        for name, value in from_run.state_dict().items():
            assert torch.equal(value, from_checkpoint.state_dict()[name]), name
            assert torch.equal(value, from_milestone.state_dict()[name]), name
    saved = diffussm.load(tmp_path / "saved").state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in diffussm.load(run.path).state_dict().items())
    assert diffussm.sample(diffussm.load(run.path), run.path, 2).shape == (2, 1, 8, 8)
    run.checkpoint(8, 1).write_bytes(b"torn")
    with pytest.raises(UserError, match="not a training checkpoint"):
        diffussm.load(run.checkpoint(8, 1))
