"""Facts about a reference that are known before anything runs. No torch."""

from pathlib import Path
from typing import NamedTuple

from diffussm.config import is_npz_name
from diffussm.data.catalogue import facts
from diffussm.metrics.reference.file import ReferenceFile


class ReferenceFacts(NamedTuple):
    """Facts that are part of an evaluation key or are compared with the samples and the extractor."""

    name: str
    sha256: str
    images: int
    kind: str
    layers: tuple[str, ...]  # those whose statistics are in its file
    shape: tuple[int, int] | None  # (channels, pixels per side), None: unknown
    transform: str | None  # None: unknown
    extractor_sha256: str | None  # of the network of its statistics; None: it has none, or the network is unknown
    of_extractor: str = ""  # its name in a message, if the file has it
    is_known: bool = True  # False: there is no such file, and what follows from its content is unknown
    data_digest: str = ""  # of the data set that it was built from; "": not stated


def reference_facts(reference: str, stated_sha256: str = "") -> ReferenceFacts:
    """Return the facts of a data set or of an .npz file. If there is no such file, or none of the hash that is stated,
    nothing but that hash is known."""
    if not is_npz_name(reference):
        known = facts(reference, "evaluation.reference")
        shape = known.channels, known.image_size
        return ReferenceFacts(
            reference, known.sha256, known.images, "images", (), shape, "none", None, data_digest=known.sha256
        )
    file = ReferenceFile(Path(reference))
    if file.problem() or stated_sha256 not in ("", file.sha256):
        return ReferenceFacts(file.name, stated_sha256, 0, "images", (), None, None, None, is_known=False)
    metadata = file.metadata
    return ReferenceFacts(
        file.name,
        file.sha256,
        file.images,
        file.kind,
        file.layers,
        file.image_shape,
        metadata.get("transform"),
        metadata.get("extractor_sha256"),
        f" ({name})" if (name := metadata.get("extractor")) else "",
        data_digest=metadata.get("data_digest", ""),
    )
