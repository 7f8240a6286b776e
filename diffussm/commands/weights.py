"""`diffussm weights`: the files that extractors need, where they come from, where to put them, and their hashes."""

from diffussm.errors import UserError, unknown
from diffussm.metrics.features.registry import EXTRACTORS
from diffussm.metrics.features.weights_file import CLEAN_FID, ENVIRONMENT, WeightsFile


def files() -> dict[str, WeightsFile]:
    """Return the weights files by the name of the extractor that needs them."""
    return {name: extractor.weights for name, extractor in EXTRACTORS.items()} | {"clean-fid": CLEAN_FID}


def report(given: str) -> str:
    """Return a description of all files, and what to do about those that are missing; `given` is a file or folder."""
    lines = []
    for name, file in files().items():
        missing = file.missing_requirement(given)
        lines += [f"{name}: {'missing' if missing else f'verified, {file.path(given)}'}"]
        if not file.shipped:
            lines += [f"  file    {file.name}", f"  sha256  {file.sha256}", f"  from    {file.origin}"]
            if missing:
                lines += [f"  problem {missing}"] if file.path(given) else []
    lines += [
        "",
        "Nothing is downloaded. Put the files into one folder under these names, and give the folder as",
        f"--extractor-weights on the command line, evaluation.extractor_weights in a grid, or in ${ENVIRONMENT}.",
        "The hash of a file is checked before it is opened.",
    ]
    return "\n".join(lines)


def verify(name: str, given: str) -> str:
    """Return where the weights of extractor `name` are; raise UserError if they are missing or have another hash."""
    if name not in files():
        raise unknown("weights", name, files())
    file = files()[name]
    if missing := file.missing_requirement(given):
        raise UserError(f"{name}: {missing if file.path(given) else file.download_advice(given)}")
    return f"{name}: verified, {file.path(given)}"
