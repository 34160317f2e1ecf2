from pathlib import Path

import numpy as np
import pytest
from data_sets import fails, folder_set, save_image
from PIL import Image

from gemnet.data import load
from gemnet.errors import DataError


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


@pytest.mark.parametrize("names", [("training", "val", "test"), ("Train", "Test"), ("val", "test")])
def test_folders_named_like_splits_are_not_taken_for_classes(tmp_path, names):
    for name in names:
        for kind in ("cat", "dog"):
            (tmp_path / name / kind).mkdir(parents=True)
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name / kind / "1.png")
    with pytest.raises(DataError, match="look like splits, not classes"):
        load(f"folder:{tmp_path}")


def test_files_that_are_no_images_are_counted_once(tmp_path, caplog):
    name = folder_set(tmp_path)
    (tmp_path / "cat" / "0.png").rename(tmp_path / "cat" / "0.heic")
    (tmp_path / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    for _ in range(2):
        assert len(load(name).train.labels) == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"2 files are left out, such as {tmp_path / 'cat' / '0.heic'}: no .bmp" in caplog.text
    for file in (tmp_path / "dog").glob("?.png"):
        file.unlink()
    fails(name, f"{tmp_path / 'dog'} has no images (1 file is left out", "gone.png", "to nothing)")


@pytest.mark.parametrize("splits", [False, True])
def test_images_that_are_not_reached_are_told(tmp_path, caplog, splits):
    name = folder_set(tmp_path / "set" / "train" if splits else tmp_path / "set")
    place = Path(name.removeprefix("folder:"))
    more = tmp_path / "more"
    more.mkdir()
    Image.new("RGB", (8, 8)).save(more / "x.png")
    (place / "cat" / "more").symlink_to(more)
    Image.new("RGB", (8, 8)).save(place / "stray.png")
    (place / "labels.csv").touch()
    assert len(load(f"folder:{tmp_path / 'set'}").train.labels) == 4
    assert "2 files are left out" in caplog.text and "in no class folder, or a link to a folder" in caplog.text


def test_a_class_whose_name_is_not_utf_8_is_refused(tmp_path):
    name = folder_set(tmp_path)
    try:
        (tmp_path / "cat").rename(tmp_path / "caf\udce9")
    except OSError:
        pytest.skip("the file system takes UTF-8 only")
    fails(name, r"the name of the class folder 'caf\udce9' is not UTF-8; rename it")


def test_nothing_is_said_of_hidden_files_and_folders_inside_a_class(tmp_path, caplog):
    name = folder_set(tmp_path)
    (tmp_path / "cat" / ".DS_Store").write_text("x")
    save_image(tmp_path / "cat" / "more" / "9.png")
    assert len(load(name).train.labels) == 5
    assert not caplog.records


def test_a_class_with_one_image_is_named(tmp_path):
    name = folder_set(tmp_path, ("cat", "dog"))
    save_image(tmp_path / "eel" / "0.png")
    fails(name, "class eel has one training image")


def test_large_images_are_read_without_pillows_warning_and_larger_ones_refused(tmp_path, monkeypatch):
    name = folder_set(tmp_path)
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 40)  # of the 64 there are: it warns
    assert load(name).img_size == (8, 8)
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 20)
    fails(name, "0.png has too many pixels; make it smaller")
