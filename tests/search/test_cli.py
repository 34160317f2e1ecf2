import json
import os
import pty
import signal
import subprocess
import sys

import pytest
from commands import call, process, trials, wait_for_trials

from gemnet.cell import Cell
from gemnet.errors import UsageError


def test_help_names_the_commands_and_loads_nothing_heavy():
    code = "import sys; import gemnet.search.cli; print({'torch', 'numpy', 'timm', 'rich'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
    with process("--help") as running:
        out, _ = running.communicate()
    assert all(command in out for command in ("run", "resume", "status", "best", "promote"))


def test_run_prints_the_winner_and_best_prints_it_again(study, tmp_path):
    found = json.loads(call("best", study, "--json").stdout)
    assert found["finished"] is True
    assert found["arch_key"] == Cell.from_dict(found["arch"]).key
    options = ("--preset", tmp_path / "preset.json", "--workers", "1", "--seed", "3", "--json")
    again = call("run", tmp_path / "again", *options)
    assert json.loads(again.stdout)["trial"] == found["trial"]
    text = call("best", study)
    assert text.stdout.startswith(f"cell {found['arch_key'][:12]}: val_acc {100 * found['metrics']['val_acc']:.2f} %, ")
    assert text.stderr == ""
    file = tmp_path / "cell.json"
    call("best", study, "--cell", file)
    assert Cell.load(file).key == found["arch_key"]
    assert Cell.load(file) == Cell.load(file).normal_form()


def test_status_counts_trials(study):
    found = json.loads(call("status", study, "--json").stdout)
    assert found["phases"] == [{"name": "measured", "asked": 12, "done": 12, "failed": 0, "infra": 0}]
    assert (found["state"], found["seed"], found["strategy"], found["process"]) == ("finished", 3, "random", None)
    text = call("status", study).stdout
    assert "finished, strategy random, seed 3" in text
    assert "measured: 12 of 12 measured" in text


def test_promote_writes_a_cell_with_its_provenance(study, tmp_path):
    result = call("promote", study, "my_cell", "--zoo", tmp_path / "zoo", "--provisional")
    file = tmp_path / "zoo" / "cells" / "my_cell.json"
    assert (result.exit_code, result.stdout) == (0, f"{file}\n")
    data = json.loads(file.read_text())
    found = json.loads(call("best", study, "--json").stdout)
    assert Cell.load(file) == Cell.load(file).normal_form()
    assert Cell.load(file).key == found["arch_key"]
    assert (data["name"], data["provisional"]) == ("my_cell", True)
    source = data["provenance"]
    assert (source["seed"], source["trial"], source["metrics"]) == (3, found["trial"], found["metrics"])
    assert source["settings"]["strategy"] == {"name": "random", "samples": 12}
    taken = call("promote", study, "my_cell", "--zoo", tmp_path / "zoo", "--rank", "2")
    assert (taken.exit_code, "exists; give another name, or --force" in taken.stderr) == (2, True)
    assert call("promote", study, "my_cell", "--zoo", tmp_path / "zoo", "--rank", "2", "--force").exit_code == 0
    assert Cell.load(file).key != found["arch_key"]


