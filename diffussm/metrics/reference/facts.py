"""What is known of a reference before anything runs. No torch."""

from pathlib import Path
from typing import NamedTuple

from diffussm.data.catalogue import facts
from diffussm.metrics.reference.file import ReferenceFile, is_file


class ReferenceFacts(NamedTuple):
    """What the key says of a reference, and what must fit."""

    name: str
    sha256: str
    images: int
    kind: str
    layers: tuple[str, ...]  # that its file has statistics of
    shape: tuple[int, int] | None  # (channels, pixels a side), None: unknown
    transform: str | None  # None: unknown
    extractor_sha256: str | None  # of the network that its statistics come from; None: there are none, or unknown


def reference_facts(reference: str) -> ReferenceFacts:
    """Of a data set's name or an .npz file; a file that is not there yet has no hash."""
    if not is_file(reference):
        known = facts(reference, "evaluation.reference")
        shape = known.channels, known.image_size
        return ReferenceFacts(reference, known.sha256, known.images, "images", (), shape, "none", None)
    file = ReferenceFile(Path(reference))
    if file.missing_requirement():
        return ReferenceFacts(file.name, "", 0, "images", (), None, None, None)
    stated = file.stated
    return ReferenceFacts(
        file.name,
        file.sha256,
        file.images,
        file.kind,
        file.layers,
        file.image_shape,
        stated.get("transform"),
        stated.get("extractor_sha256"),
    )
