"""TensorRT engines, built by the real TensorRT for RTX, which needs no GPU to build."""

import json
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from mdiff_core import ContractError, DataError, PermanentError, UsageError
from mdiff_core.repository import bundled_repository, model_names, onnx_file
from mdiff_export import cli, engine_parity
from mdiff_export.engine import build_engine
from mdiff_export.gpu import gpu_is_present
from mdiff_export.graph import export_graph
from mdiff_export.parity import FLOAT16_TOLERANCE, on_cpu
from mdiff_export.precision import to_float16
from mdiff_export.wire import profile
from mdiff_training.checkpoint import Checkpoint


@pytest.fixture
def trt():
    return pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed: no engine can be built")


def build(*arguments: object) -> None:
    cli.app(["tensorrt", *(str(argument) for argument in arguments)], standalone_mode=False)


def test_the_profile_runs_from_one_to_the_largest_batch_and_is_best_for_a_volumes_slices():
    assert profile(256) == {"min": 1, "opt": 64, "max": 256}
    assert profile(8) == {"min": 1, "opt": 8, "max": 8}


def test_an_engine_beside_its_graph_with_a_config_that_serves_it(trt, repository: Path, tmp_path: Path):
    build(repository, tmp_path / "engines", "--model", "balls16", "--max-batch", 8)
    folder = tmp_path / "engines" / "balls16"
    assert sorted(path.name for path in (folder / "1").iterdir()) == ["engine.json", "model.onnx", "model.plan"]
    config = text_format.Parse((folder / "config.pbtxt").read_text(), ModelConfig())
    (instances,) = config.instance_group
    assert (config.backend, config.max_batch_size) == ("tensorrt", 8)
    assert instances.kind == instances.KIND_GPU
    half = onnx.load(folder / "1" / "model.onnx")
    assert any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in half.graph.initializer)
    assert [entry.name for entry in repository.joinpath("balls16", "1").iterdir()] == ["model.onnx"]


