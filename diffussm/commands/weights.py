"""`diffussm weights`: files that extractors need, where they come from, where to put them, whether they are right."""

from diffussm.errors import UserError, unknown
from diffussm.metrics.features.registry import EXTRACTORS
from diffussm.metrics.features.weights_file import CLEAN_FID, ENVIRONMENT, WeightsFile


def files() -> dict[str, WeightsFile]:
    """By the name of what needs them."""
    return {name: extractor.weights for name, extractor in EXTRACTORS.items()} | {"clean-fid": CLEAN_FID}


def report(given: str) -> str:
    """All files, and what is to be done about those that are not there."""
    lines = []
    for name, file in files().items():
        missing = file.missing_requirement(given)
        lines += [f"{name}: {'missing' if missing else f'verified, {file.path(given)}'}"]
        if not file.shipped:
            lines += [f"  file    {file.name}", f"  sha256  {file.sha256}", f"  from    {file.origin}"]
            if missing:
                lines += [f"  needs   {missing}"] if file.path(given) else []
    lines += [
        "",
        "Nothing is downloaded. Put files into one folder, under these names, and name it: --extractor-weights FOLDER",
        f"on the command line, evaluation.extractor_weights in a grid, or {ENVIRONMENT} in the environment.",
        "A file's hash is checked before it is opened.",
    ]
    return "\n".join(lines)


def verify(name: str, given: str) -> str:
    """One of them; UserError if it is not there, or is another file."""
    if name not in files():
        raise unknown("weights", name, files())
    file = files()[name]
    if missing := file.missing_requirement(given):
        raise UserError(f"{name}: needs {missing}; from {file.origin}")
    return f"{name}: verified, {file.path(given)}"
