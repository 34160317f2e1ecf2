"""The label network without torch against the encoder it is made from."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from gemnet.search.embedding import Encoder, train_encoder
from gemnet.search.learning import EncoderSettings
from gemnet.search.readout import Readout, light
from gemnet.search.spaces.cells import CellSpace

SPACE = CellSpace(min_nodes=4, max_nodes=9, max_in_degree=3)


def encoder(form: str) -> Encoder:
    small = {"dim": 8, "decoder_width": 16, "buckets": 64, "axes": 2, "warm_start": 64, "width": 8}
    return train_encoder(SPACE, EncoderSettings(form, steps=3, batch_size=16, **small), 0)


def test_it_embeds_as_the_encoder_does() -> None:
    heavy = encoder("wl")
    graphs = SPACE.sample_batch(50, np.random.Generator(np.random.Philox(key=1)))
    there = pickle.loads(pickle.dumps(light(heavy)))
    assert np.allclose(there.embed(graphs), heavy.embed(graphs), rtol=0, atol=1e-6)
    assert there.embed(graphs).tobytes() == light(heavy).embed(graphs).tobytes()
    assert light(heavy) is light(heavy) and light(there) is there


@pytest.mark.parametrize("form", ["graph", "mlp"])
def test_other_encoders_stay_as_they_are(form: str) -> None:
    heavy = encoder(form)
    assert light(heavy) is heavy
    assert not isinstance(heavy, Readout)


def test_what_predicts_and_judges_needs_no_torch() -> None:
    names = "bootstrap, crew, limits, predictor, readout, spaces.cells, evaluators.proxy"
    code = f"import sys, gemnet; [__import__('gemnet.search.' + name) for name in {names.split(', ')}]; "
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
