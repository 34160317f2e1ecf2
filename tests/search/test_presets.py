import json

import pytest

from gemnet.errors import ConfigError, UnknownNameError
from gemnet.search import presets
from gemnet.search.compose import EVALUATORS, SPACES, STRATEGIES, compose

SYNTHETIC = {
    "data": {"name": "fashion-mini"},
    "space": {"name": "cells", "max_nodes": 10},
    "evaluator": {"name": "synthetic", "duration_s": 0.5},
    "strategy": {"name": "random", "samples": 20},
}


def test_the_presets_that_are_promised_exist():
    assert {"demo", "cifar10-small", "full"} <= set(presets.names())


def test_an_unknown_preset_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown preset 'dmo' .did you mean 'demo'"):
        presets.load("dmo")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot read preset"),
        ("[]", "a preset is a JSON object with schema"),
        ('{"schema": "gemnet.search/2"}', "with schema 'gemnet.search/1'"),
        ('{"schema": "gemnet.search/1", "stratgy": {}}', "unknown section .* did you mean 'strategy'"),
        ('{"schema": "gemnet.search/1", "strategy": 3}', "section 'strategy' is a JSON object, got 3"),
        ('{"schema": "gemnet.search/1", "data": {"name": "x"}}', "section 'space' with a 'name' is missing"),
    ],
)
def test_a_file_that_is_no_preset_is_refused(tmp_path, content, message):
    file = tmp_path / "mine.json"
    file.write_text(content)
    with pytest.raises((ConfigError, UnknownNameError), match=message.replace(" did", ".*did")):
        presets.load(str(file))


def test_a_preset_can_be_a_file(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"schema": presets.SCHEMA, "description": "mine"} | SYNTHETIC))
    assert presets.load(str(file)) == SYNTHETIC


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        ("strategy.samples=24", ("strategy", "samples"), 24),
        ("evaluator.recipe.epochs = 3", ("evaluator", "recipe", "epochs"), 3),
        ("objective.max_macs=none", ("objective", "max_macs"), None),
        ('space.ops=["conv1x1"]', ("space", "ops"), ["conv1x1"]),
        ("data.name=npz:a=b.npz", ("data", "name"), "npz:a=b.npz"),
        ("objective.lam=1e999", ("objective", "lam"), "1e999"),
        ("objective.lam=NaN", ("objective", "lam"), "NaN"),
    ],
)
def test_changes_set_one_value(change, path, value):
    changed = presets.override(SYNTHETIC, [change])
    for part in path:
        changed = changed[part]
    assert changed == value
    assert SYNTHETIC["strategy"]["samples"] == 20, "the preset itself stays as it is"


@pytest.mark.parametrize("change", ["strategy.samples", "samples=3", "=3", ".samples=3", "strategy.=3", ""])
def test_a_change_of_another_form_is_refused(change):
    with pytest.raises(ConfigError, match=r"--set expects SECTION.NAME=VALUE, such as strategy.samples=24; got"):
        presets.override(SYNTHETIC, [change])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stratgy.samples=3", "unknown section 'stratgy' .did you mean 'strategy'"),
        ("strategy.smples=3", "unknown field of strategy 'smples' .did you mean 'samples'"),
        ("strategy.samples=many", "strategy.samples: expected int, got 'many'"),
        ("strategy.samples=2.5", "strategy.samples: expected int, got 2.5"),
        ("strategy.samples.a=2", "'samples' is a single value"),
        ("strategy.samples=0", "strategy.samples: expected 1 or more, got 0"),
        ("objective.lam=inf", "objective.lam: expected float, got 'inf'"),
        ("strategy.name=nasgm", "unknown strategy 'nasgm' .did you mean 'nasgem'"),
        ("space.name=cell", "unknown space 'cell' .did you mean 'cells'"),
        ("evaluator.name=3", "evaluator.name: expected one of proxy, synthetic, table, got 3"),
        ("evaluator.data=cifar10", "evaluator.data is not set here but by data.name"),
        ("study.max_failed_share=2", "study.max_failed_share: expected 0 to 1, got 2.0"),
        ("data.nme=x", "unknown field of data 'nme'"),
    ],
)
def test_a_bad_value_is_named(change, message):
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        compose(presets.override(SYNTHETIC, [change]))


def test_another_name_takes_the_other_fields_away():
    changed = presets.override(SYNTHETIC, ["evaluator.noise=0.5", "evaluator.name=proxy", "strategy.name=random"])
    assert changed["evaluator"] == {"name": "proxy", "noise": 0.5}
    assert changed["strategy"] == {"name": "random", "samples": 20}


def test_composed_settings_name_every_default_and_compose_to_themselves():
    parts = compose(SYNTHETIC)
    assert parts.settings["space"] == {"name": "cells"} | parts.space.to_dict()
    assert parts.settings["evaluator"] == {"name": "synthetic", "duration_s": 0.5, "noise": 0.01}
    assert parts.settings["objective"]["lam"] == 0.1
    assert parts.settings["study"]["retries"] == 2
    assert parts.evaluator.data == "fashion-mini"
    again = compose(json.loads(json.dumps(parts.settings)))
    assert again.settings == parts.settings
    assert again.evaluator.fingerprint == parts.evaluator.fingerprint
    assert again.space.fingerprint == parts.space.fingerprint


def test_paths_of_data_sets_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert presets.data_name("npz:a.npz") == f"npz:{tmp_path}/a.npz"
    assert presets.data_name("folder:b@64") == f"folder:{tmp_path}/b@64"
    assert presets.data_name("cifar10") == "cifar10"


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch-geometric
def test_tables_name_classes_that_exist():
    import importlib

    for table in (SPACES, EVALUATORS, STRATEGIES):
        for place in table.values():
            module, _, name = place.partition(":")
            assert hasattr(importlib.import_module(module), name), place


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch-geometric
@pytest.mark.parametrize("name", ["demo", "cifar10-small", "full"])
def test_presets_compose(name):
    parts = compose(presets.load(name))
    assert parts.strategy.name == "nasgem"
    assert parts.settings["strategy"]["samples"] >= 12
