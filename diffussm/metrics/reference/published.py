"""Where references come from that bases name: ADM's published files, and those that are made of the training images."""

from pathlib import Path

ADM = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches"
_ADM_FOLDERS = {
    "VIRTUAL_imagenet64_labeled.npz": "imagenet/64",
    "VIRTUAL_imagenet128_labeled.npz": "imagenet/128",
    "VIRTUAL_imagenet256_labeled.npz": "imagenet/256",
    "VIRTUAL_imagenet512.npz": "imagenet/512",
    "VIRTUAL_lsun_bedroom256.npz": "lsun/bedroom",
}
_MADE_OF = {
    "cifar10_reference.npz": "DIR",
    "lsun_church256.npz": "church_outdoor_train_lmdb",
}


def where_from(reference: Path) -> str:
    """Return how to get a reference file that is not there, by its name."""
    if folder := _ADM_FOLDERS.get(reference.name):
        return f"get ADM's from {ADM}/{folder}/{reference.name}, and its SHA-256 is recorded with each number"
    source = _MADE_OF.get(reference.name, "SOURCE")
    size = " --image-size 256" if source.endswith("_lmdb") else ""
    return f"make it with `diffussm reference build {source} {reference}{size}`"
