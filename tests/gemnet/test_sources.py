import os
import zipfile

import numpy as np
import pytest
from data_sets import arrays, fails, npz

from gemnet.data import load
from gemnet.errors import DataError


class TestNpz:
    def test_reads_the_medmnist_layout(self, tmp_path):
        data = load(npz(tmp_path))
        made = arrays()
        assert np.array_equal(data.train.images[..., 0], made["train_images"])
        assert data.val.labels.dtype == np.int64
        assert list(data.val.labels) == list(made["val_labels"][:, 0])
        assert data.classes == ("0", "1", "2", "3")
        assert len(data.test.labels) == 4

    @pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", ">i4", "uint64", "int64"])
    def test_reads_colour_and_any_integer_label(self, tmp_path, dtype):
        data = load(npz(tmp_path, shape=(8, 6, 3), train_labels=(np.arange(40) % 4).astype(dtype)))
        assert data.img_size == (8, 6)
        assert data.in_chans == 3
        assert list(data.train.labels[:5]) == [0, 1, 2, 3, 0]

    def test_splits_a_tenth_of_each_class_off_without_validation(self, tmp_path):
        labels = np.array([0] * 60 + [1] * 30 + [2] * 10)
        name = npz(tmp_path, n=100, train_labels=labels, val_images=None, val_labels=None, test_labels=np.zeros(4, int))
        data = load(name)
        assert list(np.bincount(data.val.labels)) == [6, 3, 1]
        assert list(np.bincount(data.train.labels)) == [54, 27, 9]
        both = np.concatenate([data.train.images, data.val.images])
        assert {i.tobytes() for i in both[..., 0]} == {i.tobytes() for i in arrays(n=100)["train_images"]}
        assert load(name).fingerprint == data.fingerprint

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"train_labels": None}, ["train_labels", "missing", "val_images"]),
            ({"val_labels": None}, ["val_labels", "missing"]),
            ({"train_images": np.zeros((40, 8, 8), np.float32)}, ["train_images", "float32", "uint8"]),
            ({"train_images": np.zeros((40, 64), np.uint8)}, ["[40, 64]", "[N, H, W]"]),
            ({"train_images": np.zeros((40, 3, 32, 32), np.uint8)}, ["[40, 3, 32, 32]", "channels first", "transpose"]),
            ({"train_images": np.zeros((40, 8, 8, 20), np.uint8)}, ["[40, 8, 8, 20]", "C last", "at most 16"]),
            ({"train_images": np.zeros((39, 8, 8), np.uint8)}, ["39 images but 40 labels"]),
            ({"train_images": np.zeros((40, 0, 8), np.uint8)}, ["[40, 0, 8, 1]"]),
            ({"train_labels": np.zeros((40, 3), np.int64)}, ["[40, 3]", "one label per image"]),
            ({"train_labels": np.arange(40) % 4 / 1.0}, ["float64", "integers"]),
            ({"train_labels": np.arange(40) % 4 - 1}, ["label -1", "from 0 to 3"]),
            ({"train_labels": np.arange(40) % 4 * 2}, ["class 1", "no training image", "without a gap"]),
            ({"train_labels": (np.arange(40) % 4) * 10**12}, ["label 1000000000000"]),
            ({"train_labels": np.full(40, 2**64 - 1, np.uint64)}, ["18446744073709551615"]),
            ({"train_labels": np.zeros(40, np.int64)}, ["at least 2"]),
            ({"val_labels": np.full(8, 4)}, ["val", "label 4", "from 0 to 3"]),
            ({"test_images": np.zeros((4, 9, 9), np.uint8)}, ["test", "9x9", "8x8"]),
            ({"test_images": np.zeros((0, 8, 8), np.uint8), "test_labels": np.zeros(0, int)}, ["test has no images"]),
            ({"train_images": np.zeros((0, 8, 8), np.uint8), "train_labels": np.zeros(0, int)}, ["no images"]),
            ({"train_labels": np.array([0, "x"] * 20, object)}, ["pickle", "plain types"]),
            ({"classes": np.array(["a", "b", "c"])}, ["label 3", "from 0 to 2"]),
            ({"classes": np.array(["a", "b", "c", "d", "e"])}, ["class 4 (e)", "no training image"]),
            ({"classes": np.array(["a", "b", "c", "a"])}, ["different, not empty strings"]),
            ({"classes": np.array(["a", "b", "c", ""])}, ["different, not empty strings"]),
            ({"classes": np.arange(4)}, ["different, not empty strings", "int64"]),
            (
                {"val_images": None, "val_labels": None, "train_labels": np.array([0, 1] * 19 + [0, 2])},
                ["class 2", "one training image"],
            ),
        ],
    )
    def test_says_what_is_wrong_with_the_arrays(self, tmp_path, changes, words):
        fails(npz(tmp_path, **changes), "set.npz", *words)

    def test_says_that_there_is_no_file(self, tmp_path):
        fails(f"npz:{tmp_path / 'none.npz'}", "none.npz", "no such file")
        fails(f"npz:{tmp_path}", "no such file")

    def test_says_that_it_is_no_npz(self, tmp_path):
        (tmp_path / "a.npz").write_text("hello")
        np.save(tmp_path / "b.npy", np.zeros(3))
        with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
            archive.writestr("readme.txt", "hello")
        fails(f"npz:{tmp_path / 'a.npz'}", "no npz", "savez_compressed")
        fails(f"npz:{tmp_path / 'b.npy'}", "no npz", "savez_compressed")
        fails(f"npz:{tmp_path / 'c.npz'}", "train_images", "missing")

    def test_a_damaged_file_is_an_error_or_has_no_effect(self, tmp_path):
        np.savez_compressed(tmp_path / "set.npz", **arrays())
        name, content = f"npz:{tmp_path / 'set.npz'}", (tmp_path / "set.npz").read_bytes()
        before = load(name).fingerprint
        rng, messages = np.random.default_rng(0), []
        for _ in range(150):
            damaged = bytearray(content)
            damaged[rng.integers(len(content))] ^= 1 << rng.integers(8)
            if rng.random() < 0.2:
                damaged = damaged[: rng.integers(len(content))]
            (tmp_path / "set.npz").write_bytes(damaged)
            try:
                assert load(name).fingerprint == before
            except DataError as error:
                messages.append(str(error))
        assert len(messages) > 100
        assert not any("\n" in message for message in messages)

    def test_says_that_it_is_too_large_before_reading(self, tmp_path, monkeypatch):
        monkeypatch.setattr("gemnet.sources.MAX_BYTES", 1000)
        fails(npz(tmp_path), "GB of memory", "fewer or smaller")


