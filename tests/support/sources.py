"""Small sources of images in the layouts of the real ones."""

import gzip
import io
import struct
import tarfile
import zipfile
from hashlib import sha1
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CIFAR_TRAIN = [f"data_batch_{number}.bin" for number in range(1, 6)]


def noise(height: int, width: int, seed: int = 0, channels: int = 3) -> NDArray[np.uint8]:
    shape = (height, width, channels)[: 2 if channels == 1 else 3]
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, pixels: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def class_folders(root: Path, per_class: int = 4, classes: tuple[str, ...] = ("ant", "bee", "cat")) -> Path:
    """A PNG of 12 x 10 pixels for each image of each class."""
    for label, name in enumerate(classes):
        for number in range(per_class):
            save(root / name / f"{number}.png", noise(10, 12, 100 * label + number))
    return root


def write_cifar(folder: Path, per_file: int = 3) -> NDArray[np.uint8]:
    """Write the binary version with `per_file` images in each file; return all records, (6 per_file, 3073)."""
    folder.mkdir(parents=True, exist_ok=True)
    records = np.random.default_rng(0).integers(0, 256, (6 * per_file, 3073), dtype=np.uint8)
    records[:, 0] %= 10
    for number, name in enumerate([*CIFAR_TRAIN, "test_batch.bin"]):
        (folder / name).write_bytes(records[number * per_file : (number + 1) * per_file].tobytes())
    (folder / "batches.meta.txt").write_text("airplane\n")
    return records


def pack_tar(path: Path, folder: Path, top: str) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, top)
    return path


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder: Path, images: NDArray[np.uint8], labels: NDArray[np.uint8], stem: str = "train") -> Path:
    """Write (N, H, W) and labels, the images compressed; return the file of the images."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(images)))
    (folder / f"{stem}-labels-idx1-ubyte").write_bytes(idx(labels))
    return path


def pack_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def open_lmdb(folder: Path, **options: Any) -> Any:
    """Return an LMDB, open to be written to unless options say something else."""
    import lmdb  # an extra

    return lmdb.open(str(folder), **{"map_size": 1 << 30, "sync": False, **options})


def write_lsun(folder: Path, values: dict[bytes, bytes]) -> Path:
    """Write an LMDB with these values as LSUN's: `data.mdb` and `lock.mdb`."""
    with open_lmdb(folder) as environment, environment.begin(write=True) as writing:
        for key, value in values.items():
            writing.put(key, value)
    return folder


def webp_images(count: int, width: int = 20, height: int = 16) -> dict[bytes, bytes]:
    """Images as LSUN has them: WebP, by hexadecimal keys, in the order of these."""
    images = {sha1(b"%d" % n).hexdigest().encode(): noise(height, width, n) for n in range(count)}
    return {key: encoded(Image.fromarray(images[key]), "WEBP") for key in sorted(images)}
