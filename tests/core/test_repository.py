"""Finding models in a repository, and the repository in a checkout or an installation."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mdiff_core
from mdiff_core import DataError, UsageError
from mdiff_core.repository import bundled_repository, model_names, onnx_file


def add_model(repository: Path, name: str, versions: tuple[str, ...] = ("1",)) -> None:
    for version in versions:
        (repository / name / version).mkdir(parents=True)
        (repository / name / version / "model.onnx").touch()
    (repository / name / "config.pbtxt").touch()


def test_models_are_the_folders_with_a_configuration(tmp_path: Path):
    add_model(tmp_path, "spheres64")
    add_model(tmp_path, "nmc64")
    (tmp_path / "notes").mkdir()
    (tmp_path / "README.md").touch()
    assert model_names(tmp_path) == ["nmc64", "spheres64"]


def test_the_latest_version_is_the_greatest_number(tmp_path: Path):
    add_model(tmp_path, "nmc64", ("1", "9", "10"))
    (tmp_path / "nmc64" / "11").mkdir()
    (tmp_path / "nmc64" / "99-old").mkdir()
    assert onnx_file(tmp_path, "nmc64") == tmp_path / "nmc64" / "10" / "model.onnx"


def test_a_repository_that_is_no_folder_or_empty_is_a_data_error(tmp_path: Path):
    with pytest.raises(DataError, match="no such model repository"):
        model_names(tmp_path / "absent")
    with pytest.raises(DataError, match="holds no model"):
        model_names(tmp_path)


def test_an_unknown_model_names_those_there_are(tmp_path: Path):
    add_model(tmp_path, "nmc64")
    add_model(tmp_path, "spheres64")
    with pytest.raises(UsageError, match="no model 'steel': it has nmc64, spheres64"):
        onnx_file(tmp_path, "steel")


def test_a_model_without_onnx_file_is_a_data_error(tmp_path: Path):
    add_model(tmp_path, "nmc64")
    (tmp_path / "nmc64" / "1" / "model.onnx").unlink()
    with pytest.raises(DataError, match=r"no version with a model\.onnx"):
        onnx_file(tmp_path, "nmc64")


def run_in_a_copy(site: Path) -> subprocess.CompletedProcess[str]:
    """What ``bundled_repository`` says when ``mdiff_core`` lies in ``site``."""
    shutil.copytree(Path(mdiff_core.__file__).parent, site / "mdiff_core")
    code = f"import sys; sys.path.insert(0, {str(site)!r})\n"
    code += "from mdiff_core.repository import bundled_repository; print(bundled_repository())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_an_installed_package_has_its_repository_beside_it(tmp_path: Path):
    repository = tmp_path / "site" / "mdiff_serving" / "model_repository"
    repository.mkdir(parents=True)
    assert run_in_a_copy(tmp_path / "site").stdout.strip() == str(repository)


def test_a_checkout_has_its_repository_in_the_serving_room(tmp_path: Path):
    repository = tmp_path / "serving" / "model_repository"
    repository.mkdir(parents=True)
    assert run_in_a_copy(tmp_path / "core").stdout.strip() == str(repository)


def test_a_lost_repository_is_a_data_error(tmp_path: Path):
    result = run_in_a_copy(tmp_path / "site")
    assert result.returncode != 0
    assert "DataError: the bundled model repository is missing" in result.stderr


def test_the_bundled_repository_is_found():
    assert bundled_repository().name == "model_repository"