class TestDownloads:
    @pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion-mnist"])
    @pytest.mark.parametrize("error", [OSError("no route\nto host"), RuntimeError("Error downloading x"), EOFError()])
    def test_no_network_is_one_line(self, tmp_path, monkeypatch, name, error):
        def download(self):
            raise error

        for source in ("CIFAR10", "FashionMNIST"):
            monkeypatch.setattr(f"torchvision.datasets.{source}.download", download)
        monkeypatch.setenv("GEMNET_DATA", str(tmp_path / "here"))
        fails(name, name, str(tmp_path / "here"), "network", "GEMNET_DATA")

    def test_a_root_that_cannot_be_made_is_one_line(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match="can be written"):
            load("cifar10", root=tmp_path / "file")

    def test_the_root_given_wins_over_the_environment(self, tmp_path, monkeypatch):
        monkeypatch.setenv("GEMNET_DATA", str(tmp_path / "no"))
        monkeypatch.setattr("torchvision.datasets.CIFAR10.download", lambda self: None)
        with pytest.raises(DataError, match="yes"):
            load("cifar10", root=tmp_path / "yes")
        assert not (tmp_path / "no").exists()

    def test_a_downloaded_set_is_read_without_the_network(self, tmp_path, monkeypatch):
        """Files in the published layout, with torchvision's check of their sums switched off."""
        import pickle

        from torchvision.datasets import CIFAR10

        folder, rng = tmp_path / CIFAR10.base_folder, np.random.default_rng(0)
        folder.mkdir()
        pixels = rng.integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)
        for file, _ in CIFAR10.train_list + CIFAR10.test_list:
            entry = {"data": pixels.reshape(20, -1), "labels": [k % 10 for k in range(20)]}
            (folder / file).write_bytes(pickle.dumps(entry))
        (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"c{k}" for k in range(10)]}))
        monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
        data = load("cifar10", root=tmp_path)
        assert (len(data.train.labels), len(data.val.labels), len(data.test.labels)) == (90, 10, 20)
        assert np.array_equal(data.test.images, pixels.transpose(0, 2, 3, 1))
        assert data.classes[9] == "c9"

    @pytest.mark.network
    @pytest.mark.parametrize(("name", "shape"), [("fashion-mnist", (28, 28, 1)), ("cifar10", (32, 32, 3))])
    def test_downloads(self, tmp_path, name, shape):
        data = load(name, root=os.environ.get("GEMNET_DATA") or tmp_path)
        assert data.train.images.shape[1:] == shape
        assert len(data.train.labels) + len(data.val.labels) in (50_000, 60_000)
        assert len(data.test.labels) == 10_000
        assert set(np.bincount(data.val.labels)) == {len(data.val.labels) // 10}
