"""``mdiff-export``: a model in a repository, whole or not at all."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from mdiff_core import CONTRACT_KEY, ContractError, DataError, ModelContract
from mdiff_core.repository import model_names, onnx_file
from mdiff_export import cli
from mdiff_export.versions import new_version
from mdiff_training.checkpoint import Checkpoint

MakeCheckpoint = Callable[..., Checkpoint]


def export(*arguments: object) -> None:
    cli.app(["repository", *(str(argument) for argument in arguments)], standalone_mode=False)


def saved(checkpoint: Checkpoint, folder: Path) -> Path:
    path = folder / "checkpoint.safetensors"
    checkpoint.save(path)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def parsed(config: Path) -> ModelConfig:
    return text_format.Parse(config.read_text(encoding="utf-8"), ModelConfig())


def unequal(checkpoint: Checkpoint) -> Checkpoint:
    """The same network with outputs so large that float32 rounds them by more than parity allows."""
    tensors = {key: value * 1e6 if key.startswith("ema.head.") else value for key, value in checkpoint.tensors.items()}
    return dataclasses.replace(checkpoint, tensors=tensors)


def test_the_repository_holds_the_models_and_nothing_lies_beside_it(repository: Path):
    assert sorted(contents(repository)) == [
        f"{name}/{file}" for name in ("balls16", "layers16") for file in ("1/model.onnx", "README.md", "config.pbtxt")
    ]
    assert sorted(path.name for path in repository.parent.iterdir()) == [
        "balls16.safetensors",
        "layers16.safetensors",
        "repository",
    ]
    assert model_names(repository) == ["balls16", "layers16"]


def test_the_opset_is_the_one_asked_for(repository: Path):
    opsets = [onnx.load(onnx_file(repository, name)).opset_import[0].version for name in ("balls16", "layers16")]
    assert opsets == [18, 20]


@pytest.mark.parametrize("name", ["balls16", "layers16"])
def test_the_config_agrees_with_the_graph(repository: Path, name: str):
    config = parsed(repository / name / "config.pbtxt")
    graph = onnx.load(onnx_file(repository, name)).graph
    types = {onnx.TensorProto.FLOAT: "TYPE_FP32", onnx.TensorProto.INT64: "TYPE_INT64"}

    def of_graph(values: list[onnx.ValueInfoProto]) -> list[tuple[str, str, list[int]]]:
        tensors = [(value.name, value.type.tensor_type) for value in values]
        return [(n, types[t.elem_type], [dim.dim_value for dim in t.shape.dim[1:]]) for n, t in tensors]

    def of_config(tensors: list) -> list[tuple[str, str, list[int]]]:
        kinds = ModelConfig.DESCRIPTOR.fields_by_name["input"].message_type.fields_by_name["data_type"].enum_type
        return [(t.name, kinds.values_by_number[t.data_type].name, list(t.dims)) for t in tensors]

    assert of_config(config.input) == of_graph(graph.input)
    assert of_config(config.output) == of_graph(graph.output)
    assert (config.name, config.backend) == (name, "onnxruntime")


def test_the_server_batches_with_a_bounded_queue_and_warms_up_at_both_ends(repository: Path):
    config = parsed(repository / "balls16" / "config.pbtxt")
    assert config.max_batch_size == 8
    assert config.HasField("dynamic_batching")
    assert not config.dynamic_batching.preferred_batch_size
    assert config.dynamic_batching.default_queue_policy.max_queue_size > 0
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 8]
    for warmup in config.model_warmup:
        assert {name: list(tensor.dims) for name, tensor in warmup.inputs.items()} == {"x": [1, 16, 16], "t": [1]}
        assert all(tensor.zero_data for tensor in warmup.inputs.values())
    alone = parsed(repository / "layers16" / "config.pbtxt")
    assert [(warmup.batch_size, sorted(warmup.inputs)) for warmup in alone.model_warmup] == [
        (1, ["fractions", "label", "t", "x"])
    ]
    assert list(alone.model_warmup[0].inputs["fractions"].dims) == [2]


@pytest.mark.parametrize("exported", ["plain", "conditional"])
def test_one_contract_with_the_hash_of_the_weights_is_in_config_and_graph(
    repository: Path, exported: str, request: pytest.FixtureRequest
):
    checkpoint: Checkpoint = request.getfixturevalue(exported)
    name = checkpoint.contract.name
    config = parsed(repository / name / "config.pbtxt").parameters[CONTRACT_KEY].string_value
    graph = {entry.key: entry.value for entry in onnx.load(onnx_file(repository, name)).metadata_props}
    assert graph[CONTRACT_KEY] == config
    contract = ModelContract.from_json(config)
    assert contract.provenance.weights_sha256 == checkpoint.weights_sha256()
    without_hash = dataclasses.replace(contract.provenance, weights_sha256="")
    assert dataclasses.replace(contract, provenance=without_hash) == checkpoint.contract


def test_exporting_again_adds_a_version_and_leaves_the_older_ones(
    tiny: Checkpoint, make_checkpoint: MakeCheckpoint, tmp_path: Path
):
    models = tmp_path / "models"
    export(saved(tiny, tmp_path), models)
    (models / "other").mkdir()
    first = contents(models)
    longer = dataclasses.replace(tiny, tensors={name: 2 * value for name, value in tiny.tensors.items()})
    export(saved(longer, tmp_path), models)

    found = contents(models)
    assert sorted(found) == sorted([*first, "balls16/2/model.onnx", "balls16/1/config.pbtxt"])
    assert found["balls16/1/config.pbtxt"] == first["balls16/config.pbtxt"]
    assert found["balls16/1/model.onnx"] == first["balls16/1/model.onnx"]
    assert onnx_file(models, "balls16") == models / "balls16" / "2" / "model.onnx"
    config = parsed(models / "balls16" / "config.pbtxt")
    assert longer.weights_sha256() in config.parameters[CONTRACT_KEY].string_value
    assert config.version_policy.latest.num_versions == 1
    assert sorted(entry.name for entry in models.iterdir()) == ["balls16", "other"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checkpoint.safetensors", "models"]


def test_a_graph_that_disagrees_leaves_nothing_behind(tiny: Checkpoint, tmp_path: Path):
    path = saved(unequal(tiny), tmp_path)
    with pytest.raises(ContractError, match=r"onnxruntime and torch differ by \S+ in 'eps'"):
        export(path, tmp_path / "models", "--max-batch", 2)
    assert list(tmp_path.iterdir()) == [path]


def test_a_graph_that_disagrees_adds_no_version(tiny: Checkpoint, tmp_path: Path):
    model = tmp_path / "models" / "balls16"
    model.mkdir(parents=True)
    (model / "config.pbtxt").write_text("served")
    path = saved(unequal(tiny), tmp_path)
    with pytest.raises(ContractError, match="differ"):
        export(path, tmp_path / "models", "--max-batch", 2)
    assert contents(tmp_path / "models") == {"balls16/config.pbtxt": b"served"}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checkpoint.safetensors", "models"]


def test_a_version_whose_config_cannot_be_written_is_taken_back(tmp_path: Path):
    model = tmp_path / "models" / "balls16"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text("served")
    (model / "README.md").mkdir()  # a file cannot replace it
    (model / "README.md" / "kept").touch()
    with pytest.raises(DataError, match="cannot write"), new_version(tmp_path / "models", "balls16") as draft:
        (draft.files / "model.onnx").touch()
        for name in ("config.pbtxt", "README.md"):
            (draft.folder / name).write_text("new")
    assert (model / "config.pbtxt").read_text() == "served"
    assert not (model / "2").exists()


def test_two_exports_at_once_do_not_share_a_version(tmp_path: Path):
    (tmp_path / "models" / "balls16").mkdir(parents=True)
    with pytest.raises(DataError, match="cannot write"), new_version(tmp_path / "models", "balls16") as draft:
        (draft.files / "model.onnx").write_text("second")
        faster = tmp_path / "models" / "balls16" / "1"
        faster.mkdir()
        (faster / "model.onnx").write_text("first")
    assert contents(tmp_path) == {"models/balls16/1/model.onnx": b"first"}


def test_a_network_that_does_not_fit_its_contract_leaves_nothing_behind(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
):
    path = saved(make_checkpoint(prediction="epsilon+variance"), tmp_path)
    with pytest.raises(ContractError, match="as its contract says"):
        export(path, tmp_path / "models")
    assert list(tmp_path.iterdir()) == [path]


def test_a_truncated_checkpoint_is_refused(tiny: Checkpoint, tmp_path: Path):
    path = saved(tiny, tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="damaged"):
        export(path, tmp_path / "models")
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_without_some_of_its_weights_is_refused(tiny: Checkpoint, tmp_path: Path):
    tensors = {key: value for key, value in tiny.tensors.items() if key != "ema.stem.weight"}
    path = saved(dataclasses.replace(tiny, tensors=tensors), tmp_path)
    with pytest.raises(DataError, match="do not fit its network"):
        export(path, tmp_path / "models")
    assert list(tmp_path.iterdir()) == [path]


def test_a_repository_that_is_a_file_stays_as_it_is(tiny: Checkpoint, tmp_path: Path):
    path = saved(tiny, tmp_path)
    (tmp_path / "models").write_text("not a folder")
    with pytest.raises(DataError, match="is a file, not a model repository"):
        export(path, tmp_path / "models")
    assert (tmp_path / "models").read_text() == "not a folder"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checkpoint.safetensors", "models"]


def test_a_repository_in_a_folder_that_does_not_exist_is_refused(tiny: Checkpoint, tmp_path: Path):
    path = saved(tiny, tmp_path)
    with pytest.raises(DataError, match="cannot write into the repository"):
        export(path, tmp_path / "absent" / "models")
    assert list(tmp_path.iterdir()) == [path]


def test_malformed_metrics_stop_the_export_before_it_begins(tiny: Checkpoint, tmp_path: Path):
    path, metrics = saved(tiny, tmp_path), tmp_path / "metrics.json"
    metrics.write_text(json.dumps({"model": "balls16"}))
    with pytest.raises(DataError, match=r"metrics\.json"):
        export(path, tmp_path / "models", "--metrics", metrics)
    assert not (tmp_path / "models").exists()


def test_the_command_says_on_one_line_what_was_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.argv", ["mdiff-export", "repository", str(tmp_path / "absent.safetensors"), "models"])
    with pytest.raises(SystemExit) as leave:
        cli.main()
    assert leave.value.code == DataError.exit_code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"error: {tmp_path / 'absent.safetensors'}: no such checkpoint\n"
