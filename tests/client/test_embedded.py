import numpy as np
import onnx
import pytest
from onnx import helper

from mdiff_client.denoisers.embedded import EmbeddedDenoiser
from mdiff_core import CONTRACT_KEY, ContractError, DataError, PermanentError, UsageError


@pytest.fixture
def images():
    return np.random.default_rng(0).standard_normal((5, 1, 64, 64), dtype=np.float32)


def set_contract(repository, text):
    path = repository / "tiny" / "1" / "model.onnx"
    model = onnx.load(path)
    helper.set_model_props(model, {CONTRACT_KEY: text} if text else {"other": ""})
    onnx.save(model, path)


def test_it_answers_as_the_graph_does(tiny_repository, images):
    steps = np.array([0, 1, 10, 500, 999])
    eps, v = EmbeddedDenoiser(tiny_repository, "tiny").predict(images, steps)
    assert np.allclose(eps, 0.1 * images + steps[:, None, None, None] / 1000, atol=1e-6)
    assert v is None


def test_an_image_is_denoised_alike_in_any_batch(repository):
    denoiser = EmbeddedDenoiser(repository, "spheres64")
    x = np.random.default_rng(0).standard_normal((9, 1, 64, 64), dtype=np.float32)
    t = np.full(9, 400)
    together = denoiser.predict(x, t)[0]
    apart = np.concatenate([denoiser.predict(x[part], t[part])[0] for part in (slice(0, 1), slice(1, 9))])
    assert np.array_equal(together, apart)


def test_an_unknown_model_names_those_there_are(tiny_repository):
    with pytest.raises(UsageError, match="it has tiny"):
        EmbeddedDenoiser(tiny_repository, "spheres")


def test_a_truncated_onnx_file_is_damaged_data(tiny_repository):
    path = tiny_repository / "tiny" / "1" / "model.onnx"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"model\.onnx: not a readable ONNX model"):
        EmbeddedDenoiser(tiny_repository, "tiny")


@pytest.mark.parametrize(
    ("text", "complaint"), [(None, "no model contract"), ('{"version": 99}', "version 99 is unknown")]
)
def test_a_contract_that_cannot_be_used_is_refused(tiny_repository, text, complaint):
    set_contract(tiny_repository, text)
    with pytest.raises(ContractError, match=complaint):
        EmbeddedDenoiser(tiny_repository, "tiny")


def test_a_call_the_network_cannot_take_is_refused_for_good(tiny_repository, images):
    with pytest.raises(PermanentError, match="refused"):
        EmbeddedDenoiser(tiny_repository, "tiny").predict(images[..., :32], np.zeros(5, int))
