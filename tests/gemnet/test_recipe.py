import dataclasses
import json
import re
import subprocess
import sys

import pytest

from gemnet import recipe as recipes
from gemnet import settings, zoo
from gemnet.errors import ConfigError, UnknownNameError
from gemnet.recipe import Recipe, load, override


class TestRecipe:
    @pytest.mark.parametrize(
        "change",
        [
            {"epochs": 0}, {"batch_size": 1}, {"lr": 0.0}, {"lr": float("nan")}, {"lr": float("inf")},
            {"momentum": 1.0}, {"momentum": -0.1}, {"weight_decay": -1.0}, {"label_smoothing": 1.0},
            {"warmup_epochs": 8.0}, {"warmup_epochs": -1.0}, {"stop_factor": float("nan")},
            {"crop_padding": -1}, {"stop_epochs": -1}, {"stop_factor": -1.0}, {"sched": "cosin"}, {"min_lr": -0.1},
            {"layer_decay": 0.0}, {"layer_decay": 1.1}, {"clip_grad": -1.0}, {"mixup": -0.1}, {"cutmix": -1.0},
            {"random_erase": 1.0}, {"drop_rate": 1.0}, {"drop_path_rate": -0.1}, {"ema_decay": 1.0},
            {"precision": "fp8"}, {"accumulate": 0}, {"img_size": -1}, {"crop_scale": 0.0}, {"crop_pct": 1.5},
            {"color_jitter": -1.0}, {"color_jitter": 1e9}, {"crop_pct": 0.05}, {"crop_padding": 10**9},
            {"img_size": 100_000}, {"lr": 1e9}, {"weight_decay": 1e9}, {"min_lr": 0.2}, {"min_lr": float("nan")},
            {"auto_augment": "rand-mabc"}, {"auto_augment": "rand-m"}, {"auto_augment": "rand-tfoo"},
        ],
    )  # fmt: skip
    def test_refuses_values_out_of_range(self, change):
        ((name, value),) = change.items()
        with pytest.raises(ConfigError, match=f"recipe.{name} must be .*, got {value}"):
            Recipe(**change)

    def test_policies_of_timm_pass(self):
        for policy in ("", "rand-m9-mstd0.5", "rand-m9-n3-p0.5-inc1-mmax12", "rand-mstd1-tweights", "rand-t3aw",
                       "original-mstd0.5", "v0r", "3a", "augmix-m5-w4-d2-a0.5-b1"):  # fmt: skip
            assert Recipe(auto_augment=policy).auto_augment == policy

    def test_too_few_epochs_for_the_warm_up_come_with_a_remedy(self):
        with pytest.raises(ConfigError, match=r"below epochs \(1\), such as --set warmup_epochs=0, got 1\.0"):
            override(load("cifar-cpu"), ["epochs=1"])

    def test_survives_json(self):
        recipe = Recipe(epochs=3, flip=False, opt="lamb")
        assert settings.from_dict(Recipe, json.loads(json.dumps(settings.to_dict(recipe)))) == recipe
        with pytest.raises(UnknownNameError, match="batchsize"):
            settings.from_dict(Recipe, {"batchsize": 3})

    def test_every_field_is_documented(self):
        documented = re.findall(r"^        ([a-z_, ]+):", Recipe.__doc__, re.MULTILINE)
        names = [name for line in documented for name in line.split(", ")]
        assert sorted(names) == sorted([field.name for field in dataclasses.fields(Recipe)])

    @pytest.mark.parametrize(("classes", "bound"), [(2, 0.625), (3, 0.5), (4, 0.4375), (5, 0.4), (10, 0.2)])
    def test_hopeless_is_twice_chance_but_within_reach(self, classes, bound):
        assert Recipe().hopeless_below(classes) == pytest.approx(bound)

    def test_identity_is_what_it_was_before_fields_were_added_unless_one_is_used(self):
        first = {
            "epochs": 8, "batch_size": 128, "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "label_smoothing": 0.1,
            "warmup_epochs": 0.0, "crop_padding": 4, "flip": True, "stop_epochs": 4, "stop_factor": 2.0,
        }  # fmt: skip
        assert Recipe().identity == first
        assert Recipe(ema_decay=0.9).identity == {**first, "ema_decay": 0.9}


class TestZoo:
    def test_every_recipe_loads_and_says_what_it_is_for(self):
        names = sorted(path.stem for path in zoo.path("recipes").glob("*.json"))
        assert names == ["cifar-cpu", "cifar-cpu-short", "cifar-gpu", "finetune", "imagenet"]
        for name in names:
            assert load(name) != Recipe()
            assert json.loads(zoo.path("recipes", f"{name}.json").read_text())["description"]

    def test_imagenet_is_the_known_recipe_of_300_epochs(self):
        recipe = load("imagenet")
        assert (recipe.epochs, recipe.label_smoothing, recipe.sched, recipe.img_size) == (300, 0.1, "cosine", 224)
        assert recipe.auto_augment.startswith("rand-") and recipe.ema_decay > 0.99

    def test_what_is_no_recipe_is_named(self, tmp_path):
        with pytest.raises(UnknownNameError, match="did you mean 'imagenet'"):
            load("imagnet")
        for content in ("{", "[]", '{"schema": "gemnet.search/1"}'):
            (tmp_path / "r.json").write_text(content)
            with pytest.raises(ConfigError, match=r"r\.json"):
                load(str(tmp_path / "r.json"))
        (tmp_path / "r.json").write_text(json.dumps({"schema": recipes.SCHEMA, "epoch": 3}))
        with pytest.raises(UnknownNameError, match="did you mean 'epochs'"):
            load(str(tmp_path / "r.json"))
        with pytest.raises(ConfigError, match="cannot read recipe"):
            load(str(tmp_path / "none.json"))

    def test_reading_needs_no_torch(self):
        code = "import sys, gemnet.recipe as r; r.load('cifar-cpu'); sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestOverride:
    def test_sets_fields_of_every_type(self):
        changed = override(Recipe(), ["epochs=5", "lr = 0.2", "flip=false", "opt=lamb", "stop_epochs=0", "epochs=6"])
        expected = dataclasses.replace(Recipe(), epochs=6, lr=0.2, flip=False, opt="lamb", stop_epochs=0)
        assert changed == expected

    @pytest.mark.parametrize(
        ("change", "error", "words"),
        [
            ("epochs", ConfigError, "FIELD=VALUE"), ("=3", ConfigError, "FIELD=VALUE"),
            ("epoch=3", UnknownNameError, "did you mean 'epochs'"), ("epochs=many", ConfigError, "expected int"),
            ("epochs=2.5", ConfigError, "expected int"), ("lr=NaN", ConfigError, "finite"),
            ("flip=1", ConfigError, "expected bool"), ("epochs=0", ConfigError, "epochs must be at least 1"),
        ],
    )  # fmt: skip
    def test_refuses_what_is_no_change(self, change, error, words):
        with pytest.raises(error, match=words):
            override(Recipe(), [change])
