"""Suffixes are compared without regard to case, wherever a file is told by its own."""

import shutil
from pathlib import Path

import pytest

from ablations.grid import reading
from ablations.slurm import profile
from diffussm.config import BASES, is_npz_name, load_base
from diffussm.cost.named import configs
from diffussm.host.source import is_code


@pytest.mark.parametrize("suffix", [".toml", ".TOML", ".Toml"])
def test_toml(suffix: str, tmp_path: Path) -> None:
    base, grid, cluster = (tmp_path / f"{name}{suffix}" for name in ("base", "grid", "cluster"))
    shutil.copy(BASES / "digits.toml", base)
    assert load_base(str(base)) == load_base("digits")
    shutil.copy(reading.GRIDS / "direction.toml", grid)
    assert reading.load(str(grid)) == reading.load("direction")
    shutil.copy(profile.PROFILES / "cpu.toml", cluster)
    assert profile.load(str(cluster)).options("train") == profile.load("cpu").options("train")
    base.write_text("[model]\nwidth = 24\n")
    assert [config.model.width for config in configs(str(base), (), {}).values()] == [24]


@pytest.mark.parametrize("suffix", [".npz", ".NPZ", ".Npz"])
def test_npz(suffix: str) -> None:
    assert is_npz_name(f"reference{suffix}")
    assert not is_npz_name(suffix.lstrip("."))


def test_code() -> None:
    assert is_code("diffussm/a.PY")
    assert not is_code("diffussm/a.pyc")