def test_an_engine_of_the_same_graph_is_kept_and_of_other_options_built_anew(
    trt, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = (repository, tmp_path / "engines", "--model", "balls16", "--max-batch", 4)
    build(*arguments)
    capsys.readouterr()
    build(*arguments)
    assert capsys.readouterr().out.endswith("balls16: kept\n")
    assert sorted(path.name for path in (tmp_path / "engines" / "balls16").glob("[0-9]*")) == ["1"]
    build(*arguments, "--precision", "float32", "--timing-cache", tmp_path / "timing")
    assert sorted(path.name for path in (tmp_path / "engines" / "balls16").glob("[0-9]*")) == ["1", "2"]
    stamp = json.loads((tmp_path / "engines" / "balls16" / "2" / "engine.json").read_text())
    assert (stamp["float16"], stamp["max_batch"]) == (False, 4)
    assert stamp["tensorrt"] == f"tensorrt_rtx {trt.__version__}"


def test_a_checkpoint_exported_for_tensorrt_has_its_engine(trt, tiny: Checkpoint, tmp_path: Path):
    tiny.save(tmp_path / "balls16.safetensors")
    arguments = [str(tmp_path / "balls16.safetensors"), str(tmp_path / "models")]
    options = ["--backend=tensorrt", "--precision=float16", "--wire=float16", "--max-batch=4"]
    cli.app(["repository", *arguments, *options], standalone_mode=False)
    assert sorted(path.name for path in (tmp_path / "models/balls16/1").iterdir()) == ["model.onnx", "model.plan"]


@pytest.mark.skipif(gpu_is_present(), reason="a GPU is present")
def test_where_no_gpu_is_present_the_output_says_that_nothing_was_compared(
    trt, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    build(repository, tmp_path / "engines", "--model", "balls16", "--max-batch", 2)
    assert capsys.readouterr().out == (
        f"{tmp_path / 'engines' / 'balls16' / '1'}: built, not compared with onnxruntime: no GPU is present\n"
    )


@pytest.mark.skipif(not gpu_is_present(), reason="no GPU is present")
@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_on_a_gpu_the_engine_answers_as_onnxruntime(
    trt, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], precision: str
):
    build(repository, tmp_path / "engines", "--model", "balls16", "--max-batch", 8, "--precision", precision)
    assert re.search(
        rf": built, differs from onnxruntime by at most [\d.e-]+ \({precision}\)\n$", capsys.readouterr().out
    )


def test_an_engine_that_computes_something_else_is_refused_and_leaves_nothing(
    trt, repository: Path, tmp_path: Path, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
):
    """In place of the engine on a GPU, which is not at hand, onnxruntime answers with other weights."""
    other = tmp_path / "other.onnx"
    export_graph(tiny.denoiser(), tiny.contract, other)
    monkeypatch.setattr(engine_parity, "gpu_is_present", lambda: True)
    monkeypatch.setattr(engine_parity, "on_gpu", lambda plan, contract: on_cpu(other, contract))
    with pytest.raises(ContractError, match=r"balls16: TensorRT and onnxruntime differ by [\d.]+ in 'eps' at batch 1"):
        build(repository, tmp_path / "engines", "--model", "balls16", "--max-batch", 4)
    assert [path.name for path in tmp_path.iterdir()] == ["other.onnx"]


@pytest.mark.parametrize("max_batch", [1, 2, 8])
def test_an_engine_is_asked_at_1_2_3_and_its_largest_batch_and_never_beyond(
    repository: Path, plain: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_batch: int
):
    """The graph in half precision stands for its engine: it differs, and within the tolerance."""
    graph, half = onnx_file(repository, "balls16"), tmp_path / "half.onnx"
    onnx.save(to_float16(onnx.load(graph), wire=False), half)
    monkeypatch.setattr(engine_parity, "gpu_is_present", lambda: True)
    monkeypatch.setattr(engine_parity, "on_gpu", lambda plan, contract: on_cpu(half, contract))
    parity = engine_parity.check_engine(half, graph, plain.contract, max_batch, float16=True)
    assert parity.batches == tuple(sorted({1, 2, 3, 8} & {*range(1, max_batch + 1)}))
    assert 0 < parity.difference <= FLOAT16_TOLERANCE


def test_a_graph_in_half_precision_is_not_called_single(trt, tiny: Checkpoint, tmp_path: Path):
    tiny.save(tmp_path / "balls16.safetensors")
    options = ["--precision=float16", "--max-batch=2"]
    cli.app(
        ["repository", str(tmp_path / "balls16.safetensors"), str(tmp_path / "models"), *options], standalone_mode=False
    )
    with pytest.raises(UsageError, match="computes in float16"):
        build(tmp_path / "models", tmp_path / "engines", "--precision", "float32")


def test_a_graph_that_tensorrt_cannot_read_leaves_nothing(trt, plain: Checkpoint, tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(DataError, match=r"model\.onnx: TensorRT .* cannot read it"):
        build_engine(tmp_path / "model.onnx", plain.contract, tmp_path / "model.plan", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_what_tensorrt_cannot_build_here_is_told_and_leaves_nothing(trt, repository: Path, tmp_path: Path):
    """The wheel for RTX has no runtime for other versions."""
    with pytest.raises(PermanentError, match=r"cannot build balls16 here .*lean"):
        build(repository, tmp_path / "engines", "--model", "balls16", "--version-compatible")
    assert list(tmp_path.iterdir()) == []


def test_without_tensorrt_the_command_says_so(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match="TensorRT is not installed"):
        build(repository, tmp_path / "engines")
    assert not (tmp_path / "engines").exists()


def test_engines_are_built_without_torch():
    code = "import mdiff_export.engine_model, sys; sys.exit('torch was loaded' if 'torch' in sys.modules else 0)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", model_names(bundled_repository()))
def test_every_bundled_model_has_an_engine_from_1_to_256(trt, name: str, tmp_path: Path):
    build(bundled_repository(), tmp_path / "engines", "--model", name)
    plan = tmp_path / "engines" / name / "1" / "model.plan"
    assert plan.stat().st_size > 1e6
