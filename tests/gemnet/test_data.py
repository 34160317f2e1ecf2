import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gemnet import zoo
from gemnet.data import Dataset, Split, load, subset
from gemnet.errors import DataError, UnknownNameError

ROOT = Path(__file__).parents[2]


def arrays(n=40, shape=(8, 8), **changes):
    """The arrays of a correct npz file of n training images, with some replaced or, by None, left out."""
    rng = np.random.default_rng(0)
    made = {
        "train_images": rng.integers(0, 256, (n, *shape), dtype=np.uint8),
        "train_labels": (np.arange(n) % 4).astype(np.uint8)[:, None],
        "val_images": rng.integers(0, 256, (8, *shape), dtype=np.uint8),
        "val_labels": (np.arange(8) % 4).astype(np.uint8)[:, None],
        "test_images": rng.integers(0, 256, (4, *shape), dtype=np.uint8),
        "test_labels": (np.arange(4) % 4).astype(np.uint8)[:, None],
        **changes,
    }
    return {name: array for name, array in made.items() if array is not None}


def npz(folder, **changes):
    np.savez(folder / "set.npz", **arrays(**changes))
    return f"npz:{folder / 'set.npz'}"


def save_image(path, size=(8, 8), mode="RGB", value=100, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode in ("L", "I;16") else (value,) * len(mode)).save(path, **options)


def folder_set(root, classes=("cat", "dog"), count=3, **image):
    for k, name in enumerate(classes):
        for i in range(count):
            save_image(root / name / f"{i}.png", value=10 * k + i, **image)
    return f"folder:{root}"


def fails(name, *words):
    """Loads what cannot be loaded, and checks that one line says so with these words."""
    with pytest.raises(DataError) as caught:
        load(name)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    assert caught.value.exit_code == 2


@pytest.fixture(scope="module")
def mini():
    return load("fashion-mini")


class TestFashionMini:
    def test_has_the_promised_images_in_equal_classes(self, mini):
        sizes = {part: len(split.labels) for part, split in mini.splits.items()}
        assert sizes == {"train": 6000, "val": 1000, "test": 1000}
        for split in mini.splits.values():
            assert set(np.bincount(split.labels)) == {len(split.labels) // 10}
        assert mini.img_size == (28, 28)
        assert mini.in_chans == 1
        assert mini.classes[:2] == ("T-shirt/top", "Trouser")

    def test_shares_no_image_between_train_and_validation(self, mini):
        train = {image.tobytes() for image in mini.train.images}
        assert not train & {image.tobytes() for image in mini.val.images}

    def test_is_what_the_build_script_makes(self, tmp_path):
        source = Path("/usr/share/datasets/fashion-mnist")
        if not source.is_dir():
            pytest.skip("the Debian package dataset-fashion-mnist is not installed")
        out = tmp_path / "again.npz"
        script = zoo.path("data", "build_fashion_mini.py")
        subprocess.run([sys.executable, script, source, out], check=True, capture_output=True)
        assert out.read_bytes() == zoo.path("data", "fashion_mini.npz").read_bytes()

    def test_build_script_refuses_other_files(self, tmp_path):
        (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"x")
        script = zoo.path("data", "build_fashion_mini.py")
        command = [sys.executable, script, tmp_path, tmp_path / "out"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 1
        assert "not the published file" in done.stderr

    def test_has_its_licence(self):
        assert "MIT License" in zoo.path("data", "fashion_mini.LICENSE").read_text(encoding="utf-8")


class TestDataset:
    def test_mean_and_std_are_numpys(self, mini):
        values = mini.train.images.astype(np.float64) / 255
        assert mini.mean == pytest.approx((values.mean(),), abs=1e-12)
        assert mini.std == pytest.approx((values.std(),), abs=1e-12)

    def test_a_channel_that_never_changes_has_std_one(self):
        images = np.zeros((4, 2, 2, 2), dtype=np.uint8)
        images[::2, ..., 1] = 255
        split = Split(images, np.array([0, 1, 0, 1]))
        data = Dataset("x", split, split, None, ("a", "b"))
        assert data.std == (1.0, 0.5)
        assert data.mean == (0.0, 0.5)

    @pytest.mark.parametrize("change", ["image", "label", "class", "test"])
    def test_fingerprint_sees_every_part(self, tmp_path, change):
        names = np.array(["a", "b", "c", "d"])
        before = load(npz(tmp_path, classes=names)).fingerprint
        assert load(npz(tmp_path, classes=names)).fingerprint == before
        made = arrays(classes=names)
        if change == "image":
            made["val_images"][0, 0, 0] ^= 1
        elif change == "label":
            made["train_labels"][0] = 1
        elif change == "class":
            made["classes"][3] = "e"
        else:
            del made["test_images"], made["test_labels"]
        np.savez(tmp_path / "set.npz", **made)
        assert load(f"npz:{tmp_path / 'set.npz'}").fingerprint != before

    def test_refuses_splits_that_do_not_fit(self):
        good = Split(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 0, 1]))
        small = Split(np.zeros((4, 4, 4, 1), np.uint8), np.array([0, 1, 0, 1]))
        short = Split(good.images, good.labels[:3])
        wide = Split(good.images, good.labels.astype(np.int32))
        for val, words in ((small, "4x4"), (short, "4 images but 3 labels"), (wide, "int64")):
            with pytest.raises(DataError, match=words):
                Dataset("x", good, val, None, ("a", "b"))
        with pytest.raises(DataError, match="at least 2"):
            Dataset("x", good, good, None, ("a",))


