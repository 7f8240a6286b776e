"""Records as text: metrics with their intervals, and how they were measured."""

from collections.abc import Mapping

from diffussm.metric import UNRELIABLE
from diffussm.metric_table import METRICS
from diffussm.store.records import EvaluationKey, Record, common_key, unreliable
from diffussm.tables import aligned

# How samples were made and what their model was trained on: unknown for external samples.
SAMPLING_FIELDS = (
    "sampler",
    "sampler_steps",
    "ddim_eta",
    "precision",
    "guidance",
    "guidance_channels",
    "labels",
    "clip",
    "weights",
    "transform",
    "vae_sha256",
    "decoding",
)
LEFT_ALIGNED = ("samples", "metric")


def format_records(records: Mapping[str, Record]) -> str:
    """Return a table of named records, one below the other, and the key that they share.

    They may differ in how the samples were made; UserError names any other field in which they differ.
    """
    key = common_key((record.key for record in records.values()), "samples", SAMPLING_FIELDS)
    assert key is not None
    rows = []
    for name, record in records.items():
        rows += [{"samples": name if i == 0 else "", **row} for i, row in enumerate(_metrics(record))]
    measured = {name for record in records.values() for name in record.metrics if name in METRICS}
    notes = [
        f"{UNRELIABLE} {METRICS[name].title}: unreliable: {why}" for name, why in unreliable(key, measured).items()
    ]
    autoencoders = sorted({record.key.vae_sha256[:12] for record in records.values() if record.key.vae_sha256})
    decoded = [f"decoded by the autoencoder with sha256 {' or '.join(autoencoders)}"] if autoencoders else []
    return "\n".join([f"{aligned(rows, LEFT_ALIGNED)}\n", *notes, how_measured(key), *decoded])


def _metrics(record: Record) -> list[dict[str, str]]:
    out = []
    for name, measure in METRICS.items():
        if name in record.metrics:

            def number(suffix: str, name: str = name, digits: int = measure.digits) -> str:
                value = record.metrics.get(f"{name}_{suffix}" if suffix else name)
                return "" if value is None else f"{value:.{digits}f}"

            low, high = number("samples_low"), number("samples_high")
            interval = f"{low} to {high}" if low else ""
            out.append(
                {
                    "metric": f"{measure.title} {UNRELIABLE}" if record.key.unreliability(name) else measure.title,
                    "value": number(""),
                    "95 % over samples": interval,
                    "noise floor": number("floor"),
                    "at n = inf": number("infinity"),
                }
            )
    return out


def how_measured(key: EvaluationKey) -> str:
    """Return a description of the key in a few lines."""
    against = f"{key.reference_samples:,} images" if key.reference_samples else "no images"
    frechet = "the statistics in its file" if key.reference_kind == "statistics" else "its images"
    lines = (
        f"n = {key.samples:,}; extractor {key.extractor} (sha256 {key.extractor_sha256[:12]})",
        f"reference {key.reference} (sha256 {key.reference_sha256[:12]}): {against}",
        f"Frechet distances to {frechet}; transform {key.transform}",
    )
    return "\n".join(lines)
