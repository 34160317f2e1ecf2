"""Checkpoints of a training on disk: whole or not there, checked when read, the last few and the best kept.

    DIR/step-00001234/model.safetensors, optimizer.safetensors, ..., state.json

A checkpoint is written under another name, synced, and renamed; `state.json` holds the sha256 of every
file and of itself.
"""

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from .durable import sync_folder, write_synced
from .errors import CheckpointError
from .snapshot import Snapshot

SCHEMA = "gemnet.checkpoint/2"
FOLDER = "checkpoints"  # in that of a training
STATE = "state.json"


class Checkpoints:
    """The checkpoints in a folder.

    Args:
        folder: made when the first is saved.
        keep: how many of the latest stay.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def steps(self) -> list[int]:
        """The steps there are checkpoints of, in order."""
        return sorted(int(path.name[5:]) for path in self.folder.glob("step-*") if path.name[5:].isdigit())

    def save(self, snapshot: Snapshot, best: int | None = None) -> None:
        """Writes a checkpoint, then removes all but the last few and that of step `best`.

        Raises:
            CheckpointError: it cannot be written; those that were there before stay.
        """
        step = int(snapshot.record["step"])
        if step in self.steps():  # a step has one state
            return
        draft = self.folder / ".draft"
        try:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            self._write(draft, snapshot)
            os.replace(draft, self._path(step))
            sync_folder(self.folder)
        except OSError as error:
            raise CheckpointError(self._failed(step, error)) from None
        except (TypeError, ValueError, RuntimeError, SafetensorError) as error:  # shared tensors, values of other kinds
            raise CheckpointError(f"the checkpoint of step {step} has no form to be written in: {error}") from None
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        for old in self.steps()[: -self.keep]:
            if old != best:
                shutil.rmtree(self._path(old), ignore_errors=True)

    def load(self, step: int) -> Snapshot:
        """The snapshot of a step; raises CheckpointError when a file is missing or not as it was written."""
        path = self._path(step)
        try:
            state = _read_state(path / STATE)
            contents = {file: (path / file).read_bytes() for file in state["files"]}
            for file, content in contents.items():
                if hashlib.sha256(content).hexdigest() != state["files"][file]:
                    raise ValueError(f"{file} is damaged")
            tensors = {Path(file).stem: safetensors.torch.load(content) for file, content in contents.items()}
        except (OSError, ValueError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}); remove it, and --resume goes on without") from None
        return Snapshot(tensors, state["record"])

    def _write(self, draft: Path, snapshot: Snapshot) -> None:
        files = {}
        for part, tensors in snapshot.tensors.items():
            content = safetensors.torch.save({name: value.contiguous() for name, value in tensors.items()})
            files[f"{part}.safetensors"] = hashlib.sha256(content).hexdigest()
            write_synced(draft / f"{part}.safetensors", content)
        state = {"schema": SCHEMA, "files": files, "record": snapshot.record}
        write_synced(draft / STATE, json.dumps({**state, "sha256": _digest(state)}).encode())
        sync_folder(draft)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _failed(self, step: int, error: OSError) -> str:
        there = self.steps()
        kept = f"that of step {there[-1]} is kept" if there else "there is none before it"
        remedy = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "mend that"
        return (f"the checkpoint of step {step} cannot be written to {self.folder} ({error.strerror}); {kept}: "
                f"{remedy} and go on with --resume")  # fmt: skip


def _read_state(path: Path) -> dict[str, Any]:
    """What `state.json` holds; raises CheckpointError when another version wrote it, ValueError when it is damaged."""
    state = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(state, dict) or "schema" not in state:
        raise ValueError(f"{STATE} is damaged")
    if state["schema"] != SCHEMA:
        raise CheckpointError(f"{path} has the schema {state['schema']!r:.40}, not {SCHEMA!r}: another version's; "
                              "go on with that version, or train anew in another folder")  # fmt: skip
    if state.pop("sha256", None) != _digest(state):
        raise ValueError(f"{STATE} is damaged")
    return state


def _digest(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
