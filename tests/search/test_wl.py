"""The WL kernel against GraKeL, and its hashes against exact canonical keys."""

import itertools
import subprocess
import sys
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from gemnet.cell import Cell
from gemnet.errors import UnknownNameError
from gemnet.search import gram, sampling, wl
from gemnet.search.gram import owners
from gemnet.search.graphs import GraphBatch
from gemnet.search.threads import torch_threads

OPS = ("input", "sepconv3x3", "conv1x1")


def sample(n: int, seed: int = 0, nodes: tuple[int, int] = (8, 30)) -> GraphBatch:
    return sampling.sample(n, np.random.Generator(np.random.Philox(key=seed)), nodes, 4, OPS)


@pytest.mark.parametrize("h", [1, 3])
def test_plain_undirected_equals_grakel(h: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from grakel import Graph
        from grakel.kernels import VertexHistogram, WeisfeilerLehman

    batch = sample(50)
    graphs = [
        Graph({pair: 1 for i, j in cell.edges for pair in ((i, j), (j, i))}, node_labels=dict(enumerate(cell.ops)))
        for cell in batch.cells()
    ]
    kernel = WeisfeilerLehman(n_iter=h, base_graph_kernel=VertexHistogram, normalize=True)
    expected = kernel.fit_transform(graphs)
    assert np.abs(wl.gram(batch, h, directed=False, form="plain") - expected).max() < 1e-12


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("form", ["mean", "plain"])
def test_gram_pairs_cross_and_the_definition_agree(directed: bool, form: str) -> None:
    a, b = sample(12, 1), sample(12, 2)
    expected = np.array([[defined(x, y, directed, form) for y in b.cells()] for x in a.cells()])
    assert np.allclose(wl.cross(a, b, 3, directed, form), expected, atol=1e-12)
    assert np.allclose(wl.similarity(a, b, 3, directed, form), np.diag(expected), atol=1e-12)
    own = np.array([[defined(x, y, directed, form) for y in a.cells()] for x in a.cells()])
    assert np.allclose(wl.gram(a, 3, directed, form), own, atol=1e-12)


@pytest.mark.parametrize("directed", [False, True])
def test_hashed_labels_never_collided_where_the_dictionary_tells_apart(directed: bool) -> None:
    batch = sample(150)
    hashed, exact = wl.labels(batch, 3, directed), wl.exact_labels(batch, 3, directed)
    for a, b in zip(hashed, exact):
        pairs = np.unique(np.stack([a[batch.present], b[batch.present]]), axis=1).shape[1]
        assert pairs == len(np.unique(a[batch.present])) == len(np.unique(b[batch.present]))
    exact_gram = wl.gram(batch, 3, directed, exact=True)
    assert np.allclose(wl.gram(batch, 3, directed), exact_gram, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("nodes", "ops"), [(4, OPS[1:]), (5, OPS[1:]), (6, OPS[1:2])])
def test_hashes_are_equal_exactly_for_isomorphic_cells_of_an_enumerated_space(nodes: int, ops: tuple[str, ...]) -> None:
    """No two cells of these spaces are beyond what WL can tell apart."""
    cells = every_cell(nodes, ops)
    hashes = wl.graph_hash(GraphBatch.from_cells(cells, OPS)).tolist()
    keys = [cell.key for cell in cells]
    assert len(set(hashes)) == len(set(keys)) == len(set(zip(keys, hashes))) < len(cells)


def test_hashes_do_not_depend_on_padding_company_or_vocabulary() -> None:
    batch = sample(20, 3, (8, 12))
    alone = [int(wl.graph_hash(batch[b : b + 1])[0]) for b in range(len(batch))]
    assert wl.graph_hash(batch.widen(40)).tolist() == alone
    other = GraphBatch.from_cells(batch.cells(), ("input", "conv1x1", "maxpool3x3", "sepconv3x3"))
    assert wl.graph_hash(other).tolist() == alone


def test_hashes_are_the_same_in_another_process() -> None:
    code = (
        "import numpy as np; from gemnet.search import sampling, wl;"
        f"b = sampling.sample(30, np.random.Generator(np.random.Philox(key=5)), (8, 30), 4, {OPS!r});"
        "print(*wl.graph_hash(b))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [str(value) for value in wl.graph_hash(sample(30, 5))]


def test_hashes_and_similarity_do_not_see_a_relabelling(relabelled: Callable[[Cell], Cell]) -> None:
    batch = sample(40)
    other = GraphBatch.from_cells([relabelled(cell) for cell in batch.cells()], OPS)
    assert (other.adjacency != batch.adjacency).any()
    assert wl.graph_hash(other).tolist() == wl.graph_hash(batch).tolist()
    assert np.allclose(wl.similarity(batch, other), 1)


def test_unique_keeps_the_first_graph_of_each_hash() -> None:
    assert wl.unique(np.array([7, 3, 7, 1, 3], np.uint64)).tolist() == [0, 1, 3]


@pytest.mark.parametrize("form", ["mean", "plain"])
@pytest.mark.parametrize("count", [1, 2, 700])
def test_the_gram_matrix_is_that_of_scaled_features(form: str, count: int) -> None:
    """Frequent and rare labels, labels of one graph alone, more graphs than one block has rows."""
    batch = sample(count, nodes=(2, 12))
    z = wl.scaled(wl.features(batch), form)
    assert np.allclose(wl.gram(batch, form=form), (z @ z.T).toarray(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("form", ["mean", "plain"])
def test_processors_without_8_bit_products_give_the_same_bits(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = sample(300)
    expected = wl.gram(batch, form=form)
    monkeypatch.setattr("torch.cpu.get_capabilities", dict)
    assert wl.gram(batch, form=form).tobytes() == expected.tobytes()


@pytest.mark.parametrize("form", ["mean", "plain"])
def test_the_gram_matrix_has_the_same_bits_for_any_number_of_threads_and_rows(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows in several blocks, the last one short, and the rare labels' product in several parts."""
    batch = sample(230)
    with torch_threads(1):
        expected = wl.gram(batch, form=form)
    monkeypatch.setattr(gram, "ROWS", 50)
    monkeypatch.setattr(gram, "TAIL_ROWS", 100)
    for threads in (1, 2):
        with torch_threads(threads):
            assert wl.gram(batch, form=form).tobytes() == expected.tobytes()


def test_labels_that_share_a_place_of_the_table_are_numbered_apart() -> None:
    values = np.array([5, 5 + 2**40, 7, 5, 5 + 2**40, 5 + 2**41], np.uint64)
    ids = owners(values)
    assert [(ids == k).tolist() for k in ids] == [(values == value).tolist() for value in values]


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'mean'"):
        wl.gram(sample(3), form="meen")


def every_cell(n: int, inner: tuple[str, ...]) -> list[Cell]:
    """All cells of n nodes over these ops in which every node has a predecessor."""
    rows = [[preds for k in range(1, j + 1) for preds in itertools.combinations(range(j), k)] for j in range(1, n)]
    return [
        Cell(("input", *ops), tuple((i, j) for j, preds in enumerate(chosen, start=1) for i in preds))
        for chosen in itertools.product(*rows)
        for ops in itertools.product(inner, repeat=n - 1)
    ]


def defined(a: Cell, b: Cell, directed: bool, form: str, h: int = 3) -> float:
    """S_g by its definition, with nested tuples as labels."""

    def counts(cell: Cell) -> list[dict[object, int]]:
        label: list[object] = list(cell.ops)
        found = []
        for t in range(h + 1):
            if t:
                near = list(zip(cell.predecessors, cell.successors))
                sides = [(sorted(repr(label[u]) for u in a), sorted(repr(label[u]) for u in b)) for a, b in near]
                joined = [repr(s if directed else sorted(s[0] + s[1])) for s in sides]
                label = [f"{mine!r}{side}" for mine, side in zip(label, joined)]
            found.append({name: label.count(name) for name in label})
        return found

    def dot(x: dict[object, int], y: dict[object, int]) -> float:
        return sum(count * y.get(name, 0) for name, count in x.items())

    x, y = counts(a), counts(b)
    if form == "mean":
        return float(np.mean([dot(p, q) / np.sqrt(dot(p, p) * dot(q, q)) for p, q in zip(x, y)]))
    total = [sum(map(dot, p, q)) for p, q in ((x, y), (x, x), (y, y))]
    return float(total[0] / np.sqrt(total[1] * total[2]))
