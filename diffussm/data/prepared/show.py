"""What a prepared data set holds, in words."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from diffussm.data.prepared.manifest import LatentFacts, Manifest, Rounding
from diffussm.data.prepared.reader import PreparedItems
from diffussm.errors import printable
from diffussm.tables import display_width, padded

NAMES_SHOWN = 10
CHANNELS_SHOWN = 4


def summary(manifest: Manifest) -> str:
    """Return what was taken, what was done to it and what was left out, a line each."""
    m = manifest
    lines = [
        f"{m.count:,} {'image' if m.latents is None else 'latent'}{'s' * (m.count != 1)} of "
        f"{m.channels} x {m.image_size} x {m.image_size}, transform {m.transform or 'unknown'}, {_classes(m.classes)}"
    ]
    lines += _latents(m, m.latents) if m.latents else []
    lines += [f"treated: {_counts(m.source.notes)}"] * bool(m.source.notes)
    lines += [f"left out: {_counts(m.source.skipped)}"] * bool(m.source.skipped)
    lines += [f"broken images are listed in {m.broken.file}"] if m.broken else []
    return "\n".join(map(printable, lines))


def description(folder: Path, data: PreparedItems) -> str:
    """Return all that the manifest says, and how many images each class has."""
    return "\n".join([f"{folder}: {summary(data.manifest)}", *map(printable, _facts(data))])


def _facts(data: PreparedItems) -> Iterator[str]:
    m = data.manifest
    size = m.count * math.prod(m.item_shape) * int(m.dtype[-1])
    yield f"digest {m.digest}"
    if m.latents:
        yield f"autoencoder {m.latents.vae_sha256 or 'unknown'}"
    yield f"source: {m.source.kind}, listing {m.source.listing_sha256[:12]}..."
    yield (
        f"{len(m.shards)} shard{'s' * (len(m.shards) != 1)} of up to {max(s.images for s in m.shards):,} images, "
        f"{size / 1e6:,.1f} MB of {m.kind}, flips: {m.flips}"
    )
    yield f"made with {', '.join(f'{name} {text}' for name, text in m.versions.items())}"
    counts = [0] * len(m.classes)
    for label in data.labels.tolist() if m.classes else ():
        counts[label] += 1
    width = max(map(display_width, m.classes), default=0)
    for label, (name, count) in enumerate(zip(m.classes, counts, strict=True)):
        yield f"  {label:5d}  {padded(name, width)}  {count:9,d} images"


def _latents(m: Manifest, facts: LatentFacts) -> list[str]:
    stored = "one posterior sample, the same in every epoch" if m.kind == "sample" else "mean and standard deviation"
    flips = {"none": "no flips", "paired": "both flips", "baked": "one flip, the same in every epoch"}[m.flips]
    black, white = facts.vae_range
    lines = [
        f"of each image {stored}; {flips}; scale {_values(facts.scale)}, shift {_values(facts.shift)}"
        f"{', applied in what is stored' * facts.scaled}; stored as {facts.dtype}; pixels {black:g} .. {white:g}; "
        f"decoded to {facts.decoded_size} x {facts.decoded_size} by "
        f"{f'VAE {facts.vae_sha256[:12]}...' if facts.vae_sha256 else 'a VAE that is not stated'}"
    ]
    if facts.mean_rounding:
        errors = [f"{'samples' if m.kind == 'sample' else 'means'} by {_error(facts.mean_rounding)}"]
        errors += [f"standard deviations by {_error(facts.std_rounding)}"] if facts.std_rounding else []
        lines.append(f"float16 changes {', '.join(errors)}")
    if how := facts.encoding:
        lines.append(f"encoded on {how.device} in {how.precision}, in batches of {how.batch}")
    return lines


def _error(rounding: Rounding) -> str:
    return f"up to {rounding.largest:.2g} (RMS {rounding.rms:.2g})"


def _values(values: tuple[float, ...]) -> str:
    shown = ", ".join(f"{value:.6g}" for value in values[:CHANNELS_SHOWN])
    return f"({shown}{', ...' * (len(values) > CHANNELS_SHOWN)})" if len(values) > 1 else shown


def _classes(names: tuple[str, ...]) -> str:
    if not names:
        return "no classes"
    shown = ", ".join(names[:NAMES_SHOWN])
    return f"{len(names)} classes: {shown}{', ...' if len(names) > NAMES_SHOWN else ''}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())
