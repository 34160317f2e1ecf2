import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from killed_training import DATA, RECIPE, net, run
from safetensors.torch import load_file
from torch import nn

from gemnet import checkpoint, settings
from gemnet import fit as fitting
from gemnet.checkpoint import Checkpoints
from gemnet.errors import CheckpointError, ConfigError, TrainingError, UnknownNameError
from gemnet.evaluation import score
from gemnet.images import MemoryImages, Share
from gemnet.snapshot import Snapshot
from gemnet.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("unbroken")
    rows = []
    result = run(folder, save_every_s=600.0, on_epoch=rows.append)
    return folder, result, rows


def final(folder):
    """Everything the last checkpoint holds but clocks."""
    snapshot = Checkpoints(folder / "checkpoints").load(12)
    record = {key: value for key, value in snapshot.record.items() if key not in ("curve", "train_s")}
    curve = [{k: v for k, v in row.items() if not k.endswith("_s")} for row in snapshot.record["curve"]]
    return snapshot.tensors, record, curve


class TestResume:
    def test_ends_bit_equal_after_kill_9_at_three_points(self, tmp_path, unbroken):
        points = ["4", "23", "47"]  # in the first checkpoint, in the middle of an epoch, in the second epoch
        command = [sys.executable, str(HERE / "killed_training.py"), str(tmp_path), *points]
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), *sys.path])}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        assert done.stdout.split() == [str(int(signal.SIGKILL))] * 3, done.stderr
        reached = [Checkpoints(tmp_path / point / "checkpoints").steps() for point in points]
        assert reached[0] == [] and 2 <= reached[1][-1] < 6 < reached[2][-1] < 12
        for point in points:
            result = run(tmp_path / point, resume=True)
            assert result["val_acc"] == unbroken[1]["val_acc"] and result["test"]["top1"] == unbroken[1]["test"]["top1"]
            expected, got = final(unbroken[0]), final(tmp_path / point)
            assert got[1:] == expected[1:]
            for part, tensors in expected[0].items():
                assert tensors.keys() == got[0][part].keys()
                assert all(torch.equal(value, got[0][part][name]) for name, value in tensors.items()), part

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_saves_the_step_that_runs_and_the_second_stops_at_once(
        self, tmp_path, unbroken, monkeypatch, number, capfd, request
    ):
        ours = signal.signal(number, signal.default_int_handler)  # a job that a shell started with & ignores SIGINT
        request.addfinalizer(lambda: signal.signal(number, ours))
        step = Trainer._run_step

        def signalled(trainer, *args):
            step(trainer, *args)
            if trainer.step == 5:
                signal.raise_signal(number)

        monkeypatch.setattr(Trainer, "_run_step", signalled)
        before = signal.getsignal(number)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, save_every_s=600.0)
        assert signal.getsignal(number) == before
        assert "is finished and saved" in capfd.readouterr().err
        assert Checkpoints(tmp_path / "checkpoints").steps() == [5]
        run(tmp_path, save_every_s=600.0, resume=True)
        assert all(torch.equal(value, final(unbroken[0])[0]["ema"][name])
                   for name, value in final(tmp_path)[0]["ema"].items())  # fmt: skip

    def test_a_finished_training_is_told_not_repeated(self, unbroken):
        assert run(unbroken[0], resume=True) == unbroken[1]

    def test_refuses_a_folder_in_use_and_another_training(self, unbroken, tmp_path):
        with pytest.raises(CheckpointError, match="holds a training; go on with it by --resume"):
            run(unbroken[0])
        other = dataclasses.replace(RECIPE, lr=0.02)
        with pytest.raises(CheckpointError, match=r"recipe\.lr was 0\.01 and is now 0\.02"):
            run(unbroken[0], other, resume=True)
        (tmp_path / "train.json").write_text("{")
        with pytest.raises(CheckpointError, match="cannot be read"):
            run(tmp_path, resume=True)

    def test_a_damaged_checkpoint_is_noticed_and_an_earlier_one_serves(self, tmp_path, monkeypatch):
        step = Trainer._run_step

        def broken_off(trainer, *args):
            if trainer.step == 4:
                raise RuntimeError("power cut")
            step(trainer, *args)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_run_step", broken_off)
            with pytest.raises(RuntimeError, match="power cut"):
                run(tmp_path)
        weights = tmp_path / "checkpoints" / "step-00000004" / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"step-00000004 .*model.safetensors is damaged.*; remove it, and -"):
            run(tmp_path, resume=True)
        weights.unlink()
        with pytest.raises(CheckpointError, match="cannot be read"):
            run(tmp_path, resume=True)
        (weights.parent / "state.json").unlink()
        for file in weights.parent.iterdir():
            file.unlink()
        weights.parent.rmdir()
        assert run(tmp_path, resume=True)["epochs_run"] == 2


