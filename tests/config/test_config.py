"""Strict, frozen, one id for equal runs; every mistake named."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from diffussm.config import (
    LATENT_FIELDS,
    Config,
    Request,
    config_keys,
    digest,
    parse_value,
    resolve,
    run_id,
    trajectory,
)
from diffussm.errors import UserError
from tests.support import golden


@pytest.mark.parametrize("name", golden.cases())
def test_golden_identities(name: str) -> None:
    """They change with a version only; `python -m tests.support.golden` adds those of new cases."""
    assert golden.identities(*golden.cases()[name]) == golden.stored()[name]


def test_every_field_has_a_golden_identity() -> None:
    without = {
        "training.checkpoint_minutes",
        "training.threads",
        "training.backend",
        "training.compile",
        "training.checkpointing",
        "training.micro_batch",
        "evaluation.batch",
        "evaluation.extractor",
        "evaluation.extractor_weights",
        "evaluation.reference",
        "evaluation.reference_file_sha256",
        "evaluation.extractor_weights_sha256",
        "evaluation.vae_sha256",
    }
    without |= {"data.name", "data.root", "data.transform", "diffusion.learned_variance", "evaluation.vae"}
    without |= {f"data.{field}" for field in LATENT_FIELDS}
    without |= {"evaluation.guidance_channels"}  # below model.channels, which is 1 on this base
    without |= {"model.heads", "model.image_size", "model.channels"}  # follow from the others on this base
    assert golden.FIELDS.keys() == set(config_keys()) - without


@pytest.mark.parametrize("case", golden.cases().values(), ids=golden.cases())
def test_a_field_at_its_default_is_in_no_id(case: tuple[str, dict[str, object]]) -> None:
    """So a new field, which has its default in all older runs, leaves their ids as they are."""
    default = Config().model_dump(mode="json")
    for section, part in trajectory(resolve(*case)).items():
        assert part != default[section]
        if isinstance(part, dict):
            assert all(value != default[section][field] for field, value in part.items())


@pytest.mark.parametrize(
    "override",
    [
        {"training.steps": 7},
        {"training.milestones": [3]},
        {"training.checkpoint_minutes": 15.0},
        {"training.threads": 2},
        {"training.backend": "fft"},
        {"training.compile": "block"},
        {"training.checkpointing": "block"},
        {"training.micro_batch": 4},
        {"evaluation.samples": 50},
        {"evaluation.guidance": 2.0},
        {"data.root": "/there"},
        {"data.transform": "centre-crop 8"},
        {"model.residual": "short"},
    ],
)
def test_what_leaves_the_trajectory_leaves_the_id(override: dict[str, object]) -> None:
    assert run_id(resolve("digits", override)) == run_id(resolve("digits"))


@pytest.mark.parametrize(
    "override",
    [
        {"seed": 1},
        {"model.depth": 3},
        {"model.hourglass": 1},
        {"size": "S"},
        {"model.kind": "dit"},
        {"model.mixer": "identity"},
        {"model.mixer": "attention"},
        {"model.mixer": "somebody.elses:Mixer"},
        {"model.direction": "forward"},
        {"model.residual": "full"},
        {"model.scan": "hilbert"},
        {"model.s4d_init": "inv"},
        {"model.state": 32},
        {"diffusion.timesteps": 500},
        {"diffusion.learned_variance": False, "diffusion.loss": "simple"},
        {"training.batch": 64},
        {"training.ssm_lr_scale": 0.1},
        {"training.precision": "bf16"},
    ],
)
def test_what_changes_the_trajectory_changes_the_id(override: dict[str, object]) -> None:
    assert run_id(resolve("digits", override)) != run_id(resolve("digits"))


def test_only_differences_from_the_schema_are_digested() -> None:
    assert trajectory(Config()) == {}
    assert trajectory(resolve("digits"))["model"] == {
        "depth": 1,
        "hourglass": 2,
        "classes": 10,
    }


def test_a_new_field_of_the_evaluation_at_its_default_is_in_no_digest() -> None:
    """So older runs' requests and records stay valid."""
    guided = {"model.channels": 3, "evaluation.guidance": 1.5}
    all_channels, two = (resolve("digits", guided | extra) for extra in ({}, {"evaluation.guidance_channels": 2}))
    assert "guidance_channels" not in all_channels.evaluation.model_dump_json(exclude_defaults=True)
    assert Request.from_config(all_channels).digest != Request.from_config(two).digest
    assert Request.from_config(all_channels).results_digest != Request.from_config(two).results_digest
    old = Request.from_config(all_channels).model_dump(mode="json")
    later_fields = "guidance_channels", "extractor_weights", "reference_file_sha256", "extractor_weights_sha256"
    for later in (*later_fields, "labels", "vae", "vae_sha256", "precision", "ddim_eta"):
        del old["evaluation"][later]
    assert Request.from_config(all_channels).digest == digest(old)
    assert Request.model_validate_json(json.dumps(old)) == Request.from_config(all_channels)


