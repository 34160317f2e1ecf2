"""Similarities with known graphs against the kernel's definition in search/wl.py."""

import numpy as np
import pytest

from gemnet.errors import UnknownNameError
from gemnet.search import wl
from gemnet.search.graphs import GraphBatch
from gemnet.search.similar import SimilarTo
from gemnet.search.spaces.cells import CellSpace

SPACE = CellSpace(min_nodes=3, max_nodes=14)


def sample(n: int, seed: int) -> GraphBatch:
    return SPACE.sample_batch(n, np.random.Generator(np.random.Philox(key=seed)))


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("form", ["mean", "plain"])
def test_they_are_those_of_the_kernel(directed: bool, form: str) -> None:
    some, known = sample(80, 1), sample(30, 2)
    expected = wl.cross(some, known, 2, directed, form)
    assert np.allclose(SimilarTo(known, 2, directed, form)(some), expected, rtol=0, atol=1e-14)
    assert np.allclose(SimilarTo(known, 2, directed, form)(known).diagonal(), 1, rtol=0, atol=1e-14)


def test_they_do_not_depend_on_company() -> None:
    some, similar = sample(40, 1), SimilarTo(sample(30, 2))
    alone = np.concatenate([similar(some[b : b + 1]) for b in range(len(some))])
    assert alone.tobytes() == similar(some).tobytes()
    assert similar(some[:0]).shape == (0, 30)


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'mean'"):
        SimilarTo(sample(3, 1), form="men")
