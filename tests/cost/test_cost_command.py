"""`diffussm cost`: its rows, what they add up to, and what it takes for a model."""

import json
from pathlib import Path

import pytest

import tests.support.tiny as tiny
from diffussm.config import bases, parse_settings, resolve
from diffussm.cost.command import report
from diffussm.cost.executed import executed_macs
from diffussm.cost.named import NAMED
from diffussm.models.build import build_model
from diffussm.models.pretrained import save_pretrained
from tests.support.costs import COLUMNS, WITH_MACS, WITHOUT_MACS, row, rows

# Rows


def test_rows_have_the_documented_columns() -> None:
    assert [list(one) for one in rows("DiffuSSM-S")] == [COLUMNS] * 4
    more = row("DiT-S/8", "model.depth=1", resolution="256", per_block=True, audited=True)
    assert list(more) == [*COLUMNS, "parts", "block", "audit"]
    of_block = [part for part in more["parts"] if part["part"].startswith("block.")]
    assert more["block"]["macs_of_one"] == sum(part["macs_of_one"] for part in of_block)
    assert more["block"]["parameters"] == sum(part["parameters"] for part in of_block)
    assert {tuple(part) for part in more["parts"]} == {
        ("part", "times", "parameters", "macs_per_call", "macs_of_one"),
    }


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("DiffuSSM-XL", []),
        ("DiffuSSM-S/M4", []),
        ("DiffuSSM-B", ["model.residual=full"]),
        ("DiffuSSM-S", ["model.mixer=attention"]),
        ("DiffuSSM-S", ["model.mixer=attention", "model.residual=full"]),
        ("DiffuSSM-S", ["model.mixer=identity"]),
        ("DiT-XL/2", []),
        ("DiT-S/8", ["model.classes=0"]),
        ("photos", ["diffusion.learned_variance=false", "diffusion.loss=simple"]),
        ("digits", [WITH_MACS]),
    ],
)
def test_parts_add_up(model: str, settings: list[str]) -> None:
    for one in rows(model, *settings, per_block=True):
        parts = one["parts"]
        assert sum(part["macs_per_call"] for part in parts) == one["macs_per_call"]
        assert sum(part["parameters"] for part in parts) == one["parameters"]
        assert one["dense_macs"] + one["mixer_macs"] == one["macs_per_call"]
        assert all(part["times"] * part["macs_of_one"] == part["macs_per_call"] for part in parts)
        assert len({part["part"] for part in parts}) == len(parts)


@pytest.mark.parametrize("settings", [[], ["evaluation.guidance=1.5"], ["evaluation.sampler_steps=20"]])
def test_images_and_steps_are_made_of_calls(settings: list[str]) -> None:
    for one in rows("DiffuSSM-S", "training.batch=24", *settings):
        assert one["macs_per_image"] == one["calls"] * one["guidance_factor"] * one["macs_per_call"]
        assert one["macs_per_training_step"] == 3 * 24 * one["macs_per_call"]


def test_guidance_doubles_an_image_and_nothing_else() -> None:
    for plain, guided in zip(rows("DiT-S/8"), rows("DiT-S/8", "evaluation.guidance=1.5"), strict=True):
        assert guided["macs_per_image"] == 2 * plain["macs_per_image"]
        assert guided == {**plain, "guidance_factor": 2, "macs_per_image": guided["macs_per_image"]}


@pytest.mark.parametrize("backend", ["reference", "fft", "chunked"])
def test_what_is_executed_is_the_backends(backend: str) -> None:
    chosen = row("digits", f"training.backend={backend}")
    executed = executed_macs(resolve("digits"), backend)
    assert executed is not None
    assert chosen["backend"] == backend
    assert (chosen["executed_macs_per_call"], chosen["macs_fixed_per_call"]) == (executed.per_image, executed.fixed)
    assert chosen["macs_per_call"] == row("digits")["macs_per_call"]


# Resolutions


def test_a_named_model_has_the_resolutions_of_the_literature() -> None:
    found = rows("DiffuSSM-S")
    assert [(one["resolution"], one["tokens"]) for one in found] == [
        ("256", 1024),
        ("512", 4096),
        ("1024", 16384),
        ("128px", 16384),
    ]
    assert [one["tokens"] for one in rows("DiT-S/8")] == [16, 64, 256, 256]