def test_channels_of_guidance_are_not_asked_for_without_it() -> None:
    assert resolve("imagenet256").evaluation.guidance_channels == 0
    assert resolve("imagenet256", {"evaluation.guidance": 1.5}).evaluation.guidance_channels == 3


def test_unused_fields_are_reset_and_refused() -> None:
    identity = resolve("digits", {"model.mixer": "identity"})
    assert identity.model.state == Config().model.state
    with pytest.raises(UserError, match=r"model\.state: not used with model\.mixer = identity"):
        resolve("digits", {"model.mixer": "identity", "model.state": 16})
    with pytest.raises(UserError, match=r"model\.heads: not used"):
        resolve("digits", {"model.heads": 4})
    dit = resolve("digits", {"model.kind": "dit"})
    assert (dit.model.hourglass, dit.model.heads) == (1, 4)
    for field, value in (("hourglass", 2), ("mixer", "s4d"), ("scan", "hilbert"), ("residual", "full")):
        with pytest.raises(UserError, match=rf"model\.{field}: not used with model\.kind = dit; remove it"):
            resolve("digits", {"model.kind": "dit", f"model.{field}": value})


def test_what_is_not_used_need_not_fit() -> None:
    """The base's hourglass does not divide DiT's single token, and does not have to."""
    assert resolve("digits", {"model.kind": "dit", "model.patch": 8}).model.length == 1


@pytest.mark.parametrize("base", ["digits", "digits16", "mnist", "photos", "imagenet256"])
def test_every_base_has_a_family(base: str) -> None:
    for kind in ("diffussm", "dit"):
        made = [resolve(base, {"size": size, "model.kind": kind}).model for size in ("S", "L", "XL")]
        assert [(m.depth, m.width) for m in made] == sorted({(m.depth, m.width) for m in made})
        assert {m.kind for m in made} == {kind}


def test_sizes_of_the_paper() -> None:
    sizes = {"S": (13, 384), "B": (13, 768), "L": (25, 1024), "XL": (29, 1152)}
    for size, (depth, width) in sizes.items():
        diffussm = resolve("imagenet256", {"size": size}).model
        dit = resolve("imagenet256", {"size": size, "model.kind": "dit"}).model
        assert (diffussm.depth, diffussm.width) == (depth, width)
        assert (dit.depth, dit.width) == (depth - 1, width)
    as_the_paper = resolve("imagenet256")
    assert (as_the_paper.model.depth, as_the_paper.training.batch, as_the_paper.training.steps) == (29, 256, 400_000)
    assert Request.from_config(as_the_paper).milestones == (50_000, 100_000, 200_000, 300_000, 400_000)


