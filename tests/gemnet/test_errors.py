import pickle

import pytest

from gemnet.errors import UnknownArgumentError, UnknownNameError, nearest


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("GEMNET_A", "gemnet_a"),  # the same but for case
        ("sepconv", "sepconv3x3"),  # the shortest name it begins, not `conv1x1`, which is closer in spelling
        ("demo", "demo-small"),
        ("conv1x2", "conv1x1"),
        ("zzzz", None),
        ("", None),
    ],
)
def test_the_name_that_was_meant_is_found(name, expected):
    assert nearest(name, ["gemnet_a", "gemnet_b", "sepconv3x3_wide", "sepconv3x3", "conv1x1", "demo-small"]) == expected


def test_the_error_names_it_and_survives_a_process_boundary():
    error = UnknownNameError("op", "CONV1X1", ["conv1x1", "identity"])
    assert "unknown op 'CONV1X1' (did you mean 'conv1x1'?); known: conv1x1, identity" in str(error)
    for raised in (error, UnknownArgumentError("argument", "a", ["b"])):
        again = pickle.loads(pickle.dumps(raised))
        assert (type(again), str(again)) == (type(raised), str(raised))
