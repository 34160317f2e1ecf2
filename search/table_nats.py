"""Reader of NATS-Bench's topology files, through the authors' own package `nats_bench`."""

from pathlib import Path
from typing import Any

import numpy as np

from gemnet.errors import DataError, UnknownNameError

from .spaces.nasbench201 import NASBench201, Topology
from .table import Table, refuse_unknown

DATASETS = ("cifar10", "cifar100", "ImageNet16-120")


def read_nats(path: Path, options: dict[str, str]) -> Table:
    """The table of one data set after one number of epochs, all seeds averaged.

    Args:
        path: the folder `NATS-tss-v1_0-3ffb9-simple`, or the pickle file of all results.
        options: `dataset` (`cifar10`, `cifar100` or `ImageNet16-120`) and `hp` (epochs, 200 by default).

    Raises:
        DataError: `nats_bench` is not installed, or cannot read the files.
        UnknownNameError: an unknown option or data set.
    """
    refuse_unknown(options, ("dataset", "hp"))
    dataset = options.get("dataset", "cifar10")
    if dataset not in DATASETS:
        raise UnknownNameError("data set of NATS-Bench", dataset, DATASETS)
    try:
        from nats_bench import create  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise DataError("reading NATS-Bench's files needs its own package: pip install nats_bench") from None
    try:
        api = create(str(path), "tss", fast_mode=path.is_dir(), verbose=False)
        archs = [Topology.parse(text) for text in api.meta_archs]
        rows = [_row(api, number, dataset, options.get("hp", "200")) for number in range(len(archs))]
    except (AttributeError, KeyError, ValueError, AssertionError) as error:
        raise DataError(f"nats_bench cannot read {path}: {error!r:.120}") from None
    names = ("val_acc", "test_acc", "params", "macs")
    metrics = {name: np.array(column, np.float64) for name, column in zip(names, zip(*rows))}
    keys, graphs = [arch.key for arch in archs], NASBench201().batch(archs)
    return Table(f"{path} ({dataset})", NASBench201(), archs, keys, graphs, metrics)


def _row(api: Any, number: int, dataset: str, hp: str) -> tuple[float, float, float, float]:
    """Accuracies in [0, 1], parameters and MACs; the package gives percent and millions."""
    splits = "cifar10-valid" if dataset == "cifar10" else dataset  # CIFAR-10 alone keeps its split under another name
    valid = api.get_more_info(number, splits, hp=hp, is_random=False)["valid-accuracy"]
    test = api.get_more_info(number, dataset, hp=hp, is_random=False)["test-accuracy"]
    cost = api.get_cost_info(number, dataset, hp=hp)
    return valid / 100, test / 100, cost["params"] * 1e6, cost["flops"] * 1e6