class TestOutcome:
    def test_says_what_was_asked_for_run_and_seen(self, unbroken):
        folder, result, rows = unbroken
        told = json.loads((folder / "train.json").read_text())
        assert told["asked"]["recipe"] == settings.to_dict(RECIPE)
        assert told["asked"]["data"]["fingerprint"] == DATA.fingerprint
        assert (told["asked"]["seed"], told["asked"]["processes"], told["asked"]["model"]) == (1, 1, {"name": "net"})
        assert torch.__version__.startswith(told["versions"]["torch"])
        assert told["hardware"]["torch_threads"] == 1
        assert told["result"] == result
        assert [dataclasses.asdict(row) for row in rows] == told["curve"]
        assert [row.step for row in rows] == [6, 12]
        assert "plotly" in (folder / "curve.html").read_text()

    def test_the_best_epochs_average_is_kept_and_scored_on_the_test_split_once(self, unbroken):
        folder, result, rows = unbroken
        best = max(rows, key=lambda row: row.val_acc)
        assert (result["epoch"], result["val_acc"]) == (best.epoch, best.val_acc)
        model = net()
        model.load_state_dict(load_file(folder / "checkpoints" / f"step-{best.step:08d}" / "ema.safetensors"))
        images = MemoryImages(DATA, RECIPE)
        for part, expected in (("val", result["val_acc"]), ("test", result["test"]["top1"])):
            batches = images.plain(part, Share(), torch.device("cpu"))
            assert score(model, batches, 10, torch.device("cpu")).top1 == expected

    def test_validates_without_the_test_split(self, unbroken, monkeypatch, tmp_path):
        seen = []
        plain = MemoryImages.plain
        noted = lambda self, part, *rest: seen.append(part) or plain(self, part, *rest)  # noqa: E731
        monkeypatch.setattr(MemoryImages, "plain", noted)
        run(tmp_path, save_every_s=600.0)
        assert seen == ["val", "val", "test"]

    def test_a_disk_that_fills_at_the_end_loses_nothing(self, tmp_path, monkeypatch, unbroken):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(fitting, "write_curve", full)
            with pytest.raises(CheckpointError, match=r"No space left on device.*; make room and --resume"):
                run(tmp_path, save_every_s=600.0)
        assert json.loads((tmp_path / "train.json").read_text())["result"] is None
        assert run(tmp_path, resume=True)["test"]["top1"] == unbroken[1]["test"]["top1"]

    def test_a_hopeless_training_ends_early(self, tmp_path):
        hopeless = dataclasses.replace(RECIPE, stop_epochs=1, lr=1e-9)
        assert run(tmp_path, hopeless, save_every_s=600.0)["epochs_run"] == 1


class TestCheckpoints:
    def snapshot(self, step):
        return Snapshot({"model": {"w": torch.full((2, 3), float(step))}}, {"step": step})

    def test_keeps_the_last_few_and_the_best(self, tmp_path):
        kept = Checkpoints(tmp_path, keep=2)
        for step in (3, 5, 8, 9):
            kept.save(self.snapshot(step), best=3)
        assert kept.steps() == [3, 8, 9]
        assert torch.equal(kept.load(8).tensors["model"]["w"], torch.full((2, 3), 8.0))
        assert kept.load(8).record["step"] == 8

    def test_a_full_disk_leaves_the_last_checkpoint_and_says_so(self, tmp_path, monkeypatch):
        kept = Checkpoints(tmp_path)
        kept.save(self.snapshot(3))
        write = checkpoint.write_synced

        def full(path, content):
            write(path, content[:5])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

        monkeypatch.setattr(checkpoint, "write_synced", full)
        with pytest.raises(CheckpointError, match=r"step 4 .*No space left on device.* step 3 is kept: make room"):
            kept.save(self.snapshot(4))
        assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]
        assert kept.load(3).record["step"] == 3

    def test_what_cannot_be_made_is_an_error(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(CheckpointError, match="there is none before it: mend that"):
            Checkpoints(tmp_path / "file").save(self.snapshot(1))


class TestBrokenLoss:
    def test_the_batch_is_saved_and_named_and_no_checkpoint_is_broken(self, tmp_path):
        class Sometimes(nn.Module):
            def __init__(self):
                super().__init__()
                self.net, self.calls = net(), 0

            def forward(self, x):
                self.calls += self.training
                if self.calls != 9:  # the first half of step 5
                    return self.net(x)
                self.seen = x.clone()
                return self.net(x) * float("nan")

        model = Sometimes()

        with pytest.raises(TrainingError, match=r"nan in epoch 1 of 2 at learning rate 0\.01; .*bad_batch-0") as caught:
            run(tmp_path, model=model)
        path = tmp_path / "bad_batch-0.safetensors"
        assert str(path) in str(caught.value)
        batch = load_file(path)
        assert torch.equal(batch["images"], model.seen) and batch["images"].shape == (24, 1, 28, 28)  # of 25, in pairs
        labels = torch.from_numpy(DATA.train.labels)[batch["numbers"]]
        mixed = (F.one_hot(labels, 10) + F.one_hot(labels.flip(0), 10)) > 0
        assert torch.equal(batch["labels"] > 0.011, mixed)  # 0.1 of the target is spread over 10 classes
        assert torch.allclose(batch["labels"].sum(1), torch.ones(24))
        steps = Checkpoints(tmp_path / "checkpoints").steps()
        assert steps == [3, 4]
        tensors = Checkpoints(tmp_path / "checkpoints").load(4).tensors["model"]
        assert all(torch.isfinite(value).all() for value in tensors.values())


class TestRefusals:
    def test_micro_batches_too_small_for_batch_norm(self, tmp_path):
        with pytest.raises(ConfigError, match="raise batch_size or lower accumulate"):
            run(tmp_path, dataclasses.replace(RECIPE, accumulate=26))

    def test_an_unknown_optimiser(self, tmp_path):
        with pytest.raises(UnknownNameError, match="did you mean 'lamb'"):
            run(tmp_path, dataclasses.replace(RECIPE, opt="lambb"))

    def test_a_model_of_other_classes(self, tmp_path):
        with pytest.raises(ConfigError, match="num_classes=10"):
            run(tmp_path, dataclasses.replace(RECIPE, mixup=0.0, cutmix=0.0), model=net(9))

    def test_half_precision_on_a_cpu(self, tmp_path):
        with pytest.raises(ConfigError, match="fp16 needs a GPU"):
            run(tmp_path, dataclasses.replace(RECIPE, precision="fp16"))