class TestSubset:
    def test_takes_equal_classes_from_both_splits(self, mini):
        small = subset(mini, 205, 100)
        assert sorted(np.bincount(small.train.labels)) == [20] * 5 + [21] * 5
        assert set(np.bincount(small.val.labels)) == {10}
        assert small.test is mini.test
        held = {image.tobytes() for image in mini.val.images}
        assert all(image.tobytes() in held for image in small.val.images)

    def test_takes_validation_from_train_if_the_own_split_is_too_small(self, mini):
        small = subset(mini, 1000, 1500)
        assert set(np.bincount(small.train.labels)) == {100}
        assert set(np.bincount(small.val.labels)) == {150}
        train = {image.tobytes() for image in small.train.images}
        assert not train & {image.tobytes() for image in small.val.images}
        everything = {image.tobytes() for image in mini.train.images}
        assert all(image.tobytes() in everything for image in small.val.images)

    def test_is_the_same_each_time_and_grows_by_adding(self, mini):
        assert subset(mini, 100, 50).fingerprint == subset(mini, 100, 50).fingerprint
        small = {image.tobytes() for image in subset(mini, 100, 50).train.images}
        assert small < {image.tobytes() for image in subset(mini, 200, 50).train.images}

    def test_takes_a_rare_class_whole(self):
        labels = np.array([0] * 90 + [1] * 10)
        train = Split(np.zeros((100, 2, 2, 1), np.uint8), labels)
        val = Split(train.images[85:95], labels[85:95])
        small = subset(Dataset("x", train, val, None, ("a", "b")), 50, 4)
        assert list(np.bincount(small.train.labels)) == [40, 10]

    @pytest.mark.parametrize(("train", "val"), [(9, 100), (100, 9), (6001, 100), (5000, 1001), (-1, 10)])
    def test_refuses_too_few_and_too_many(self, mini, train, val):
        with pytest.raises(DataError, match="fashion-mini"):
            subset(mini, train, val)


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
            ({"classes": np.array(["a", "b", "c", "a"])}, ["different strings"]),
            ({"classes": np.arange(4)}, ["different strings", "int64"]),
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


