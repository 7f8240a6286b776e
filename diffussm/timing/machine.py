"""The machine card: what a timing is meaningless without, including the clock rates."""

import subprocess
from pathlib import Path
from typing import Any

import torch

from diffussm.host.provenance import describe

_CPUINFO = Path("/proc/cpuinfo")
_MAX_KHZ = Path("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
_SMI_FIELDS = ("clocks.sm", "clocks.max.sm", "temperature.gpu", "clocks_throttle_reasons.active")


def machine_card() -> dict[str, Any]:
    """Return the machine, its clock rates, the number of threads, and the versions of torch, CUDA and the code."""
    provenance = describe()
    return {
        **provenance["machine"],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if provenance["machine"]["gpu"] else None,
        "clocks": clock_rates(),
        "python": provenance["python"],
        "commit": provenance["commit"],
        "dirty": provenance["dirty"],
    }


def clock_rates() -> dict[str, Any]:
    """Return the current and maximum MHz of the cores and of the GPU's multiprocessors, and the GPU's temperature and
    reasons for throttling; None for what is unknown."""
    gpu = _smi()
    return {
        "cpu_mhz": _core_mhz(),
        "cpu_max_mhz": int(_MAX_KHZ.read_text()) / 1000 if _MAX_KHZ.exists() else None,
        "gpu_mhz": gpu and gpu[0],
        "gpu_max_mhz": gpu and gpu[1],
        "gpu_celsius": gpu and gpu[2],
        "gpu_throttle_reasons": gpu and gpu[3],
    }


def _core_mhz() -> list[float] | None:
    if not _CPUINFO.exists():
        return None
    lines = _CPUINFO.read_text().splitlines()
    return [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")] or None


def _smi() -> list[float | str | None] | None:
    """Return, for the GPU in use, its MHz, maximum MHz, degrees Celsius and reasons for throttling (a bit mask in
    hexadecimal), each None if unknown; None if nvidia-smi gives nothing."""
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
    """Return the options of nvidia-smi that select this GPU; none if torch does not give its UUID."""
    uuid = getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", None)
    return ["-i", f"GPU-{uuid}"] if uuid else []


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
