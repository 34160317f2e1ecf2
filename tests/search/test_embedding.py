"""The encoder: what its networks see, what training reaches, and that files are checked."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gemnet.cell import Cell
from gemnet.errors import ConfigError, UsageError
from gemnet.search import wl
from gemnet.search.autoencoder import draw, pair_similarities, reconstruction, similarity_loss, targets, tensors
from gemnet.search.embedding import SETTINGS, WEIGHTS, Encoder, train_encoder
from gemnet.search.encoder_report import report
from gemnet.search.learning import EncoderSettings
from gemnet.search.sketch import basis, matrix, sketch, table_size
from gemnet.search.spaces.cells import CellSpace
from gemnet.search.spaces.nasbench201 import NASBench201
from gemnet.search.waves import Waves

SPACE = CellSpace(min_nodes=4, max_nodes=10, max_in_degree=3)
TINY = EncoderSettings(
    width=16, dim=16, decoder_width=32, buckets=256, axes=1, waves=64, warm_start=256,
    steps=3, batch_size=32, held_out=64, block=50,
)  # fmt: skip
FORMS = ("wl", "graph", "mlp")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


@pytest.fixture(scope="module", params=FORMS)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return train_encoder(SPACE, replace(TINY, form=request.param), seed=1)


def test_embeddings_do_not_depend_on_blocks_or_company(encoder: Encoder) -> None:
    graphs = SPACE.sample_batch(130, rng())
    whole = encoder.embed(graphs)
    assert whole.shape == (130, 16) and whole.dtype == np.float32
    assert np.allclose(encoder.embed(graphs[60:70]), whole[60:70], atol=1e-5)
    smaller = graphs[graphs.sizes < 8]
    assert np.allclose(encoder.embed(smaller.widen(8)), whole[graphs.sizes < 8], atol=1e-5)


@pytest.mark.parametrize("form", ["wl", "graph"])
def test_graph_encoders_do_not_see_a_relabelling(form: str, relabelled: Callable[[Cell], Cell]) -> None:
    encoder = train_encoder(SPACE, replace(TINY, form=form), seed=1)
    cells = SPACE.sample(40, rng())
    other = [relabelled(cell) for cell in cells]
    assert any(a != b for a, b in zip(cells, other))
    assert np.allclose(encoder.embed(SPACE.batch(cells)), encoder.embed(SPACE.batch(other)), atol=1e-5)


def test_the_graph_network_tells_directions_apart() -> None:
    encoder = train_encoder(SPACE, replace(TINY, form="graph"), seed=1)
    conv, sep = "conv1x1", "sepconv3x3"
    edges = ((0, 1), (1, 2), (2, 3))
    one, two = Cell(("input", conv, sep, sep), edges), Cell(("input", sep, sep, conv), edges)
    a, b = encoder.embed(SPACE.batch([one, two]))
    assert np.abs(a - b).max() > 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_a_short_training_follows_the_similarity(form: str) -> None:
    losses: list[float] = []
    settings = replace(TINY, form=form, steps=60 if form == "graph" else 120, lr=4e-3, batch_size=64, held_out=256)
    encoder = train_encoder(SPACE, settings, 0, lambda step, loss: losses.append(loss))
    after, before = report(encoder, SPACE, 0), report(train_encoder(SPACE, replace(settings, steps=1), 0), SPACE, 0)
    left = 0.95 if form == "graph" else 0.8  # the graph network has fewer steps
    assert len(losses) == settings.steps and np.mean(losses[-10:]) < left * np.mean(losses[:10])
    gain = 0.02  # all forms start from principal axes, not from noise
    assert after.spearman_random + after.spearman_edited > before.spearman_random + before.spearman_edited + gain
    assert after.op_accuracy > before.op_accuracy + gain


@pytest.mark.parametrize("directed", [False, True])
def test_waves_estimate_the_first_rounds_of_the_similarity(directed: bool) -> None:
    graphs = SPACE.sample_batch(100, rng())
    rounds = [wl.scaled([phi]) for phi in wl.features(graphs, 1, directed)]
    expected = np.mean([(z @ z.T).toarray() for z in rounds], 0)
    few, many = (Waves(len(graphs.ops), count, 8, directed).vectors(*tensors(graphs)).numpy() for count in (64, 4096))
    assert np.abs(many @ many.T / 2 - expected).max() < 0.06 < np.abs(few @ few.T / 2 - expected).max()


def test_waves_keep_the_similarity_before_anything_is_trained() -> None:
    """The graph network and the MLP hold rounds 0 and 1 from the start; without waves they begin with noise."""
    for form in ("graph", "mlp"):
        settings = replace(TINY, form=form, dim=64, waves=512, steps=1, lr=1e-9, held_out=256)
        with_waves, without = (
            report(train_encoder(SPACE, replace(settings, waves=waves), 0), SPACE, 0) for waves in (settings.waves, 0)
        )
        assert with_waves.spearman_random > 0.97 and with_waves.spearman_edited > 0.93
        assert without.spearman_random < 0.9


def test_calibrated_loss_is_free_in_scale_and_plain_loss_is_the_definition() -> None:
    g = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    unit = torch.nn.functional.normalize(g, dim=1)
    random, edited = unit[:20] @ unit[:20].T, (unit[:20] * unit[20:]).sum(1)
    assert similarity_loss(g, random, edited, calibrate=False) < 1e-10
    assert similarity_loss(g, random * 0.1 + 0.3, edited * 0.1 + 0.3) < 1e-8
    assert similarity_loss(g, -random, -edited) > 0.9  # anti-correlation is no fit: all variance stays
    by_hand = ((random - 1) * (1 - torch.eye(20))).square().sum() / (20 * 19) / 2 + (edited - 1).square().mean() / 2
    assert torch.isclose(similarity_loss(g, torch.ones(20, 20), torch.ones(20), calibrate=False), by_hand)


def test_targets_are_the_graphs_and_perfect_logits_have_no_loss() -> None:
    graphs = SPACE.sample_batch(6, rng())
    model = train_encoder(SPACE, TINY, 0).model
    codes, edges, valid = targets(graphs, model.decoder.pairs)
    assert int(edges.sum()) == sum(len(cell.edges) for cell in graphs.cells())
    assert valid.sum(1).tolist() == [n * (n - 1) // 2 for n in graphs.sizes]
    perfect = torch.nn.functional.one_hot(codes, len(SPACE.vocabulary) + 1) * 100.0, edges * 200 - 100
    model.decoder.forward = lambda g: perfect  # type: ignore[method-assign]
    assert float(reconstruction(model, torch.zeros(6, 16), graphs)) < 1e-6


def test_drawn_pairs_are_graphs_and_their_edits() -> None:
    graphs = draw(SPACE, 50, rng())
    near, far = pair_similarities(graphs, TINY)
    edited = np.asarray(near.multiply(far).sum(1)).reshape(-1)
    apart = np.asarray(near[:25].multiply(near[25:]).sum(1)).reshape(-1)
    assert edited.mean() > apart.mean() + 0.1


def test_a_saved_encoder_embeds_the_same(encoder: Encoder, tmp_path: Path) -> None:
    encoder.save(tmp_path)
    graphs = SPACE.sample_batch(20, rng())
    assert Encoder.load(tmp_path, SPACE).embed(graphs).tobytes() == encoder.embed(graphs).tobytes()


def test_an_encoder_of_another_space_is_refused(tmp_path: Path) -> None:
    encoder = train_encoder(SPACE, TINY, 0)
    encoder.save(tmp_path)
    with pytest.raises(ConfigError, match=r"another space \(10 nodes, ops sepconv3x3, conv1x1.*\(30 nodes"):
        Encoder.load(tmp_path, CellSpace())
    with pytest.raises(ConfigError, match="embeds graphs of the ops sepconv3x3, conv1x1, got conv1x1"):
        encoder.embed(CellSpace(ops=("conv1x1",)).sample_batch(2, rng()))
    with pytest.raises(ConfigError, match="does not fit into 10"):
        encoder.embed(CellSpace(min_nodes=12).sample_batch(2, rng()))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no encoder"):
        Encoder.load(tmp_path)
    train_encoder(SPACE, TINY, 0).save(tmp_path)
    data = json.loads((tmp_path / SETTINGS).read_text())
    (tmp_path / SETTINGS).write_text(json.dumps(data | {"schema": "gemnet.encoder/0"}))
    with pytest.raises(ConfigError, match="schema"):
        Encoder.load(tmp_path)
    (tmp_path / SETTINGS).write_text(json.dumps(data))
    (tmp_path / WEIGHTS).write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="weights"):
        Encoder.load(tmp_path)


def test_training_is_the_same_in_another_process_and_leaves_global_randomness_alone() -> None:
    state = torch.random.get_rng_state()
    here = train_encoder(SPACE, TINY, 3).embed(SPACE.sample_batch(3, rng()))
    assert torch.equal(state, torch.random.get_rng_state())
    code = f"""