def test_latents_have_4_channels_and_pixels_3() -> None:
    """A position of the stream at M = 2 is 2 tokens."""
    for resolution, channels in (("256", 4), ("128px", 3)):
        parts = {part["part"]: part for part in row("DiffuSSM-S", resolution=resolution, per_block=True)["parts"]}
        assert parts["x_embedder"]["parameters"] == (2 * channels + 1) * 384
        assert parts["final_layer.linear"]["parameters"] == (384 + 1) * 2 * 2 * channels


def test_any_resolution_may_be_asked_for() -> None:
    assert [one["tokens"] for one in rows("DiT-S/2", resolutions=("64", "2048", "64px"))] == [16, 16384, 1024]


def test_other_models_have_their_own() -> None:
    assert {base: [(one["resolution"], one["tokens"]) for one in rows(base)] for base in bases()} == {
        "cifar10": [("32px", 1024)],
        "digits": [("8px", 64)],
        "digits16": [("16px", 256)],
        "imagenet128_pixel": [("128px", 16384)],
        "imagenet256": [("256", 1024)],
        "imagenet256_final": [("256", 1024)],
        "imagenet512": [("512", 4096)],
        "imagenet64": [("64px", 4096)],
        "lsun_bedroom": [("256", 1024)],
        "lsun_church": [("256", 1024)],
        "mnist": [("28px", 784)],
        "photos": [("32px", 1024)],
    }
    shown = rows("digits", resolutions=("16", "32px"))
    assert [(one["resolution"], one["tokens"]) for one in shown] == [("16px", 256), ("32px", 1024)]
    assert row("imagenet256", resolution="512")["tokens"] == 4096
    assert row("digits", "model.image_size=16")["resolution"] == "16px"


def test_a_pretrained_folder(tmp_path: Path) -> None:
    config = resolve("digits", {"model.kind": "dit", "model.patch": 2})
    save_pretrained(build_model(config), tmp_path)
    assert row(str(tmp_path))["macs_per_call"] == row("digits", "model.kind=dit", "model.patch=2")["macs_per_call"]


def test_the_backends_own_figures_are_the_chosen_ones() -> None:
    shown = [row("digits", f"training.backend={name}") for name in ("reference", "fft", "chunked")]
    assert len({one["macs_per_call"] for one in shown}) == 1
    assert len({one["executed_macs_per_call"] for one in shown}) == 3


# What a model may be


