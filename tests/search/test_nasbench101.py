"""NAS-Bench-101's space against hashes and counts of the published data."""

from itertools import product

import numpy as np
import pytest

from gemnet.cell import Cell
from gemnet.errors import CellError, ConfigError
from gemnet.search import wl
from gemnet.search.spaces.nasbench101 import OPS, NASBench101, Spec

SPACE = NASBench101()
CONV3, CONV1, POOL = OPS

# hashes, matrices and ops of rows of EC-NAS, which took its hashes from NAS-Bench-101's own code
PUBLISHED = [
    ("001a6fcc8b38cbc515be788a86bdc804", ["0110", "0010", "0001", "0000"], [POOL, POOL]),
    ("fcc1e77f36eb12f3fbecee43a084cd65", ["0111", "0011", "0001", "0000"], [POOL, CONV3]),
    ("01c8bb2810e1803f200957721e1c1b4a", ["01001", "00101", "00011", "00001", "00000"], [CONV1, CONV1, CONV3]),
    ("7c63f058e45726f0e292be1f009e9ae3", ["01010", "00110", "00010", "00001", "00000"], [CONV3, CONV3, CONV3]),
    ("f50f9ba3776d5711cfd291624b0b11cc", ["01010", "00101", "00001", "00001", "00000"], [CONV3, CONV1, CONV3]),
]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=0))


def spec(rows: list[str], ops: list[str]) -> Spec:
    return Spec.parse([[int(bit) for bit in row] for row in rows], ["input", *ops, "output"])


@pytest.mark.parametrize(("key", "rows", "ops"), PUBLISHED)
def test_the_key_is_the_benchmarks_own_hash(key: str, rows: list[str], ops: list[str]) -> None:
    assert spec(rows, ops).key == key


@pytest.mark.parametrize(("vertices", "count"), [(2, 1), (3, 7), (4, 91)])
def test_small_spaces_have_the_published_sizes(vertices: int, count: int) -> None:
    space, keys, graphs = NASBench101(vertices), set(), set()
    for code in product(*(range(len(field.choices)) for field in space.fields)):
        try:
            arch = space.decode(code)
        except CellError:
            continue
        keys.add(arch.key)
        graphs.add(arch.pruned.key)
    assert len(keys) == len(graphs) == count


def test_dangling_vertices_do_not_count_but_are_kept() -> None:
    arch = spec(["01001", "00101", "00000", "00001", "00000"], [CONV3, CONV1, POOL])
    assert arch.pruned == Cell(("input", CONV3, "output"), ((0, 1), (0, 2), (1, 2)), True)
    assert len(arch.cell.ops) == 5
    assert arch.key == spec(["011", "001", "000"], [CONV3]).key
    grown = {near.pruned.ops for near in NASBench101(5).neighbours(arch)}
    assert ("input", CONV3, CONV1, "output") in grown


def test_edges_are_counted_after_pruning() -> None:
    full = [[int(i < j) for j in range(5)] for i in range(5)]
    arch = Spec.parse(full, ["input", CONV3, CONV3, CONV3, "output"])
    assert not NASBench101(5).contains(arch)
    assert NASBench101(5, edges=10).contains(arch)


def test_relabelling_keeps_the_key() -> None:
    a = spec(["01100", "00011", "00001", "00001", "00000"], [CONV3, CONV1, POOL])
    b = spec(["01100", "00001", "00011", "00001", "00000"], [CONV1, CONV3, POOL])
    assert a.cell != b.cell
    assert a.key == b.key


def test_draws_mutations_and_neighbours_stay_inside(rng: np.random.Generator) -> None:
    for arch in SPACE.sample(10, rng):
        near = SPACE.neighbours(arch)
        assert all(map(SPACE.contains, [arch, SPACE.mutate(arch, rng), *near]))
        assert len({other.key for other in near} | {arch.key}) == len(near) + 1
    assert wl.graph_hash(SPACE.mutate_batch(SPACE.sample_batch(20, rng), rng)).shape == (20,)


def test_graphs_are_told_apart_as_the_keys_are(rng: np.random.Generator) -> None:
    archs = SPACE.sample(400, rng)
    hashes = wl.graph_hash(SPACE.batch(archs))
    assert len(set(hashes.tolist())) == len({arch.key for arch in archs}) < 400


def test_fields_and_dictionaries_lead_back(rng: np.random.Generator) -> None:
    for arch in SPACE.sample(10, rng):
        assert SPACE.decode(SPACE.encode(arch)) == SPACE.arch(arch.to_dict()) == arch
    small = spec(["01", "00"], [])
    assert SPACE.decode(SPACE.encode(small)).key == small.key


def test_what_is_no_cell_is_refused() -> None:
    with pytest.raises(CellError, match="path from its input"):
        spec(["010", "000", "000"], [CONV3])
    with pytest.raises(CellError, match="ops of conv3x3"):
        spec(["010", "001", "000"], ["sepconv3x3"])
    with pytest.raises(CellError, match="3 x 3 matrix"):
        spec(["01", "00"], [CONV3])
    with pytest.raises(CellError, match="schema"):
        SPACE.arch({"ops": ["input", "output"]})
    with pytest.raises(CellError, match="no path"):
        SPACE.decode([0] * len(SPACE.fields))
    with pytest.raises(ConfigError, match="21 entries"):
        SPACE.decode([0])
    with pytest.raises(ConfigError, match="2 to 7 vertices"):
        NASBench101(8)