def test_promote_writes_to_the_checkout_or_else_to_the_users_zoo(tmp_path, monkeypatch):
    from gemnet import zoo
    from gemnet.promotion import default_zoo

    monkeypatch.delenv("GEMNET_ZOO", raising=False)
    assert default_zoo() == zoo.PACKAGE
    monkeypatch.setattr(zoo, "PACKAGE", tmp_path / "site-packages" / "gemnet" / "zoo")
    monkeypatch.setenv("GEMNET_ZOO", str(tmp_path / "mine"))
    assert default_zoo() == tmp_path / "mine"
    monkeypatch.delenv("GEMNET_ZOO")
    assert default_zoo() == zoo.user_folder()
    monkeypatch.setenv("GEMNET_ZOO", "~nobody-is-called-so/zoo")
    with pytest.raises(UsageError, match="there is no home of ~nobody-is-called-so; set it to a folder"):
        default_zoo()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("run", "NEW", "--preset", "demmo"), 2, "unknown preset 'demmo' (did you mean 'demo'?)"),
        (("run", "NEW", "--preset", "PRESET", "--set", "strategy.smples=3"), 2, "unknown field of strategy 'smples'"),
        (("run", "NEW", "--preset", "PRESET", "--set", "samples"), 2, "--set expects SECTION.NAME=VALUE"),
        (("run", "NEW", "--data", "cifar11", "--workers", "0"), 2, "unknown data set 'cifar11' (did you mean 'cifar10"),
        (("run", "STUDY", "--preset", "PRESET"), 2, "holds a study already; go on with"),
        (("run", "HERE", "--preset", "PRESET"), 2, "is not empty"),
        (("resume", "HERE"), 2, "is no study: it has no study.json"),
        (("resume", "NEW"), 2, "does not exist"),
        (("resume", "STUDY", "--set", "strategy.samples=13"), 2, "strategy.samples was 12, is 13"),
        (("resume", "STUDY", "--seed", "4"), 2, "seed was 3, is 4"),
        (("resume", "STUDY", "--data", "cifar10"), 2, 'data.name was "fashion-mini", is "cifar10"'),
        (("resume", "STUDY", "--preset", "PRESET", "--set", "objective.lam=0"), 2, "objective.lam was 0.1, is 0"),
        (("status", "HERE"), 2, "is no study"),
        (("best", "NEW"), 2, "does not exist"),
        (("promote", "HERE", "x"), 2, "is no study"),
        (("promote", "STUDY", "My-Cell"), 2, "a cell's name is lower-case letters"),
        (("promote", "STUDY", "x", "--rank", "99", "--zoo", "NEW"), 2, "there is no rank 99"),
        (("run", "NEW", "--workers", "-1"), 2, "Invalid value for '--workers'"),
        (("run", "NEW", "--workers", "many"), 2, "expected a number or 'ray', got 'many'"),
        (("run", "NEW", "--workers", "5000"), 2, "--workers: expected 0 to 1024, got 5000"),
        (("run", "NEW", "--workers", "ray", "--devices", "0"), 2, "Ray deals out its own GPUs"),
        (("run", "NEW", "--workers", "2", "--devices", "0,1"), 2, "--set evaluator.device=cuda; it is cpu"),
        (("run", "NEW", "--workers", "ray", "--cpus", "0"), 2, "expected more than 0 processors"),
        (("resume", "NEW", "--from", "PRESET"), 2, "is no file that 'gemnet-search export"),
        (("runn", "NEW"), 2, "No such command 'runn'"),
    ],
)
def test_bad_input_is_one_clear_line(study, preset, tmp_path, arguments, code, message):
    places = {"NEW": tmp_path / "new", "HERE": tmp_path, "STUDY": study, "PRESET": preset}
    result = call(*(places.get(argument, argument) for argument in arguments))
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.output
    assert [line.startswith("Error: ") for line in result.stderr.splitlines()][-1]
    assert not (tmp_path / "new").exists(), "a refused search leaves no directory"


def test_resume_with_the_same_options_is_accepted(study, preset):
    same = ("--preset", preset, "--data", "fashion-mini", "--seed", "3", "--set", "strategy.samples=12")
    before = trials(study)
    result = call("resume", study, *same, "--workers", "0")
    assert result.exit_code == 0, result.output
    assert trials(study) == before


def test_a_killed_run_is_resumed(study, preset, tmp_path):
    slow = ("--preset", preset, "--seed", "3", "--set", "evaluator.duration_s=0.2")
    directory = tmp_path / "killed"
    with process("run", directory, *slow, "--workers", "2", start_new_session=True) as running:
        wait_for_trials(directory, 4)
        state = json.loads(call("status", directory, "--json").stdout)
        assert (state["state"], state["process"]["pid"]) == ("running", running.pid)
        second = call("resume", directory)
        assert (second.exit_code, second.stdout) == (2, "")
        assert f"in use by process {running.pid} on" in second.stderr
        os.killpg(running.pid, signal.SIGKILL)
    finished = trials(directory)
    stopped = call("status", directory)
    assert "stopped" in stopped.stdout
    assert "best so far" in stopped.stdout
    assert "this is the best of" in call("best", directory).stderr
    early = call("promote", directory, "x", "--zoo", tmp_path / "zoo")
    assert (early.exit_code, "is stopped, not finished; go on with" in early.stderr) == (2, True)
    with process("resume", directory, "--workers", "1", "--json") as running:
        out, err = running.communicate()
    assert err == ""
    assert json.loads(out)["trial"] == json.loads(call("best", study, "--json").stdout)["trial"]
    assert finished < trials(directory)


def test_progress_is_shown_on_a_terminal_unless_quiet(preset, tmp_path):
    shown = []
    for options in ((), ("--quiet",)):
        ours, theirs = pty.openpty()
        directory = tmp_path / f"study{len(options)}"
        env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)) + os.pathsep + os.getcwd()}
        command = [sys.executable, "-m", "gemnet.search.cli", "run", str(directory), "--preset", preset, *options]
        command += ["--workers", "0"]
        subprocess.run(command, env=env | {"TERM": "xterm"}, stdout=subprocess.DEVNULL, stderr=theirs, check=True)
        os.close(theirs)
        text = b""
        try:
            while chunk := os.read(ours, 65536):
                text += chunk
        except OSError:
            pass  # Linux ends a terminal so
        os.close(ours)
        shown.append(text)
    assert b"measured" in shown[0]
    assert b"12/12" in shown[0]
    assert shown[1] == b""