def test_a_base_is_itself() -> None:
    found, config = row("digits"), resolve("digits")
    assert (found["calls"], found["batch"]) == (config.evaluation.sampler_steps, config.training.batch)
    assert row("digits", "size=XL")["parameters"] > found["parameters"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which guided samples were asked first, and 4 steps without guidance last."""
    runs = tmp_path_factory.mktemp("runs")
    tiny.run_folder(runs, evaluation__guidance=1.5)
    return tiny.run_folder(runs, evaluation__sampler_steps=4).path


def test_a_runs_folder_is_sampled_as_was_asked_last(folder: Path) -> None:
    found = row(str(folder))
    assert (found["calls"], found["guidance_factor"], found["batch"]) == (4, 1, 7)
    base = rows("digits", "model.width=8", "model.state=4", "model.hourglass=4")[0]
    assert [found[name] for name in ("parameters", "macs_per_call", "resolution")] == [
        base[name] for name in ("parameters", "macs_per_call", "resolution")
    ]
    tiny.run_folder(folder.parent, evaluation__guidance=1.5)
    again = row(str(folder))
    assert (again["calls"], again["guidance_factor"]) == (2, 2)


def test_a_runs_folder_of_which_nothing_was_asked_has_the_schemas_sampler(tmp_path: Path) -> None:
    run = tiny.run_folder(tmp_path)
    for path in (run.path / "requests").iterdir():
        path.unlink()
    assert row(str(run.path))["calls"] == 25


def test_settings_change_a_runs_model(folder: Path) -> None:
    assert row(str(folder), "model.patch=2")["tokens"] == 16
    assert row(str(folder), "training.batch=9")["batch"] == 9
    assert row(str(folder), resolution="16px")["tokens"] == 256


SECTIONS = """
seed = 1
[model]
width = 8
depth = 3
hourglass = 2
classes = 10
[evaluation]
sampler = "ddpm"
sampler_steps = 7
guidance = 4
"""


def test_a_file_may_be_toml_or_json(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SECTIONS)
    model = {"width": 8, "depth": 3, "hourglass": 2, "classes": 10}
    evaluation = {"sampler": "ddpm", "sampler_steps": 7, "guidance": 4}
    sections = {"seed": 1, "model": model, "evaluation": evaluation}
    (tmp_path / "mine.json").write_text(json.dumps(sections))
    (tmp_path / "wrapped.json").write_text(json.dumps({"schema": 1, "config": sections}))
    found = [row(str(tmp_path / name)) for name in ("mine.toml", "mine.json", "wrapped.json")]
    assert [{**one, "model": ""} for one in found] == [{**found[0], "model": ""}] * 3
    assert (found[0]["calls"], found[0]["guidance_factor"], found[0]["tokens"]) == (7, 2, 64)
    assert row(str(tmp_path / "mine.toml"), "evaluation.sampler_steps=9")["calls"] == 9


def test_a_config_written_out_costs_what_it_did(tmp_path: Path) -> None:
    path = tmp_path / "digits.json"
    path.write_text(resolve("digits").model_dump_json())
    assert row(str(path)) == {**row("digits"), "model": str(path)}


def test_all_is_every_named_model() -> None:
    found = rows("")
    assert [one["model"] for one in found] == [name for name in NAMED for _ in range(4)]
    assert {one["resolution"] for one in found} == {"256", "512", "1024", "128px"}
    assert [one["model"] for one in rows("", resolutions=("256",))] == NAMED


# Mixers from outside


def test_what_a_mixer_does_not_say_is_unknown() -> None:
    found = row("digits", WITHOUT_MACS, per_block=True)
    unknown = [name for name in COLUMNS if found[name] is None]
    assert unknown == [
        "macs_per_call",
        "mixer_macs",
        "executed_macs_per_call",
        "macs_fixed_per_call",
        "macs_per_image",
        "macs_per_training_step",
    ]
    assert found["parameters"] == sum(part["parameters"] for part in found["parts"])
    shown = report(["digits"], (), parse_settings([WITHOUT_MACS]), True, False, False)
    assert shown.splitlines()[2].split().count("unknown") == len(unknown)
    (mixer,) = [line for line in shown.splitlines() if line.startswith("block.mixer")]
    assert mixer.split() == ["block.mixer", "1", "8.32", "k", "unknown", "unknown"]


def test_the_macs_that_a_mixer_defines_are_counted() -> None:
    assert row("digits", WITH_MACS)["mixer_macs"] == 2 * 64 * 64**2
    assert row("digits", WITH_MACS, audited=True)["audit"]["residue_fvcore"] == 0


# The audit


@pytest.mark.parametrize(
    ("model", "settings"), [("DiT-S/8", ["model.depth=1"]), ("digits", []), ("digits", ["model.mixer=attention"])]
)
def test_counts_leave_no_residue(model: str, settings: list[str]) -> None:
    for one in rows(model, *settings, audited=True):
        assert one["audit"]["residue_fvcore"] == one["audit"]["residue_torch"] == 0
        assert one["audit"]["per_image"] == one["executed_macs_per_call"]
        assert one["audit"]["fixed_fvcore"] == one["macs_fixed_per_call"]


def test_the_audit_runs_the_backend_that_is_asked_for() -> None:
    """Of S4D by FFT the skip is not counted: 2 L D."""
    found = row("digits", "training.backend=fft", audited=True)
    assert found["audit"]["per_image"] == found["executed_macs_per_call"]
    assert found["audit"]["per_image"] - found["audit"]["per_image_fvcore"] == 2 * 64 * 64
    assert found["audit"]["residue_torch"] == 0