import numpy as np, torch
from gemnet.search.learning import EncoderSettings
from gemnet.search.embedding import train_encoder
from gemnet.search.sketch import basis, matrix, sketch, table_size
from gemnet.search.spaces.cells import CellSpace
from gemnet.search.spaces.nasbench201 import NASBench201
torch.set_num_threads({torch.get_num_threads()})
graphs = {SPACE!r}.sample_batch(3, np.random.Generator(np.random.Philox(key=0)))
print(train_encoder({SPACE!r}, {TINY!r}, 3).embed(graphs).tobytes().hex())
"""
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == here.tobytes().hex()


def test_torch_geometric_is_imported_for_the_graph_network_only() -> None:
    code = """
import sys
import gemnet.search.embedding, gemnet.search.predictor
from gemnet.search.encoders import build_encoder
from gemnet.search.learning import EncoderSettings
for form in ("wl", "mlp", "graph"):
    build_encoder(EncoderSettings(form), 3, 4)
    assert ("torch_geometric" in sys.modules) == (form == "graph"), form
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.parametrize(
    "wrong", [{"form": "cnn"}, {"similarity": "sum"}, {"waves": -1}, {"steps": 0}, {"batch_size": 2}, {"lr": 0.0}]
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        EncoderSettings(**wrong)  # type: ignore[arg-type]


def test_sketches_estimate_the_similarity_without_bias() -> None:
    graphs = SPACE.sample_batch(60, rng())
    z = matrix(*sketch(graphs, 3, True, 1 << 16), table_size(len(graphs.ops), 3, 1 << 16))
    assert np.abs((z @ z.T).toarray() - wl.gram(graphs, 3, True)).mean() < 1e-3  # a wide table: hardly a collision
    narrow = matrix(*sketch(graphs, 3, True, 64), table_size(len(graphs.ops), 3, 64))
    error = (narrow @ narrow.T).toarray() - wl.gram(graphs, 3, True)
    assert abs(error[np.triu_indices(60, 1)].mean()) < 0.02


def test_a_basis_is_principal_axes_and_directions_at_right_angles() -> None:
    graphs = SPACE.sample_batch(400, rng())
    z = matrix(*sketch(graphs, 2, True, 64), table_size(len(graphs.ops), 2, 64))
    made = basis(z, 8, rng())
    assert np.allclose(made[:, :8].T @ made[:, :8], np.eye(8), atol=1e-5)
    kept, most = np.linalg.norm(z @ made[:, :8]), np.linalg.norm(np.linalg.svd(z.toarray())[1][:8])
    assert 0.999 * most < kept < 1.001 * most
    assert np.abs(made[:, :8].T @ made[:, 8:]).max() < 1e-4


def test_an_encoder_of_a_space_with_outputs_embeds_those_graphs_only(tmp_path: Path) -> None:
    space = NASBench201()
    encoder = train_encoder(space, TINY, 0)
    encoder.save(tmp_path)
    graphs = space.sample_batch(20, rng())
    assert (Encoder.load(tmp_path, space).embed(graphs) == encoder.embed(graphs)).all()
    with pytest.raises(ConfigError, match="an explicit output; train one"):
        train_encoder(SPACE, TINY, 0).embed(graphs)


def test_an_encoder_that_diverges_is_no_encoder():
    from gemnet.errors import TrainingError

    with pytest.raises(TrainingError, match=r"the encoder's loss became (nan|inf) at step"):
        train_encoder(CellSpace(max_nodes=10), EncoderSettings(steps=8, lr=1e30, warm_start=64, batch_size=16), 0)