def test_an_explicit_key_goes_before_the_size() -> None:
    assert resolve("digits", {"size": "S", "model.width": 40}).model.width == 40


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"model.hourglas": 2}, "did you mean 'model.hourglass'"),
        ({"modle.patch": 2}, "did you mean 'model.patch'"),
        ({"model.mixer": "atention"}, "model.mixer = 'atention': unknown name 'atention'; did you mean 'attention'?"),
        ({"model.mixer": "no colon"}, "valid: attention, identity, s4d, or package.module:Class"),
        ({"model.mixer": 3}, "model.mixer = 3"),
        ({"model.kind": "unet"}, "allowed: 'diffussm' or 'dit'"),
        ({"size": [1]}, "size: unknown name '[1]'"),
        ({"model.kind": [1]}, "model.kind = [1]"),
        ({"training.lr": float("inf")}, "training.lr"),
        ({"evaluation.metrics": []}, "evaluation.metrics = []"),
        ({"model.mixer": "attention", "model.hourglass": 1, "model.scan": "hilbert"}, "model.scan: not used with"),
        ({"size": "XXL"}, "size: unknown name 'XXL'; did you mean 'XL'? valid: L, S, XL"),
        ({"model.depth": 2.5}, "model.depth = 2.5"),
        ({"training.lr": "fast"}, "training.lr = 'fast'"),
        ({"training.lr": True}, "training.lr = True"),
        ({"diffusion.loss": "simple"}, "diffusion.loss: hybrid needs learned_variance"),
        ({"diffusion.normal_cdf": "erf"}, "allowed: 'exact' or 'tanh'"),
        (
            {"diffusion.loss": "simple", "diffusion.learned_variance": False, "diffusion.normal_cdf": "tanh"},
            "diffusion.normal_cdf: used by loss = hybrid alone",
        ),
        ({"evaluation.guidance_channels": 1}, "evaluation.guidance_channels: not used without guidance"),
        (
            {"evaluation.sampler": "dpm-solver++", "evaluation.sampler_steps": 1000},
            "evaluation.sampler_steps: 1000 is not below diffusion.timesteps = 1000, as dpm-solver++ needs",
        ),
    ],
)
def test_mistakes_are_named(override: dict[str, object], words: str) -> None:
    """Those of sizes are in test_constraints.py."""
    with pytest.raises(UserError) as error:
        resolve("digits", override)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["digit", "../bases/digits", ""])
def test_unknown_base(name: str) -> None:
    with pytest.raises(UserError, match="valid: cifar10, digits"):
        resolve(name)


def test_a_base_s_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, hint in (("mine.toml", ""), ("digits.toml", "; did you mean 'digits'?")):
        with pytest.raises(UserError) as error:
            resolve(name)
        assert str(error.value) == f"base: {tmp_path / name}: no such file{hint}"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("training.lrr", "did you mean 'training.lr'? valid: training.batch, training.lr, "),
        ("training.depth", "did you mean 'model.depth'? valid: training.batch, "),
        ("trainig.lr", "did you mean 'training.lr'? valid: data, diffusion, "),
        ("trainig", "did you mean 'training'? valid: data, diffusion, evaluation, model, seed, size, training"),
        ("lr", "did you mean 'training.lr'? valid: data, "),
        ("zzz.zzz", "valid: data, "),
    ],
)
def test_an_unknown_key_names_few_others(key: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        resolve("digits", {key: 1})
    assert str(error.value).startswith(f"config key: unknown name {key!r}; {message}")
    assert len(str(error.value)) < 500


def test_configs_are_frozen() -> None:
    config = resolve("digits")
    with pytest.raises(ValidationError):
        config.model.depth = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("steps", "milestones", "kept"),
    [(100, [50, 100], (50, 100)), (100, [50, 200], (50, 100)), (100, [], (100,)), (100, [80, 20, 80], (20, 80, 100))],
)
def test_milestones(steps: int, milestones: list[int], kept: tuple[int, ...]) -> None:
    request = Request.from_config(resolve("digits", {"training.steps": steps, "training.milestones": milestones}))
    assert request.milestones == kept


def test_digits_measures_at_eighth_quarter_half_three_quarters_and_end() -> None:
    request = Request.from_config(resolve("digits"))
    assert [8 * step / request.steps for step in request.milestones] == [1, 2, 4, 6, 8]


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), ("true", True), ("[1, 2]", [1, 2]), ("fft", "fft"), ("'a b'", "a b"), ("3", 3)]
)
def test_command_line_values(text: str, value: object) -> None:
    assert parse_value(text) == value


def test_keys_are_the_schema() -> None:
    assert {"model.hourglass", "size"} <= set(config_keys())
    assert "seed" in config_keys()


def test_no_torch() -> None:
    code = (
        "import sys, diffussm.config, diffussm.store.records, diffussm.store.rundir; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
