"""A model's folder: what goes in comes out, and what does not fit is named."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import tests.support.tiny as tiny
from diffussm.cli import main
from diffussm.config import resolve
from diffussm.errors import UserError
from diffussm.models.build import build_model
from diffussm.models.pretrained import from_pretrained, save_pretrained
from diffussm.store.rundir import RunDir
from diffussm.training.state import ReplayMismatch
from diffussm.training.trainer import Trainer
from tests.support import former_files

MODELS: dict[str, dict[str, Any]] = {
    "S4D": {"model.scan": "hilbert", "model.hourglass": 4},
    "attention, residual at full length": {"model.mixer": "attention", "model.residual": "full"},
    "DiT": {"model.kind": "dit", "model.patch": 2},
    "unconditional, fixed variance": {
        "model.classes": 0,
        "evaluation.metrics": ["fid"],
        "diffusion.loss": "simple",
        "diffusion.learned_variance": False,
    },
}


def made(**overrides: Any) -> Any:
    """A model off its initial values."""
    model = build_model(resolve("digits", overrides)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return model


@pytest.mark.parametrize("overrides", MODELS.values(), ids=MODELS)
def test_what_goes_in_comes_out(overrides: dict[str, Any], tmp_path: Path) -> None:
    model = made(**overrides)
    save_pretrained(model, tmp_path / "new" / "folder")
    loaded = from_pretrained(tmp_path / "new" / "folder")
    assert loaded.config == model.config
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([0, 999])
    y = torch.tensor([1, 10]) if model.config.classes else None
    assert torch.equal(loaded(x, t, y), model(x, t, y))
    assert not loaded.training


def test_an_unconditional_model_has_no_table_of_labels() -> None:
    names = made(**MODELS["unconditional, fixed variance"]).state_dict()
    assert not [name for name in names if "y_embedder" in name]


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_comes_back(precision: torch.dtype, tmp_path: Path) -> None:
    model = made(**MODELS["DiT"])
    weight = model.blocks[0].mlp.fc1.weight.detach().clone()
    save_pretrained(model.to(precision), tmp_path)
    assert torch.equal(from_pretrained(tmp_path).blocks[0].mlp.fc1.weight, weight.to(precision).float())


def test_the_backend_is_the_readers_choice(tmp_path: Path) -> None:
    model = made(**{"training.backend": "fft"})
    save_pretrained(model, tmp_path)
    x, t, y = torch.randn(2, 1, 8, 8), torch.tensor([0, 999]), torch.tensor([1, 10])
    assert torch.equal(from_pretrained(tmp_path, backend="fft")(x, t, y), model(x, t, y))
    assert not torch.equal(from_pretrained(tmp_path, backend="chunked")(x, t, y), model(x, t, y))


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    save_pretrained(made(), tmp_path)
    former_files.model_folder(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    table = weights.pop("y_embedder.embedding_table.weight")
    weights["label_emb.weight"], weights["x_embedder.bias"] = table, torch.zeros(3)
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UserError) as error:
        from_pretrained(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/model.safetensors: does not fit the model: y_embedder.embedding_table.weight is missing, "
        "label_emb.weight is unknown, x_embedder.bias has shape 3, expected 64"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"diffussm": 2}, "format 2 is not supported; this version reads 1"),
        ({"outputs": 3}, "outputs = 3; allowed: 1 "),
        ({"outputs": 2.0}, "outputs = 2.0; allowed: 1 "),
        ({"model": {"hourglass": 3}}, "hourglass: 3 does not divide the 64 tokens"),
        ({"model": {"hourglas": 2}}, "did you mean"),
    ],
)
def test_a_wrong_config_is_named(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    save_pretrained(made(), tmp_path)
    former_files.model_folder(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(content | change))
    with pytest.raises(UserError, match=words):
        from_pretrained(tmp_path)


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        from_pretrained(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r": no config\.json"):
        from_pretrained(tmp_path)
    save_pretrained(made(), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(UserError, match=r"model\.safetensors: "):
        from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        from_pretrained(tmp_path)


def test_a_run_becomes_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`diffussm convert` writes the weights that a run kept; `ema` unless told otherwise."""
    run = tiny.run_folder(tmp_path / "runs")
    trainer = Trainer(run.config(), "auto")
    trainer.step()
    trainer.state.save_weights(run, "ema")
    monkeypatch.setattr("sys.argv", ["diffussm", "convert", str(run.path), str(tmp_path / "out")])
    assert main() == 0
    loaded = from_pretrained(tmp_path / "out")
    ema = trainer.state.ema.state_dict()
    assert all(torch.equal(p, ema[name]) for name, p in loaded.named_parameters())


def run_of_dit(runs: Path) -> tuple[RunDir, Trainer]:
    """A folder and its training after one step."""
    settings = {key: value for key, value in tiny.SETTINGS.items() if key not in ("model.state", "model.hourglass")}
    config = resolve("digits", {**settings, "model.kind": "dit"})
    run, trainer = RunDir.create(runs, config), Trainer(config, "auto")
    trainer.step()
    return run, trainer


def test_an_older_run_of_dit_without_its_fixed_table_goes_on(tmp_path: Path) -> None:
    """pos_embed came into the state dict later."""
    run, trainer = run_of_dit(tmp_path)
    trainer.state.save(run, 1)
    path = run.checkpoints()[0]
    content = torch.load(path, weights_only=True)
    del content["model"]["pos_embed"]
    torch.save(content, path)
    again = Trainer(run.config(), "auto")
    again.state.load_newest(run)
    assert again.state.step == 1
    assert torch.equal(again.state.model.pos_embed, trainer.state.model.pos_embed)


def test_a_replay_of_an_older_run_of_dit_stays_on_its_trajectory(tmp_path: Path) -> None:
    """Its milestones hold no pos_embed; all else must be equal to the bit."""
    run, trainer = run_of_dit(tmp_path)
    trainer.state.save_weights(run, "ema")
    kept = load_file(run.weights(1, "ema"))
    del kept["pos_embed"]
    save_file(kept, run.weights(1, "ema"))
    replay = RunDir(run.path, mode="replay")
    trainer.state.save_weights(replay, "ema")
    kept["final_layer.linear.bias"] += 1
    save_file(kept, run.weights(1, "ema"))
    with pytest.raises(ReplayMismatch):
        trainer.state.save_weights(replay, "ema")
