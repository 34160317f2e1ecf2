"""Tables: what readers take from files, what they refuse, and what the evaluator says of an architecture."""

import csv
import gzip
import json
import pickle
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from gemnet.cell import Cell
from gemnet.errors import CellError, DataError, UnknownNameError
from gemnet.search import wl
from gemnet.search.evaluators.table import TableEvaluator
from gemnet.search.spaces.listed import TableSpace
from gemnet.search.spaces.nasbench201 import Topology
from gemnet.search.table import absolute, load_table

BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
# one function: the second and third listing lose their dead branches
CHAIN = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|nor_conv_1x1~1|none~2|"
DEAD_END = "|nor_conv_3x3~0|+|avg_pool_3x3~0|none~1|+|none~0|nor_conv_1x1~1|none~2|"
LATE = "|none~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|nor_conv_1x1~2|"
NASBENCH201 = [
    {"arch_str": BEST, "iso_id": 0, "cifar10_test_acc_200ep": 94.37, "params": 1_073_466, "macs": 153_272_960},
    {"arch_str": CHAIN, "iso_id": 1, "cifar10_test_acc_200ep": 90, "params": 300_000, "macs": 40_000_000},
    {"arch_str": DEAD_END, "iso_id": 2, "cifar10_test_acc_200ep": 91, "params": 300_000, "macs": 42_000_000},
    {"arch_str": LATE, "iso_id": 3, "cifar10_test_acc_200ep": 92, "params": 300_000, "macs": 40_000_000},
]
ECNAS = [
    {"adjacency": "[[0,1],[0,0]]", "ops": "[-1,-2]", "params": 5, "valid_acc": 0.5, "test_acc": 0.4},
    {"adjacency": "[[0,1,0],[0,0,1],[0,0,0]]", "ops": "[-1,0,-2]", "params": 7, "valid_acc": 0.7, "test_acc": 0.6},
    {"adjacency": "[[0,1],[0,0]]", "ops": "[-1,-2]", "params": 5, "valid_acc": 0.6, "test_acc": 0.5},
]


@pytest.fixture
def write(tmp_path):
    def write(rows, name="table.csv"):
        path = tmp_path / name
        with gzip.open(path, "wt") if name.endswith(".gz") else path.open("w") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
def test_rows_of_one_function_share_their_mean(name, write):
    text = f"nasbench201:{write(NASBENCH201, name)}"
    evaluator = TableEvaluator(text)
    for arch in (CHAIN, DEAD_END, LATE):
        metrics = evaluator.evaluate(Topology.parse(arch), 0)
        assert metrics["val_acc"] == metrics["test_acc"] == pytest.approx(0.91)
        assert metrics["params"] == 300_000
    assert evaluator.evaluate(Topology.parse(BEST), 0)["val_acc"] == pytest.approx(0.9437) == evaluator.best()
    assert TableSpace(text).structures == 2


def test_the_fingerprint_is_of_the_rows_and_travels(write, tmp_path):
    first = TableEvaluator(f"nasbench201:{write(NASBENCH201)}")
    copy = TableEvaluator(f"nasbench201:{write(NASBENCH201, 'copy.csv')}")
    other = TableEvaluator(f"nasbench201:{write(NASBENCH201[:3], 'other.csv')}")
    assert first.fingerprint == copy.fingerprint == pickle.loads(pickle.dumps(first)).fingerprint
    assert first.fingerprint != other.fingerprint
    assert len(pickle.dumps(first)) < 1000


def test_an_architecture_the_table_has_not_is_refused(write):
    evaluator = TableEvaluator(f"nasbench201:{write(NASBENCH201)}")
    with pytest.raises(DataError, match="is not among the 4 architectures of"):
        evaluator.evaluate(Topology(("none",) * 6), 0)


