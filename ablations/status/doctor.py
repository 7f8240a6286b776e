"""Checks whether grids can be run on this machine, before a night is lost."""

import contextlib
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from ablations.status.check import Check
from ablations.status.doctor_data import data_checks
from diffussm.host import source
from diffussm.host.checkout import ignored_variables
from diffussm.host.machine import gpus, memory_gb, processor, usable_cores
from diffussm.metrics.features.registry import EXTRACTORS

LEAST_FREE_GB = 5.0


def examine(runs: Path, grid: str | None, base: str | None) -> list[Check]:
    """Check folder, disk, versions, weights, data, evaluations and autoencoders; with `grid` or `base`, of the last
    three only what their runs need."""
    return [*_folder(runs), _disk(runs), *_versions(), _code(), *_weights(), *data_checks(runs, grid, base), _machine()]


def _folder(runs: Path) -> Iterator[Check]:
    there = _nearest(runs)
    probe, linked = there / f".probe-{os.getpid()}", there / f".probe-{os.getpid()}-linked"
    try:
        probe.write_bytes(b"x")
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        yield Check("fail", "folder", f"{there} is not writable: {error.strerror}")
        return
    yield Check("ok", "folder", f"{there.absolute()} is writable")
    try:
        os.link(probe, linked)
        yield Check("ok", "hard links", "supported: two launches cannot claim the same run")
    except OSError as error:
        problem = f"{there.absolute()} does not support them ({error.strerror})"
        yield Check("fail", "hard links", f"{problem}; runs are claimed by them: give another --runs")
    finally:
        linked.unlink(missing_ok=True)
        probe.unlink()


def _disk(runs: Path) -> Check:
    free = shutil.disk_usage(_nearest(runs)).free / 1e9
    return Check("ok" if free > LEAST_FREE_GB else "warning", "disk", f"{free:.0f} GB free")


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest folder above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.is_dir())


def _versions() -> Iterator[Check]:
    good = (3, 11) <= sys.version_info[:2] < (3, 15)
    yield Check("ok" if good else "fail", "python", f"{platform.python_version()}; supported: 3.11 to 3.14")
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in requires("diffussm") or []]
    except PackageNotFoundError:
        yield Check("warning", "packages", "diffussm is not installed, so its requirements are unknown; run make .venv")
        return
    wrong = []
    for need in wanted:
        if need.marker is None or need.marker.evaluate():
            try:
                if not need.specifier.contains(found := version(need.name), prereleases=True):
                    wrong.append(f"{need.name} {found}, needs {need.specifier}")
            except PackageNotFoundError:
                wrong.append(f"{need.name} is missing")
    torch = version("torch") if not any(text.startswith("torch ") for text in wrong) else "wrong"
    yield Check(
        "fail" if wrong else "ok", "packages", "; ".join(wrong) or f"all {len(wanted)} installed (torch {torch})"
    )


def _code() -> Check:
    origin, checkout = source.origin(), source.checkout(source.ROOT)
    if origin["commit"] is None:
        why = checkout.absence or "it was changed after it was copied"
        return Check("warning", "code", f"{origin['code']}; no commit is recorded with results: {why}")
    changed = ", with uncommitted changes" if origin["dirty"] else ""
    ignored = ", ".join(ignored_variables())
    hint = f"; {ignored} of the environment: ignored" if ignored else ""
    return Check("ok", "code", f"{origin['code']}, commit {origin['commit'][:12]}{changed}{hint}")


def _weights() -> Iterator[Check]:
    for name, extractor in EXTRACTORS.items():
        weights = extractor.weights
        if missing := weights.missing_requirement():
            yield Check("fail" if weights.shipped else "warning", "weights", f"{name}: {missing}")
        else:
            yield Check("ok", "weights", f"{name}: {weights.path()}")


def _machine() -> Check:
    cards = f"{len(gpus())} GPUs" if gpus() else "no GPU"
    return Check("ok", "machine", f"{processor()}, {usable_cores()} cores, {memory_gb():.0f} GB, {cards}")
