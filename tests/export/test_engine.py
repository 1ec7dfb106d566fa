"""TensorRT engines, built by the real TensorRT for RTX, which needs no GPU to build."""

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from mdiff_core import DataError, PermanentError, UsageError
from mdiff_core.repository import bundled_repository, model_names
from mdiff_export import cli
from mdiff_export.engine import build_engine
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
