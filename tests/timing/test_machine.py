"""The machine and its clocks, as far as the system tells."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from diffussm import timing


def test_machine_card() -> None:
    card = timing.machine_card()
    assert {"processor", "cores", "threads", "torch", "cuda", "gpu", "commit", "python"} <= card.keys()
    assert card["clocks"].keys() == {
        "cpu_mhz", "cpu_max_mhz", "gpu_mhz", "gpu_max_mhz", "gpu_celsius", "gpu_throttle_reasons"
    }  # fmt: skip
    assert card["clocks"]["cpu_mhz"] is None or min(card["clocks"]["cpu_mhz"]) > 100


@pytest.fixture
def smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """The clocks, when nvidia-smi tells that of GPU-12ab, which is in use."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_properties", {3: SimpleNamespace(uuid="12ab")}.__getitem__)

    def clocks(uuids: str) -> dict[str, Any]:
        command = tmp_path / "nvidia-smi"
        command.write_text(f"#!/bin/sh\ncase \"$*\" in *'-i GPU-12ab') printf '{uuids}';; *) exit 1;; esac\n")
        command.chmod(0o755)
        return timing.clock_rates()

    return clocks


def test_what_nvidia_smi_tells(smi: Callable[[str], dict[str, Any]]) -> None:
    found = smi(r"1410, 1980, 45, 0x0000000000000004\n")
    assert (found["gpu_mhz"], found["gpu_max_mhz"], found["gpu_celsius"]) == (1410, 1980, 45)
    assert found["gpu_throttle_reasons"] == "0x0000000000000004"


def test_what_nvidia_smi_does_not_tell(smi: Callable[[str], dict[str, Any]]) -> None:
    found = smi(r"1410, [N/A], 45, [N/A]\n")
    assert (found["gpu_mhz"], found["gpu_max_mhz"], found["gpu_celsius"]) == (1410, None, 45)
    assert found["gpu_throttle_reasons"] is None
    for uuids in ("", "No devices were found"):
        found = smi(uuids)
        assert {value for name, value in found.items() if name.startswith("gpu")} == {None}


def test_without_a_uuid_the_first_listed_gpu_counts(
    smi: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", {3: SimpleNamespace()}.__getitem__)
    assert smi("")["gpu_mhz"] is None
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 1410, 1980, 45, 0x0\necho 1, 2, 3, 0x0\n")
    assert timing.clock_rates()["gpu_mhz"] == 1410


def test_no_nvidia_smi(smi: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert timing.clock_rates()["gpu_mhz"] is None
