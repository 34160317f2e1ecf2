"""Builds `fashion_mini.npz` from the four standard files of Fashion-MNIST.

    python build_fashion_mini.py FOLDER [OUT]

FOLDER holds `train-images-idx3-ubyte.gz` and its three companions, as published at
https://github.com/zalandoresearch/fashion-mnist and in the Debian package `dataset-fashion-mnist`. Of each of
the ten classes 600 training and 100 validation images are drawn from the training file and 100 test images
from the test file. The same input gives the same bytes.
"""

import gzip
import hashlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np

SHA256 = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
PER_CLASS = {"train": 600, "val": 100, "test": 100}
SEED = 20170828


def main(folder: Path, out: Path) -> None:
    rng = np.random.Generator(np.random.Philox(SEED))
    arrays = {"classes": np.array(CLASSES)}
    for file, parts in (("train", ("train", "val")), ("t10k", ("test",))):
        images = read(folder / f"{file}-images-idx3-ubyte.gz", header=16).reshape(-1, 28, 28)
        labels = read(folder / f"{file}-labels-idx1-ubyte.gz", header=8)
        for part, numbers in draw(labels, parts, rng).items():
            arrays[f"{part}_images"], arrays[f"{part}_labels"] = images[numbers], labels[numbers]
    write(arrays, out)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, sha256 {hashlib.sha256(out.read_bytes()).hexdigest()}")


def read(path: Path, header: int) -> np.ndarray:
    """The bytes of an IDX file after its header."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256[path.name]:
        raise SystemExit(f"{path}: this is not the published file (its sha256 is another)")
    return np.frombuffer(gzip.decompress(content), dtype=np.uint8, offset=header)


def draw(labels: np.ndarray, parts: tuple[str, ...], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Disjoint, class-balanced, sorted numbers of images for each part."""
    chosen: dict[str, list[np.ndarray]] = {part: [] for part in parts}
    for k in range(len(CLASSES)):
        members = rng.permutation(np.flatnonzero(labels == k))
        for part in parts:
            chosen[part].append(members[: PER_CLASS[part]])
            members = members[PER_CLASS[part] :]
    return {part: np.sort(np.concatenate(numbers)) for part, numbers in chosen.items()}


def write(arrays: dict[str, np.ndarray], out: Path) -> None:
    """What `numpy.savez_compressed` writes, but without the time of day."""
    with zipfile.ZipFile(out, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array, allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            archive.writestr(info, content.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) == 3 else Path(__file__).with_name("fashion_mini.npz")))
