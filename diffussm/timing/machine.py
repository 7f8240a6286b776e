"""The machine that a timing is of: its clocks, and what else a timing means nothing without."""

import subprocess
from pathlib import Path
from typing import Any

import torch

from diffussm.host.provenance import describe

_CPUINFO = Path("/proc/cpuinfo")
_FASTEST_KHZ = Path("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
_SMI_FIELDS = ("clocks.sm", "clocks.max.sm", "temperature.gpu", "clocks_throttle_reasons.active")


def clocks() -> dict[str, Any]:
    """What the clocks stand at: MHz of each core and at most, of the GPU its multiprocessors' MHz, degrees and why it
    is held back; None where the system does not tell."""
    gpu = _smi()
    return {
        "cpu_mhz": _core_mhz(),
        "cpu_max_mhz": int(_FASTEST_KHZ.read_text()) / 1000 if _FASTEST_KHZ.exists() else None,
        "gpu_mhz": gpu and gpu[0],
        "gpu_max_mhz": gpu and gpu[1],
        "gpu_celsius": gpu and gpu[2],
        "gpu_throttle_reasons": gpu and gpu[3],
    }


def machine_card() -> dict[str, Any]:
    """What a timing means nothing without: machine, clocks, threads, versions."""
    about = describe()
    return {
        **about["machine"],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if about["machine"]["gpu"] else None,
        "clocks": clocks(),
        "python": about["python"],
        "commit": about["commit"],
        "dirty": about["dirty"],
    }


def _core_mhz() -> list[float] | None:
    if not _CPUINFO.exists():
        return None
    lines = _CPUINFO.read_text().splitlines()
    return [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")] or None


def _smi() -> list[float | str | None] | None:
    """Of the GPU in use: MHz, most MHz, degrees Celsius, why it is held back (a bit mask in hexadecimal); None for what
    is not told."""
    if not torch.cuda.is_available():
        return None
    query = ["nvidia-smi", f"--query-gpu={','.join(_SMI_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run([*query, *_gpu_in_use()], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    values = [value.strip() for value in output.partition("\n")[0].split(",")]
    if len(values) != len(_SMI_FIELDS):
        return None
    *numbers, reasons = values
    return [*(_number(value) for value in numbers), reasons if reasons.startswith("0x") else None]


def _gpu_in_use() -> list[str]:
    """Options of nvidia-smi; none where torch does not tell which GPU it is."""
    uuid = getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", None)
    return ["-i", f"GPU-{uuid}"] if uuid else []


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