def test_a_tables_space_proposes_what_the_table_has(write):
    space = TableSpace(f"nasbench201:{write(NASBENCH201)}")
    rng = np.random.Generator(np.random.Philox(key=0))
    chain = Topology.parse(CHAIN)
    assert [arch.key for arch in space.neighbours(chain)] == [DEAD_END]
    assert space.mutate(chain, rng).key == DEAD_END
    assert {space.structure(arch) for arch in space.sample(10, rng)} == {space.structure(Topology.parse(key))
                                                                         for key in (BEST, CHAIN)}  # fmt: skip
    assert space.contains(chain) and not space.contains(Topology(("none",) * 6))
    alone = {space.mutate(Topology.parse(BEST), rng).key for _ in range(20)}  # no neighbour of it is in the table
    assert alone <= {BEST, CHAIN, DEAD_END, LATE} and len(alone) > 1


def test_one_graph_stands_for_a_function(write):
    space = TableSpace(f"nasbench201:{write(NASBENCH201)}")
    rng = np.random.Generator(np.random.Philox(key=0))
    hashes = wl.graph_hash(space.batch([Topology.parse(key) for key in (CHAIN, DEAD_END, LATE, BEST)]))
    assert len(set(hashes.tolist())) == 2
    assert set(wl.graph_hash(space.sample_batch(2, rng)).tolist()) == set(hashes.tolist())
    assert space.sample_batch(5, rng).codes.shape == (5, 8)
    found = space.arch(space.batch([Topology.parse(LATE)]).cell(0).to_dict())
    assert space.structure(found) == space.structure(Topology.parse(CHAIN))
    assert space.mutate_batch(space.sample_batch(8, rng), rng).output is space.sample_batch(1, rng).output
    with pytest.raises(CellError, match="no architecture of this graph"):
        space.arch(Topology(("none",) * 6).cell.to_dict())


def test_ecnas_repeats_are_averaged(write):
    table = load_table(f"ecnas:{write(ECNAS)}")
    assert table.metrics["val_acc"].tolist() == pytest.approx([0.55, 0.7])
    assert table.metrics["test_acc"].tolist() == pytest.approx([0.45, 0.6])
    assert table.keys == [arch.key for arch in table.archs]


def test_cells_of_ones_own_make_a_table(write):
    cells = [Cell(("input", "conv1x1", op), ((0, 1), (1, 2))) for op in ("conv1x1", "sepconv3x3")]
    rows = [{"cell": json.dumps(cell.to_dict()), "acc": 40 + 10 * k} for k, cell in enumerate(cells)]
    text = f"csv:{write(rows)}?arch=cell&val_acc=acc&scale=0.01"
    assert TableEvaluator(text).evaluate(cells[1], 0) == {"val_acc": pytest.approx(0.5)}
    assert [near.key for near in TableSpace(text).neighbours(cells[0])] == [cells[1].key]


def test_cells_with_an_output_belong_to_nasbench101(write):
    cell = Cell(("input", "maxpool3x3", "output"), ((0, 1), (1, 2)), output=True)
    table = load_table(f"csv:{write([{'arch': json.dumps(cell.to_dict()), 'val_acc': 0.5}])}")
    assert table.archs[0].pruned == cell


@pytest.mark.parametrize(("change", "message"), [
    ({"cifar10_test_acc_200ep": "high"}, r"table.csv, line 2: cifar10_test_acc_200ep is a number, got 'high'"),
    ({"cifar10_test_acc_200ep": "nan"}, "is nan; for percent, add scale=0.01"),
    ({"cifar10_test_acc_200ep": 101}, "is 1.01; for percent, add scale=0.01"),
    ({"arch_str": "|conv~0|"}, "line 2: an arch string looks like"),
    ({"arch_str": "{"}, "line 2: Expecting property name"),
    ({"arch_str": CHAIN}, "lists .* twice"),
    ({"arch_str": json.dumps(Cell(("input", "a"), ((0, 1),)).to_dict())}, "mixes arch strings and cells"),
])  # fmt: skip
def test_a_bad_row_is_named(change, message, write):
    rows = [NASBENCH201[0] | change, *NASBENCH201[1:]]
    with pytest.raises(DataError, match=message) as error:
        load_table(f"nasbench201:{write(rows)}")
    assert "\n" not in str(error.value)


