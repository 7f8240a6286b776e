"""The data dictionary, which describes every field of records and of CSV tables: docs/data_dictionary.md, written by
`make dictionary`."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from diffussm.metric_table import FRECHET, METRICS, SUFFIXES
from diffussm.store.records import EvaluationKey, StoredRecord
from reports import markdown as md
from reports.docs.bench_tables import BENCH_TABLES
from reports.docs.columns import DEVICE, STEPS, THREADS, Column
from reports.docs.document_tables import DOCUMENT_TABLES
from reports.docs.grid_tables import GRID_TABLES

TABLES = (*GRID_TABLES, *BENCH_TABLES, *DOCUMENT_TABLES)
PAGE = Path(__file__).parents[2] / "docs" / "data_dictionary.md"

HEAD = """# Data dictionary

Written by `make dictionary`. There are two kinds of intervals: `seeds` is over runs that differ in their seed
(Student t, 95 %), `samples` over the samples of one run (95 %, by the method named beside each metric).

"""

TABLES_HEAD = """## Tables

Paths are relative to `reports/out`, except those in `docs`. There is a column `<metric>` for each metric of the
records, in the unit of `metrics.<metric>` above; `<n>` is a number, `<scale>` small or paper, `<device>` cpu or cuda.
"""

RECORD_FIELDS = {  # unit, source; meanings are those of the fields in diffussm/store/records.py
    "run_id": ("-", "names and digest from the config"),
    "step": (STEPS, "the run's milestones"),
    "key": ("see key.*", "config and catalogues"),
    "metrics": ("see metrics.*", "diffussm/metrics"),
    "timing": ("see timing.*", "the machine's clock"),
    "provenance": ("see provenance.*", "diffussm/host/provenance.py"),
    "weights_sha256": ("hexadecimal", "the file of weights"),
    "weights_verifiable": ("true, false or null", "the file of weights"),
    "format_version": ("-", "diffussm/store/integrity/stamp.py"),
    "sha256": ("hexadecimal", "the record's file"),
}

KEY_FIELDS = {
    "extractor": ("-", "evaluation.extractor"),
    "extractor_sha256": ("hexadecimal", "diffussm/metrics/features/registry.py"),
    "reference": ("-", "evaluation.reference"),
    "reference_sha256": ("hexadecimal", "diffussm/data/catalogue.py, or the file"),
    "reference_samples": ("images", "diffussm/data/catalogue.py, or the file"),
    "reference_kind": ("-", "the reference"),
    "samples": ("images", "evaluation.samples"),
    "sampler": ("-", "evaluation.sampler"),
    "sampler_steps": ("network calls", "evaluation.sampler_steps"),
    "ddim_eta": ("factor", "evaluation.ddim_eta"),
    "precision": ("-", "evaluation.precision"),
    "guidance": ("factor", "evaluation.guidance"),
    "guidance_channels": ("channels", "evaluation.guidance_channels"),
    "labels": ("-", "evaluation.labels"),
    "clip": ("true or false", "evaluation.clip"),
    "weights": ("-", "evaluation.weights"),
    "metrics": ("names", "evaluation.metrics"),
    "transform": ("-", "diffussm/data/catalogue.py, or the file"),
    "extractor_layers": ("-", "the extractor"),
    "clean_fid_sha256": ("hexadecimal", "clean-fid's weights file"),
    "vae_sha256": ("hexadecimal", "the data's manifest, or the autoencoder's folder"),
    "decoding": ("-", "the data's manifest, or the autoencoder's config.json"),
}

TIMING = (
    Column("seconds_per_step", "median time of a training step up to `step`", "s", "the run's loss log"),
    Column(
        "evaluation_seconds", "time of sampling and evaluating metrics", "s", "diffussm/metrics/evaluation/model.py"
    ),
)

MACHINE, SOURCE = "diffussm/host/machine.py", "diffussm/host/source.py"
CHECKOUT = "diffussm/host/checkout.py"
MACHINE_FILE = "the run's machine.json"
PROVENANCE = (
    Column("command", "command line of the evaluation", "text", "sys.argv"),
    Column("code", "digest of the package's files", "12 hexadecimal digits", SOURCE),
    Column("commit", "commit of the checkout; null outside one", "hexadecimal", CHECKOUT),
    Column(
        "dirty", "whether files of the code differed from the commit's; null without one", "true or false", CHECKOUT
    ),
    Column(
        "external_code.*",
        "digests of the source of modules from outside this package that it used; missing without any",
        "12 hexadecimal digits",
        "diffussm/host/external_code.py",
    ),
    Column("python", "version", "-", "platform"),
    Column("packages.*", "versions of the packages that compute", "-", "its metadata"),
    Column("machine.host", "the machine's name", "-", "platform"),
    Column("machine.system", "operating system and release", "-", "platform"),
    Column("machine.processor", "its model", "-", MACHINE),
    Column("machine.cores", "cores that the process may use", "cores", MACHINE),
    Column("machine.gpu", "name of the GPU; null without one", "-", "torch"),
    Column(
        "created",
        "when the record was made; missing in records of versions before this field",
        "UTC, ISO 8601",
        "diffussm/host/clock.py",
    ),
    *(
        Column(
            f"data_digests.{part}",
            f"digest of the data that {made}; missing where it is not stated, and in records of versions before it",
            "hexadecimal",
            "diffussm/metrics/data_digests.py",
        )
        for part, made in (
            ("training", "the run was trained on"),
            ("reference", "the reference was built from"),
            ("extractor", "the extractor was trained on"),
        )
    ),
    Column(
        "data_baked",
        "of latents, what is the same in each epoch: one posterior sample, one flip; missing if trained on images",
        "list",
        "the data's manifest",
    ),
    *(
        Column(f"model.{field}", f"of the model in a folder, {meaning}", unit, "diffussm/metrics/evaluation/folders.py")
        for field, meaning, unit in (
            ("folder", "where it lay", "path"),
            ("run_id", "the run that it was converted from; empty if it is of none", "-"),
            ("source.file", "the file of another program that it was converted from", "path"),
            ("source.sha256", "the hash of that file", "hexadecimal"),
        )
    ),
    Column("attempt", "number of the attempt at this evaluation", "-", "diffussm/run/runner.py"),
    Column("backend", "backend of S4D", "-", MACHINE_FILE),
    THREADS._replace(source=MACHINE_FILE),
    DEVICE._replace(source=MACHINE_FILE),
    Column(
        "shares",
        "parts of a training batch that are computed by themselves: processes that began the run",
        "parts",
        MACHINE_FILE,
    ),
    Column(
        "step_settings",
        "how training steps were computed (training.compile, checkpointing, micro_batch), and the step from which on; "
        "missing in records of versions before it",
        "list",
        "the run's machine.json and settings-<attempt>.json",
    ),
    Column("processes", "processes that evaluated together", "processes", "diffussm/distributed/group.py"),
    Column(
        "samples_sha256",
        "digest of external samples, with `created` instead of the other fields",
        "hexadecimal",
        "their pixels",
    ),
)


def record_fields() -> list[Column]:
    """Return every field of a record; fields of a part are named part.field."""
    fields = [
        Column(name, field.description or "", *RECORD_FIELDS[name])
        for name, field in StoredRecord.model_fields.items()
        if not field.exclude
    ]
    for name, field in EvaluationKey.model_fields.items():
        fields.append(Column(f"key.{name}", field.description or "", *KEY_FIELDS[name]))
    fields += metrics()
    fields += (column._replace(name=f"timing.{column.name}") for column in TIMING)
    fields += (column._replace(name=f"provenance.{column.name}") for column in PROVENANCE)
    return fields


def metrics() -> list[Column]:
    """Return every metric, with the further values of it that a record may have."""
    columns = []
    for name, m in METRICS.items():
        columns.append(Column(f"metrics.{name}", f"{m.title}, {m.better} is better: {m.meaning}", m.unit, m.source))
        for suffix, meaning in SUFFIXES.items():
            of_interval = suffix.startswith("samples_")
            if m.interval if of_interval else name in FRECHET:
                what = f"{m.title}: {meaning}" + (f" ({m.interval})" if of_interval else "")
                columns.append(Column(f"metrics.{name}_{suffix}", what, m.unit, "diffussm/metrics"))
    return columns


def page() -> str:
    text = f"{HEAD}## Records\n\nThe fields of `record.json`, beside the samples of each milestone.\n\n"
    text += f"{_table(record_fields())}\n{TABLES_HEAD}"
    for table in TABLES:
        text += f"\n### `{table.path}`\n\nEach row: {table.rows}.\n\n{_table(table.columns)}"
    return text


def _table(columns: Iterable[Column]) -> str:
    return md.table(pd.DataFrame([column._replace(name=f"`{column.name}`") for column in columns]))
