"""Half precision: what computes in it, what does not, and how far the answers are from those of single precision."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from mdiff_core import ModelContract, UsageError
from mdiff_core.repository import bundled_repository, model_names, onnx_file
from mdiff_export import cli
from mdiff_export.parity import FLOAT16_TOLERANCE, TOLERANCE
from mdiff_export.precision import to_float16
from mdiff_export.wire import random_batch
from mdiff_training.checkpoint import Checkpoint

FLOAT, HALF, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64


def types(model: onnx.ModelProto) -> dict[str, int]:
    """Type of every tensor of a graph by name."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    return {tensor.name: tensor.data_type for tensor in inferred.initializer} | {
        value.name: value.type.tensor_type.elem_type for value in values
    }


def interface(model: onnx.ModelProto) -> dict[str, int]:
    return {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}


@pytest.fixture(scope="module")
def half(conditional: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of ``conditional``, exported in float16 with float32 or float16 on the wire."""
    folder = tmp_path_factory.mktemp("half")
    conditional.save(folder / "layers16.safetensors")
    made: dict[str, Path] = {}

    def export(wire: str) -> Path:
        if wire not in made:
            options = ["--precision=float16", f"--wire={wire}", "--max-batch=2"]
            cli.app(
                ["repository", str(folder / "layers16.safetensors"), str(folder / wire), *options],
                standalone_mode=False,
            )
            made[wire] = folder / wire / "layers16"
        return made[wire]

    return export


@pytest.mark.parametrize(("wire", "image"), [("float32", FLOAT), ("float16", HALF)])
def test_the_wire_is_what_the_contract_says(half: Callable[[str], Path], wire: str, image: int):
    model = onnx.load(half(wire) / "1" / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert interface(model) == {"x": image, "t": INT64, "label": INT64, "fractions": FLOAT, "eps": image, "v": image}
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert ModelContract.from_json(told["mdiff_contract"]).io_dtype == wire
    assert "(float16, batches of" in (half(wire) / "README.md").read_text()


@pytest.mark.parametrize("wire", ["float32", "float16"])
def test_products_are_of_half_precision_and_norms_and_softmax_of_single(half: Callable[[str], Path], wire: str):
    model = onnx.load(half(wire) / "1" / "model.onnx")
    of = types(model)
    computed = {(node.op_type, of[node.output[0]]) for node in model.graph.node}
    assert {kind for op, kind in computed if op in ("Conv", "Gemm", "MatMul")} == {HALF}
    assert {kind for op, kind in computed if op in ("InstanceNormalization", "Softmax")} == {FLOAT}


def test_the_angles_of_the_steps_never_pass_through_half_precision(half: Callable[[str], Path]):
    """They go to thousands, and half precision has no number between 2048 and 2050."""
    model = onnx.load(half("float32") / "1" / "model.onnx")
    of, made_by = types(model), {name: node for node in model.graph.node for name in node.output}
    (angles,) = {node.input[0] for node in model.graph.node if node.op_type in ("Sin", "Cos")}
    while angles in made_by:
        assert of[angles] in (FLOAT, INT64)
        angles = made_by[angles].input[0]
    assert angles == "t"


def test_the_noise_is_made_of_the_velocity_in_single_precision(half: Callable[[str], Path]):
    """From the image as it came to the noise as it goes: its rounding is 157 times as large in the image at σ = 157."""
    model = onnx.load(half("float32") / "1" / "model.onnx")
    of, made_by = types(model), {name: node for node in model.graph.node for name in node.output}
    tail, reached, front = [], set(), ["eps"]
    while front:
        node = made_by.get(front.pop())
        if node is None or node.op_type not in ("Add", "Mul", "Gather", "GatherND"):
            continue
        tail.append(node)
        reached |= set(node.input)
        front += node.input
    assert [node.op_type for node in tail].count("Mul") == 2
    assert "x" in reached
    assert {of[name] for node in tail for name in (*node.input, *node.output)} <= {FLOAT, INT64}


def test_no_cast_is_left_that_nothing_reads_or_that_undoes_another(half: Callable[[str], Path]):
    for wire in ("float32", "float16"):
        model = onnx.load(half(wire) / "1" / "model.onnx")
        read = {name for node in model.graph.node for name in node.input} | {o.name for o in model.graph.output}
        casts = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Cast"}
        of = types(model)
        assert casts.keys() <= read
        assert not [
            name for name, source in casts.items() if source in casts and of[casts[source]] == of[name] == FLOAT
        ]


def test_the_embedded_engine_and_the_config_take_half_precision_on_the_wire(half: Callable[[str], Path]):
    from mdiff_client.denoisers.embedded import EmbeddedDenoiser

    folder = half("float16")
    denoiser = EmbeddedDenoiser(folder.parent, "layers16")
    x = np.random.default_rng(0).standard_normal((3, 3, 16, 24), dtype=np.float32)
    told = np.full((3, 2), 0.3, np.float32)
    eps, v = denoiser.predict(x, np.array([0, 5, 399]), np.array([0, 1, 2]), told)
    assert v is not None
    assert (eps.dtype, v.dtype, eps.shape) == (np.float32, np.float32, x.shape)
    assert (folder / "config.pbtxt").read_text().count("TYPE_FP16") == 5  # x, eps, v and x of two warm-ups


def test_float16_on_the_wire_of_a_network_in_float32_is_refused(tiny: Checkpoint, tmp_path: Path):
    tiny.save(tmp_path / "balls16.safetensors")
    arguments = ["repository", str(tmp_path / "balls16.safetensors"), str(tmp_path / "models"), "--wire=float16"]
    with pytest.raises(UsageError, match="ask for --precision float16"):
        cli.app(arguments, standalone_mode=False)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("name", model_names(bundled_repository()))
def test_a_bundled_model_in_half_precision_says_what_it_says_in_single(name: str, tmp_path: Path):
    path = onnx_file(bundled_repository(), name)
    model = onnx.load(path)
    contract = ModelContract.from_json({e.key: e.value for e in model.metadata_props}["mdiff_contract"])
    onnx.save(to_float16(model, wire=False), tmp_path / "half.onnx")
    batch = random_batch(contract, np.array([0, 250, 500, 750, 999]), np.random.default_rng(0))
    wide, narrow = (
        onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(["eps"], batch)[0]
        for file in (path, tmp_path / "half.onnx")
    )
    assert TOLERANCE < np.abs(wide - narrow).max() < FLOAT16_TOLERANCE
