"""The folder of a training: whose checkpoints they are, who may write, and what helps when a part of it is gone."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from killed_training import RECIPE, net, run
from safetensors.torch import load_file, save_file
from torch import nn

from gemnet.checkpoint import Checkpoints
from gemnet.durable import file_sha256
from gemnet.errors import CheckpointError, TrainingError
from gemnet.lock import Lock

pytestmark = pytest.mark.usefixtures("one_thread")

HERE = Path(__file__).parent
HOLD = """
import os, sys, time
from pathlib import Path
from gemnet.errors import CheckpointError
from gemnet.lock import Lock
lock = Lock(Path(sys.argv[1]) / ".lock", CheckpointError)
child = os.fork()  # as a process that reads images, which lives on for a while
if child:
    print(child, flush=True)
time.sleep(60)
"""


def save_model(model, folder):
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a finished training of two epochs, the second of which is the better one, and its result."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("finished")
    result = run(folder, save_every_s=600.0, save_model=save_model)
    assert result["epoch"] == 2
    return folder, result


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of it."""
    return shutil.copytree(finished[0], tmp_path / "copy")


def unfinish(folder, *, whole=False):
    """The folder as it was before the end; `whole` leaves train.json away, too."""
    (folder / "model.safetensors").unlink()
    told = json.loads((folder / "train.json").read_text())
    (folder / "train.json").write_text(json.dumps({**told, "result": None}))
    if whole:
        (folder / "train.json").unlink()


class TestWhose:
    def test_checkpoints_without_train_json_are_gone_on_with_by_their_own_training_alone(self, folder, finished):
        unfinish(folder, whole=True)
        with pytest.raises(CheckpointError, match="holds a training; go on with it by --resume"):
            run(folder)
        for other in (dataclasses.replace(RECIPE, epochs=1), dataclasses.replace(RECIPE, lr=0.02)):
            with pytest.raises(CheckpointError, match=r"of another model, data set, recipe, seed .*remove it"):
                run(folder, other, resume=True)
        assert not (folder / "train.json").exists()
        assert run(folder, resume=True)["val_acc"] == finished[1]["val_acc"]

    def test_another_net_of_the_same_description_is_refused(self, folder):
        unfinish(folder)
        with pytest.raises(CheckpointError, match=r"of another model \(Error.* in loading state_dict"):
            run(folder, resume=True, model=nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))

    def test_checkpoints_of_another_version_are_named(self, folder):
        unfinish(folder)
        state = folder / "checkpoints" / "step-00000012" / "state.json"
        state.write_text(json.dumps({"schema": "gemnet.checkpoint/1", "files": {}, "step": 12}))
        with pytest.raises(CheckpointError, match=r"gemnet.checkpoint/1.*another version's.* train anew"):
            run(folder, resume=True)


class TestDamage:
    @pytest.mark.parametrize("damage", [
        lambda _: "[]", lambda _: "{}", lambda text: text[:-20], lambda text: text.replace('"epoch": 2', '"epoch": 1'),
        lambda text: json.dumps({key: value for key, value in json.loads(text).items() if key != "record"}),
        lambda text: text.replace('"asked_sha256"', '"asked"'),
    ])  # fmt: skip
    def test_of_a_state_is_noticed_and_without_it_an_earlier_one_serves(self, damage, folder, finished):
        unfinish(folder)
        newest = folder / "checkpoints" / "step-00000012"
        text = (newest / "state.json").read_text()
        assert damage(text) != text
        (newest / "state.json").write_text(damage(text))
        with pytest.raises(CheckpointError, match=r"step-00000012 cannot be read .*; remove it, and --resume goes on"):
            run(folder, resume=True)
        shutil.rmtree(newest)
        assert run(folder, resume=True)["val_acc"] == finished[1]["val_acc"]


