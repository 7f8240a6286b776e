"""What a prepared data set holds, in words."""

from collections.abc import Mapping

from diffussm.data.prepared.manifest import Manifest

NAMES_SHOWN = 10


def summary(manifest: Manifest) -> str:
    """Return what was taken, what was done to it and what was left out, a line each."""
    m = manifest
    lines = [
        f"{m.count:,} image{'s' * (m.count != 1)} of {m.channels} x {m.image_size} x {m.image_size}, "
        f"transform {m.transform}, {_classes(m.classes)}"
    ]
    lines += [f"treated: {_counts(m.source.notes)}"] * bool(m.source.notes)
    lines += [f"left out: {_counts(m.source.skipped)}"] * bool(m.source.skipped)
    lines += [f"broken images are listed in {m.broken.file}"] if m.broken else []
    return "\n".join(lines)


def _classes(names: tuple[str, ...]) -> str:
    if not names:
        return "no labels"
    shown = ", ".join(names[:NAMES_SHOWN])
    return f"{len(names)} classes: {shown}{', ...' if len(names) > NAMES_SHOWN else ''}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())
