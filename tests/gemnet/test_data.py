import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_sets import arrays, fails, npz

from gemnet import zoo
from gemnet.data import Dataset, Split, load, subset
from gemnet.errors import DataError, UnknownNameError

ROOT = Path(__file__).parents[2]


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