def test_a_bad_table_is_named(write, tmp_path):
    path = write(NASBENCH201)
    with pytest.raises(DataError, match="no column 'cell', only arch_str, iso_id"):
        load_table(f"csv:{path}?arch=cell")
    with pytest.raises(UnknownNameError, match=r"unknown option of this table 'arhc' \(did you mean 'arch'"):
        load_table(f"csv:{path}?arhc=cell")
    with pytest.raises(DataError, match="there is no"):
        load_table(f"nasbench201:{tmp_path / 'missing.csv'}")
    with pytest.raises(UnknownNameError, match="did you mean 'nasbench201'"):
        load_table("nasbench20:x")
    with pytest.raises(DataError, match="KIND:FILE"):
        absolute("csv")
    for scale in ("nan", "0", "-1", "inf"):
        with pytest.raises(DataError, match="scale is a number above 0"):
            load_table(f"nasbench201:{path}?scale={scale}")
    with pytest.raises(DataError, match=r"no column 'acc', only .*; name it with \?val_acc=COLUMN"):
        load_table(f"csv:{path}?arch=arch_str&val_acc=acc")
    deep = write([NASBENCH201[0] | {"arch_str": "[" * 100_000}], "deep.csv")
    with pytest.raises(DataError, match=r"deep\.csv, line 2: "):
        load_table(f"nasbench201:{deep}")
    other = write(NASBENCH201, "other.csv")
    with pytest.raises(DataError, match=r"^[^:]*other\.csv, line 2: there is no column 'ops', only [^;]*$"):
        load_table(f"ecnas:{other}")
    (tmp_path / "empty.csv").write_text("arch_str\n")
    with pytest.raises(DataError, match="has no rows"):
        load_table(f"nasbench201:{tmp_path / 'empty.csv'}")
    (tmp_path / "not.csv.gz").write_bytes(b"text")
    with pytest.raises(DataError, match="no CSV file"):
        load_table(f"csv:{tmp_path / 'not.csv.gz'}")
    broken = write([ECNAS[0] | {"ops": "[-1,9]"}], "broken.csv")
    with pytest.raises(DataError, match=r"broken\.csv, line 2: adjacency and ops describe no cell"):
        load_table(f"ecnas:{broken}")


def test_parquet_goes_through_pandas(write, tmp_path, monkeypatch):
    (tmp_path / "t.parquet").write_bytes(b"")
    pandas = ModuleType("pandas")
    pandas.read_parquet = lambda path: SimpleNamespace(to_dict=lambda kind: [{"arch": BEST, "val_acc": 0.9}])
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    assert load_table(f"parquet:{tmp_path / 't.parquet'}").metrics["val_acc"].tolist() == [0.9]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(DataError, match="pip install pandas pyarrow"):
        load_table(f"parquet:{tmp_path / 't.parquet'}?scale=1")


class FakeNats:
    """Answers as `nats_bench`'s topology API does: percent, and millions."""

    meta_archs = (BEST, CHAIN)

    def get_more_info(self, index, dataset, hp, is_random):
        assert hp == "200" and is_random is False
        split = {"cifar10-valid": "valid-accuracy", "cifar10": "test-accuracy"}[dataset]
        return {split: 90.0 + index + (dataset == "cifar10")}

    def get_cost_info(self, index, dataset, hp):
        return {"params": 1.5, "flops": 20.0, "latency": 0.1}


def test_nats_bench_is_asked_through_its_own_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nats_bench", None)
    with pytest.raises(DataError, match="pip install nats_bench"):
        load_table(f"nats:{tmp_path}")
    package = ModuleType("nats_bench")
    package.create = lambda path, space, fast_mode, verbose: FakeNats()
    monkeypatch.setitem(sys.modules, "nats_bench", package)
    metrics = TableEvaluator(f"nats:{tmp_path}").evaluate(Topology.parse(CHAIN), 0)
    assert metrics == {"val_acc": 0.91, "test_acc": 0.92, "params": 1.5e6, "macs": 20e6}
    with pytest.raises(UnknownNameError, match="cifar100"):
        load_table(f"nats:{tmp_path}?dataset=cifar1000")
