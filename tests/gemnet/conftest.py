import sys
from importlib import metadata
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # so that tests can import the modules beside them


@pytest.fixture
def one_thread():
    """A training whose weights are compared bit by bit adds in one order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def installed(monkeypatch):
    """Sets the versions that packages are installed in; None for one that is not."""

    def set_versions(**versions: str | None) -> None:
        real = metadata.version

        def version(name: str) -> str:
            found = versions[name] if name in versions else real(name)
            if found is None:
                raise metadata.PackageNotFoundError(name)
            return found

        monkeypatch.setattr(metadata, "version", version)

    return set_versions


@pytest.fixture
def nobodys_zoo(tmp_path, monkeypatch):
    """Whoever runs the tests may have weights."""
    monkeypatch.delenv("GEMNET_ZOO", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture(scope="module")
def published():
    from tiny_models import build

    return build()


@pytest.fixture
def folder(published, tmp_path):
    """The model as it is published, with a file besides those that are loaded."""
    from tiny_models import CFG

    from gemnet.manifest import describe
    from gemnet.saving import save_folder

    home = save_folder(published, tmp_path / "model", label_names=["a", "b", "c"], pretrained_cfg=CFG)
    (home / "onnx").mkdir()
    (home / "onnx" / "model.onnx").write_bytes(b"onnx")
    describe(home).write(home / "manifest.json")
    return home


@pytest.fixture
def repo(hub, folder):
    """acme/net on the Hub: v1.0.0 is the published model."""
    from tiny_models import push

    repo = hub.add_repo("acme/net")
    repo.tags["v1.0.0"] = push(repo, folder).oid
    return repo