class TestFolder:
    def test_reads_class_folders_in_the_order_of_their_names(self, tmp_path):
        data = load(folder_set(tmp_path, ("dog", "cat"), count=20), progress=False)
        assert data.classes == ("cat", "dog")
        assert (data.img_size, data.in_chans, data.test) == ((8, 8), 3, None)
        assert list(np.bincount(data.val.labels)) == [2, 2]
        both = np.concatenate([data.train.images, data.val.images])[:, 0, 0, 0]
        labels = np.concatenate([data.train.labels, data.val.labels])
        assert sorted(both[labels == 1]) == list(range(20))
        assert sorted(both[labels == 0]) == list(range(10, 30))

    def test_reads_train_val_and_test_folders(self, tmp_path):
        for part, count in (("train", 4), ("val", 3), ("test", 2)):
            folder_set(tmp_path / part, count=count, mode="L")
        data = load(f"folder:{tmp_path}")
        assert [len(split.labels) for split in data.splits.values()] == [8, 6, 4]
        assert data.in_chans == 1

    def test_a_class_may_be_called_train(self, tmp_path):
        assert load(folder_set(tmp_path, ("train", "plane"))).classes == ("plane", "train")

    def test_passes_over_hidden_and_other_files(self, tmp_path):
        name = folder_set(tmp_path)
        (tmp_path / ".cache").mkdir()
        (tmp_path / "readme.txt").write_text("hello")
        (tmp_path / "cat" / "notes.txt").write_text("hello")
        (tmp_path / "cat" / "._0.png").write_bytes(b"x")
        data = load(name)
        assert len(data.train.labels) + len(data.val.labels) == 6

    def test_resizes_where_asked(self, tmp_path):
        folder_set(tmp_path, ("cat",))
        folder_set(tmp_path, ("dog",), size=(20, 10))
        fails(f"folder:{tmp_path}", "differ in size", "8x8", "20x10", f"folder:{tmp_path}@8")
        assert load(f"folder:{tmp_path}@6").img_size == (6, 6)

    def test_a_folder_with_an_at_in_its_name_is_that_folder(self, tmp_path):
        assert load(folder_set(tmp_path / "photos@4")).img_size == (8, 8)
        assert load(f"folder:{tmp_path / 'photos@4'}@2").img_size == (2, 2)

    def test_turns_photos_upright(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        folder_set(tmp_path, size=(8, 4))
        turned = Image.new("RGB", (4, 8))
        turned.paste((255, 255, 255), (0, 0, 4, 4))  # white on top as stored, on the right when upright
        turned.save(tmp_path / "dog" / "9.png", exif=exif)
        data = load(f"folder:{tmp_path}@4")
        images = np.concatenate([data.train.images, data.val.images])
        assert load(f"folder:{tmp_path}").img_size == (4, 8)
        (image,) = [image for image in images if image.max() == 255]
        assert image[:, 3].min() > 200
        assert image[:, 0].max() < 50

    def test_mixes_grey_palette_and_transparent_images(self, tmp_path):
        folder_set(tmp_path)
        save_image(tmp_path / "cat" / "grey.png", mode="L")
        save_image(tmp_path / "cat" / "alpha.png", mode="RGBA")
        Image.new("P", (8, 8)).save(tmp_path / "dog" / "palette.png", transparency=b"\x00\x01")
        assert load(f"folder:{tmp_path}").in_chans == 3

    def test_names_the_image_that_cannot_be_decoded(self, tmp_path):
        name = folder_set(tmp_path, size=(64, 64))
        broken = tmp_path / "dog" / "1.png"
        content = broken.read_bytes()
        for damaged in (b"no image", b"", content[: len(content) - 40]):
            broken.write_bytes(damaged)
            fails(name, str(broken), "cannot be decoded", "replace or remove")

    def test_says_what_is_wrong_with_the_folders(self, tmp_path):
        fails(f"folder:{tmp_path / 'none'}", "no such folder")
        fails(f"folder:{tmp_path}", "0 class folders", "at least 2")
        folder_set(tmp_path, ("cat",))
        fails(f"folder:{tmp_path}", "1 class folder in", "at least 2")
        (tmp_path / "dog").mkdir()
        fails(f"folder:{tmp_path}", str(tmp_path / "dog"), "no images")
        save_image(tmp_path / "dog" / "0.png", mode="I;16")
        fails(f"folder:{tmp_path}", "0.png", "8 bits")
        fails(f"folder:{tmp_path}@0", "at least 1 pixel")

    def test_says_what_is_wrong_with_split_folders(self, tmp_path):
        folder_set(tmp_path / "train")
        folder_set(tmp_path / "valid")
        fails(f"folder:{tmp_path}", "valid", "allowed are val and test")
        (tmp_path / "valid").rename(tmp_path / "val")
        folder_set(tmp_path / "val", ("cow",))
        fails(f"folder:{tmp_path}", "cow", "train has not")

    def test_says_that_it_is_too_large_before_reading(self, tmp_path, monkeypatch):
        monkeypatch.setattr("gemnet.folder.MAX_BYTES", 1000)
        fails(folder_set(tmp_path), "GB of memory")


class TestNames:
    @pytest.mark.parametrize("name", ["cifra10", "npz:", "folder:", "", "zip:x", "x" * 9999, "a\0b"])
    def test_an_unknown_name_lists_those_there_are(self, name):
        with pytest.raises(UnknownNameError, match=r"fashion-mini.*folder:DIR.*npz:FILE"):
            load(name)

    def test_a_bare_path_is_told_its_prefix(self, tmp_path):
        npz(tmp_path)
        fails(str(tmp_path), f"folder:{tmp_path}")
        fails(str(tmp_path / "set.npz"), f"npz:{tmp_path / 'set.npz'}")

    def test_importing_loads_no_torch(self):
        code = "import sys, gemnet.data, gemnet.recipe; print({'torch', 'PIL', 'rich'} & set(sys.modules))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stdout.strip() == "set()"


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


@pytest.mark.parametrize("names", [("training", "val", "test"), ("Train", "Test"), ("val", "test")])
def test_folders_named_like_splits_are_not_taken_for_classes(tmp_path, names):
    for name in names:
        for kind in ("cat", "dog"):
            (tmp_path / name / kind).mkdir(parents=True)
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name / kind / "1.png")
    with pytest.raises(DataError, match="look like splits, not classes"):
        load(f"folder:{tmp_path}")