class TestMissing:
    def test_without_the_best_epochs_checkpoint_the_best_that_is_there_is_chosen(self, tmp_path):
        told, rows = [], []
        hopeless = dataclasses.replace(RECIPE, lr=1e-9, ema_decay=0.0)  # all epochs alike: the first is best
        run(tmp_path, hopeless, save_every_s=600.0, on_epoch=rows.append)
        assert rows[0].val_acc == rows[1].val_acc
        unfinished = json.loads((tmp_path / "train.json").read_text()) | {"result": None}
        (tmp_path / "train.json").write_text(json.dumps(unfinished))
        shutil.rmtree(tmp_path / "checkpoints" / "step-00000006")
        assert run(tmp_path, hopeless, resume=True, tell=told.append)["epoch"] == 2
        assert told == ["the checkpoint of epoch 1, the best, is gone: epoch 2 is chosen"]

    def test_the_model_of_a_finished_training_is_written_again(self, folder, finished):
        told = []
        again = run(folder, resume=True, save_model=save_model, tell=told.append)
        assert (again, told) == (finished[1], [])
        (folder / "model.safetensors").unlink()
        again = run(folder, resume=True, save_model=save_model, tell=told.append)
        assert told == [f"{folder} has no model.safetensors: it is written again from the checkpoints"]
        assert again["weights_sha256"] == finished[1]["weights_sha256"]
        before, after = (load_file(place / "model.safetensors") for place in (finished[0], folder))
        assert all(torch.equal(value, after[name]) for name, value in before.items())

    def test_a_damaged_model_and_one_without_its_config_are_written_again(self, tmp_path):
        told = []

        def save_both(model, place):
            save_model(model, place)
            (place / "config.json").write_text("{}")

        whole = run(str(tmp_path), save_model=save_both)
        assert whole["files"] == ["config.json", "model.safetensors"]
        for damage in ((tmp_path / "model.safetensors").write_bytes, lambda _: (tmp_path / "config.json").unlink()):
            damage(b"damaged")
            again = run(tmp_path, resume=True, save_model=save_both, tell=told.append)
            assert again["weights_sha256"] == whole["weights_sha256"] == file_sha256(tmp_path / "model.safetensors")
        assert [line.partition(":")[0].rpartition(" has ")[2] for line in told] == [
            "a damaged model.safetensors", "no config.json"
        ]  # fmt: skip
        assert (tmp_path / "config.json").exists()

    def test_neither_model_nor_checkpoints(self, folder):
        (folder / "model.safetensors").unlink()
        shutil.rmtree(folder / "checkpoints")
        with pytest.raises(CheckpointError, match=r"is over, with no model.safetensors and without checkpoints"):
            run(folder, resume=True, save_model=save_model)

    def test_a_training_whose_checkpoints_are_gone_begins_anew_and_says_so(self, folder):
        told = []
        unfinish(folder)
        shutil.rmtree(folder / "checkpoints")
        assert run(folder, resume=True, tell=told.append)["epochs_run"] == 2
        assert told == [f"{folder / 'checkpoints'} holds no checkpoint: the training begins with epoch 1"]


class TestAlone:
    def test_a_second_training_is_refused_until_the_first_is_killed(self, folder):
        unfinish(folder)
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), *sys.path])}
        command = [sys.executable, "-c", HOLD, str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as holder:
            forked = int(holder.stdout.readline())
            with pytest.raises(CheckpointError, match=f"in use by process {holder.pid} on .*; wait until it ends"):
                run(folder, resume=True)
            holder.kill()
            holder.wait()
            assert run(folder, resume=True)["epochs_run"] == 2
            os.kill(forked, 9)
        Lock(folder / ".lock", CheckpointError).release()  # as the end of a training leaves it

    def test_a_folder_that_cannot_be_made_holds_no_checkpoints(self):
        with pytest.raises(CheckpointError) as caught:
            run(Path("/proc/x"))
        assert str(caught.value) == "/proc/x cannot be written (No such file or directory)"


class TestDiverged:
    def test_outputs_that_are_no_numbers_are_never_chosen(self, tmp_path):
        class Diverged(nn.Module):
            """As the last step may leave a net: its loss was finite, what it says of new images is not."""

            def __init__(self):
                super().__init__()
                self.net = net()

            def forward(self, x):
                return self.net(x) * (1.0 if self.training else float("inf"))

        said = r"100 of 100 images are infinite or not a number after epoch 1 of 2 at .* 0\.01; lower lr .*; train anew"
        with pytest.raises(TrainingError, match=said) as caught:
            run(tmp_path, model=Diverged(), save_every_s=600.0)
        assert "bad_batch" not in str(caught.value) and not list(tmp_path.glob("bad_batch*"))  # no batch did it
        assert Checkpoints(tmp_path / "checkpoints").steps() == []
        assert json.loads((tmp_path / "train.json").read_text())["result"] is None
