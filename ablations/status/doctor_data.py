"""Checks whether the data of bases and of launched runs are there, and what their evaluations need."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from ablations.status.check import Check
from diffussm.config import Config, DataConfig, bases, check_base, is_recipe_file, naming_inherited, resolve
from diffussm.data.lookup.facts import check_fit, data_facts
from diffussm.data.lookup.resolution import resolve_with_data
from diffussm.data.prepared.location import prepared_names
from diffussm.errors import UserError
from diffussm.metrics.data_digests import other_data
from diffussm.metrics.decoding.given import given_vae, missing_vae
from diffussm.metrics.key import evaluation_key
from diffussm.metrics.requested_files import as_requested
from diffussm.metrics.requirements import missing_evaluation_requirement
from diffussm.store import manifests
from diffussm.store.rundir import RunDir

IfMissing = Literal["warning", "fail"]


def data_checks(runs: Path, grid: str | None, base: str | None) -> Iterator[Check]:
    """Check what launched runs need, what the shipped bases do, and $DIFFUSSM_DATA; with `grid` or `base`, what their
    launched runs need and what a launch on that base would need, without which nothing works."""
    if_missing: IfMissing = "fail" if grid or base else "warning"
    launched = manifests.find_required(runs, grid, base) if grid else manifests.find(runs, grid, base)
    configs, damaged = _of_runs(runs, launched)
    yield from (Check("fail", "runs", str(damage)) for damage in (*launched.damaged, *damaged))
    if base and not grid and (is_recipe_file(base) or base in bases() or not launched.manifests):
        check_base(base)
        try:
            configs.append(_requested(base))
        except UserError as error:
            yield Check("fail", "base", str(error))
    yield from _evaluations(configs, if_missing)
    if not grid and not base:
        configs += [*map(resolve, bases()), *(Config(data=DataConfig(name=name)) for name in prepared_names())]
    for _, config in sorted({(c.data.name, c.data.root, c.data.digest): c for c in configs}.items()):
        yield _data_of(config, if_missing)
    yield from dict.fromkeys(_vae_of(c, if_missing) for c in configs if c.data.decoded_size)


def _of_runs(runs: Path, launched: manifests.FoundManifests) -> tuple[list[Config], list[UserError]]:
    """Return the configs of the runs of manifests, as their latest requests measure them, and the errors of damaged
    ones."""
    configs: list[Config] = []
    damaged: list[UserError] = []
    for run_id in sorted({entry.run_id for manifest in launched.manifests.values() for entry in manifest.runs}):
        run = RunDir(runs / run_id)
        if (run.path / "config.json").exists():
            try:
                configs.append(run.config().model_copy(update={"evaluation": run.latest_request().evaluation}))
            except UserError as damage:
                damaged.append(damage)
    return configs, damaged


def _requested(base: str) -> Config:
    """Return what a launch on the base would request; raise UserError if it cannot work."""
    with naming_inherited(base):
        config = as_requested(resolve_with_data(base))
        check_fit(config)
        evaluation_key(config)
        return config


def _evaluations(configs: Iterable[Config], if_missing: IfMissing) -> Iterator[Check]:
    """Yield a check for each way in which these are measured, and warnings about references and extractors that were
    made of other data."""
    warnings: dict[str, None] = {}
    for evaluation, config in {config.evaluation: config for config in configs}.items():
        try:
            missing = missing_evaluation_requirement(evaluation)
            warnings |= dict.fromkeys(() if missing else other_data(config))
        except UserError as error:
            missing = str(error)
        measured = f"by {evaluation.extractor} against {evaluation.reference}"
        yield Check(if_missing if missing else "ok", "evaluation", missing or measured)
    yield from (Check("warning", "evaluation", warning) for warning in warnings)


def _data_of(config: Config, if_missing: IfMissing) -> Check:
    name = config.data.name
    try:
        known = data_facts(config)
    except UserError as error:
        return Check("fail", "data", str(error))
    if known.missing_requirement:
        return Check(if_missing, "data", f"{name}: needs {known.missing_requirement}")
    where = f" in {known.folder}" if known.folder else ""
    return Check("ok", "data", f"{name}: {known.images:,} images{where}")


def _vae_of(config: Config, if_missing: IfMissing) -> Check:
    try:
        if missing := missing_vae(config):
            return Check(if_missing, "autoencoder", missing)
        facts = given_vae(config)
    except UserError as error:
        return Check("fail", "autoencoder", str(error))
    return Check("ok", "autoencoder", f"{facts.folder}, sha256 {facts.sha256[:12]}...")
