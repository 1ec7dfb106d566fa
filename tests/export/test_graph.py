"""The ONNX graph is the network, at every batch, and knows its contract."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mdiff_core import ContractError, UsageError
from mdiff_core.contract import NOT_TOLD
from mdiff_core.repository import onnx_file
from mdiff_export.graph import check_contract, check_parity, export_graph
from mdiff_export.parity import TOLERANCE
from mdiff_training import unet
from mdiff_training.checkpoint import Checkpoint

# The fewest nodes that take fractions and no label.
TINY_TOLD = unet.UNetConfig(
    base_channels=8, multipliers=(1,), attention=(False,), head_channels=8, norm_groups=4, fractions=1
)


@pytest.fixture(scope="module")
def plain_graph(repository: Path) -> Path:
    return onnx_file(repository, "balls16")


@pytest.fixture(scope="module")
def conditional_graph(repository: Path) -> Path:
    return onnx_file(repository, "layers16")


def session_of(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def interface(values: list[onnxruntime.NodeArg]) -> dict[str, tuple[str, list[int | str]]]:
    return {value.name: (value.type, value.shape) for value in values}


def test_inputs_and_outputs_with_only_the_batch_axis_free(plain_graph: Path):
    session = session_of(plain_graph)
    assert interface(session.get_inputs()) == {
        "x": ("tensor(float)", ["batch", 1, 16, 16]),
        "t": ("tensor(int64)", ["batch", 1]),
    }
    assert interface(session.get_outputs()) == {"eps": ("tensor(float)", ["batch", 1, 16, 16])}


def test_label_and_fractions_go_in_and_a_learned_variance_comes_out(conditional_graph: Path):
    session = session_of(conditional_graph)
    assert interface(session.get_inputs()) == {
        "x": ("tensor(float)", ["batch", 3, 16, 24]),
        "t": ("tensor(int64)", ["batch", 1]),
        "label": ("tensor(int64)", ["batch", 1]),
        "fractions": ("tensor(float)", ["batch", 2]),
    }
    image = ("tensor(float)", ["batch", 3, 16, 24])
    assert interface(session.get_outputs()) == {"eps": image, "v": image}


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_onnxruntime_computes_what_torch_computes(plain: Checkpoint, plain_graph: Path, batch: int):
    rng = np.random.default_rng(batch)
    x = rng.standard_normal((batch, 1, 16, 16), dtype=np.float32)
    t = rng.integers(0, 1000, batch)
    with torch.inference_mode():
        expected, _ = plain.denoiser()(torch.from_numpy(x), torch.from_numpy(t))
    (eps,) = session_of(plain_graph).run(["eps"], {"x": x, "t": t[:, None]})
    assert expected.std() > 0.1
    np.testing.assert_allclose(eps, expected.numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 3])
def test_onnxruntime_computes_variance_and_conditions_as_torch_does(
    conditional: Checkpoint, conditional_graph: Path, batch: int
):
    """The fractions are told in the first sample and the last, not in between."""
    rng = np.random.default_rng(batch)
    x = rng.standard_normal((batch, 3, 16, 24), dtype=np.float32)
    t = rng.integers(0, 400, batch)
    label = np.arange(batch) % 3
    fractions = np.array([[0.4, 0.1], [NOT_TOLD, NOT_TOLD], [0.0, 0.0]], dtype=np.float32)[:batch]
    with torch.inference_mode():
        eps, v = conditional.denoiser()(*(torch.from_numpy(value) for value in (x, t, label, fractions)))
    given = {"x": x, "t": t[:, None], "label": label[:, None], "fractions": fractions}
    got = session_of(conditional_graph).run(["eps", "v"], given)
    assert v is not None
    np.testing.assert_allclose(got[0], eps.numpy(), rtol=0, atol=1e-4)
    np.testing.assert_allclose(got[1], v.numpy(), rtol=0, atol=1e-4)


def test_step_and_conditions_of_a_sample_reach_that_sample_alone(conditional_graph: Path):
    x = np.random.default_rng(0).standard_normal((1, 3, 16, 24), dtype=np.float32).repeat(6, axis=0)
    t, label = np.array([[5], [390], [5], [5], [5], [5]]), np.array([[1], [1], [0], [1], [1], [1]])
    told = [(0, 0), (0, 0), (0, 0), (1, 0), (0, 1), (NOT_TOLD, NOT_TOLD)]
    given = {"x": x, "t": t, "label": label, "fractions": np.array(told, dtype=np.float32)}
    session = session_of(conditional_graph)
    first, *others = session.run(["eps"], given)[0]
    for other in others:
        assert np.abs(other - first).max() > 0.01
    (alone,) = session.run(["eps"], {name: value[:1] for name, value in given.items()})
    np.testing.assert_allclose(alone[0], first, rtol=0, atol=1e-5)


def test_fractions_without_a_label(make_checkpoint: Callable[..., Checkpoint], tmp_path: Path):
    """The network's label comes before its fractions; where there is none, the fractions stay the fractions."""
    checkpoint = make_checkpoint(TINY_TOLD, fractions=((0.2, 0.6),))
    path = tmp_path / "model.onnx"
    export_graph(checkpoint.denoiser(), checkpoint.contract, path)
    assert interface(session_of(path).get_inputs()) == {
        "x": ("tensor(float)", ["batch", 1, 16, 16]),
        "t": ("tensor(int64)", ["batch", 1]),
        "fractions": ("tensor(float)", ["batch", 1]),
    }
    assert check_parity(checkpoint.denoiser(), checkpoint.contract, path, max_batch=2).difference <= TOLERANCE
    x, t = np.zeros((2, 1, 16, 16), dtype=np.float32), np.array([[5], [5]])
    (told, untold) = session_of(path).run(
        ["eps"], {"x": x, "t": t, "fractions": np.array([[0.3], [NOT_TOLD]], dtype=np.float32)}
    )[0]
    assert np.abs(told - untold).max() > 0.01


