"""The bases of the paper's data sets say what it says, and what they need before they can run."""

from pathlib import Path

import numpy as np
import pytest

from ablations.grid import reading as grids
from ablations.grid.runs import expand
from ablations.plan.plan import plan
from diffussm.config import resolve, run_id
from diffussm.data.lookup.facts import check_fit, data_facts
from diffussm.data.lookup.resolution import resolve_with_data
from diffussm.errors import UserError
from diffussm.metrics.key import evaluation_key
from diffussm.metrics.requirements import missing_requirement
from tests.support.prepared_set import write_latents

ADM = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches"
TRAIN, LABELED = "ILSVRC/Data/CLS-LOC/train", "VIRTUAL_imagenet256_labeled.npz"
PAPER = {  # base: steps, tokens, classes, transform, source of the images, the reference
    "imagenet256": (400_000, 1024, 1000, "centre-crop 256", TRAIN, f"{ADM}/imagenet/256/{LABELED}"),
    "imagenet256_final": (2_578_000, 1024, 1000, "centre-crop 256", TRAIN, f"{ADM}/imagenet/256/{LABELED}"),
    "imagenet512": (1_180_000, 4096, 1000, "centre-crop 512", TRAIN, f"{ADM}/imagenet/512/VIRTUAL_imagenet512.npz"),
    "lsun_church": (
        400_000, 1024, 0, "lsun 256", "church_outdoor_train_lmdb",
        "`diffussm reference build church_outdoor_train_lmdb {}/lsun_church256.npz --image-size 256`",
    ),
    "lsun_bedroom": (
        400_000, 1024, 0, "lsun 256", "bedroom_train_lmdb", f"{ADM}/lsun/bedroom/VIRTUAL_lsun_bedroom256.npz"
    ),
}  # fmt: skip


@pytest.mark.parametrize("base", PAPER)
def test_what_the_paper_says(base: str) -> None:
    config = resolve(base)
    steps, tokens, classes, transform, *_ = PAPER[base]
    t, e = config.training, config.evaluation
    assert (config.model.kind, config.model.depth, config.model.width) == ("diffussm", 29, 1152)
    assert (config.model.length, config.model.hourglass, config.model.patch) == (tokens, 2, 1)
    assert (config.model.channels, config.model.classes) == (4, classes)
    assert (t.batch, t.lr, t.weight_decay, t.ema) == (256, 1e-4, 0, 0.9999)
    assert t.label_dropout == (0.1 if classes else 0)
    assert (t.steps, t.milestones[-1]) == (steps, steps)
    assert (e.samples, e.sampler, e.sampler_steps, e.guidance, e.clip) == (50_000, "ddpm", 250, 1, False)
    assert config.data.flip
    key = evaluation_key(config)  # of the decoded images
    assert key.transform == transform
    assert {"fid", "precision", "recall"} <= set(key.metrics)
    assert ("inception_score" in key.metrics) == (classes > 0)
    assert data_facts(config).decoded == (3, int(transform.split()[1]))


@pytest.mark.parametrize("base", PAPER)
def test_it_plans_and_says_in_a_line_what_it_needs(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    *_, transform, source, reference = PAPER[base]
    monkeypatch.chdir(tmp_path)
    planned = plan(base, expand(grids.load("hourglass_vs_patch"), base, [0], {}), tmp_path)
    assert {p.status for p in planned} == {"lacks data"}
    assert all(p.spec.parameters > 6e8 and p.spec.macs.total for p in planned)
    (line,) = {p.spec.missing_requirement for p in planned}
    assert "\n" not in line
    size = transform.split()[1]
    assert f"`diffussm data prepare {source} DIR --image-size {size} --vae FOLDER --flips`" in line
    assert "evaluation.reference = " in line
    assert reference.format(tmp_path) in line


def test_a_final_model_is_the_continued_one() -> None:
    assert run_id(resolve("imagenet256_final")) == run_id(resolve("imagenet256"))
    assert run_id(resolve("imagenet256", {"data.flip": False})) != run_id(resolve("imagenet256"))


@pytest.mark.parametrize("flips", ["none", "baked"])
def test_latents_that_are_not_mirrored_are_refused_by_the_plan(flips: str, tmp_path: Path) -> None:
    moments = np.zeros((4, 1, 2, 4, 32, 32), np.float32)
    write_latents(tmp_path / "set", moments, flips, decoded_size=32)  # type: ignore[arg-type]
    (tmp_path / "mine.toml").write_text('extends = "lsun_church"\n[data]\nname = "mine"\nroot = "set"\n')
    with pytest.raises(UserError, match=rf"data\.flip = true: the latents in .*set have flips: {flips}, and cannot"):
        check_fit(resolve_with_data(str(tmp_path / "mine.toml")))
    check_fit(resolve_with_data(str(tmp_path / "mine.toml"), {"data.flip": False}))


def test_a_reference_of_ones_own_that_is_missing(tmp_path: Path) -> None:
    lacking = resolve("digits", {"evaluation.reference": str(tmp_path / "mine.npz")})
    assert missing_requirement(lacking) == (
        f"evaluation.reference = {tmp_path}/mine.npz: no such file; make it with `diffussm reference build SOURCE "
        f"{tmp_path}/mine.npz`"
    )