def test_one_valid_file_without_a_path_of_its_maker(plain_graph: Path):
    assert list(plain_graph.parent.iterdir()) == [plain_graph]
    onnx.checker.check_model(plain_graph, full_check=True)
    assert str(Path(unet.__file__).parent).encode() not in plain_graph.read_bytes()


def test_an_opset_that_torch_cannot_write_is_refused(tiny: Checkpoint, tmp_path: Path):
    with pytest.raises(UsageError, match="cannot write ONNX opset 99"):
        export_graph(tiny.denoiser(), tiny.contract, tmp_path / "model.onnx", opset=99)
    assert not list(tmp_path.iterdir())


def test_parity_is_measured_over_batches_and_all_of_the_schedule(plain: Checkpoint, plain_graph: Path):
    parity = check_parity(plain.denoiser(), plain.contract, plain_graph, max_batch=5)
    assert parity.batches == (1, 2, 3, 5)
    assert parity.steps == (0, 249, 499, 749, 999)
    assert 0 < parity.difference <= TOLERANCE


def test_a_graph_of_other_weights_fails_parity(plain: Checkpoint, plain_graph: Path):
    network = plain.denoiser()
    torch.nn.init.normal_(network.network.stem.weight)
    with pytest.raises(ContractError, match=r"differ by [\d.]+ in 'eps' at batch 1"):
        check_parity(network, plain.contract, plain_graph, max_batch=2)


def test_a_network_that_gives_nan_fails_parity(plain: Checkpoint, plain_graph: Path):
    network = plain.denoiser()
    torch.nn.init.constant_(network.network.head.bias, torch.nan)
    with pytest.raises(ContractError, match="differ by nan"):
        check_parity(network, plain.contract, plain_graph, max_batch=2)


def test_a_file_that_is_no_graph_is_refused(plain: Checkpoint, tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ContractError, match="onnxruntime refuses"):
        check_parity(plain.denoiser(), plain.contract, tmp_path / "model.onnx", max_batch=2)


def test_networks_that_fit_their_contracts_pass(plain: Checkpoint, conditional: Checkpoint):
    check_contract(plain.denoiser(), plain.contract)
    check_contract(conditional.denoiser(), conditional.contract)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"channels": 3, "phases": ()}, "1 channels, not 3"),
        ({"image_size": (16, 18)}, "multiples of 4 pixels, not 16×18"),
        ({"prediction": "epsilon+variance"}, "'epsilon', not 'epsilon\\+variance'"),
        ({"classes": ("across", "along"), "null_class": 2}, "0 labels, not 3"),
        ({"classes": ("across", "along")}, "0 labels, not 2"),
        ({"fractions": ((0.2, 0.6),)}, "0 fractions as its condition, not 1"),
    ],
)
def test_a_network_that_does_not_fit_its_contract_is_refused(
    plain: Checkpoint, changes: dict[str, object], complaint: str
):
    contract = dataclasses.replace(plain.contract, references={}, **changes)
    with pytest.raises(ContractError, match=complaint):
        check_contract(plain.denoiser(), contract)
