"""``mdiff-train`` from the command line to the checkpoint."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mdiff_core import Descriptors, Phase
from mdiff_images import read_array
from mdiff_training.checkpoint import Checkpoint

NMC = Path(__file__).parents[3] / "shared" / "data" / "nmc" / "nmc-1-cal_generatedCBD_bridge.tif"

# The smallest network of the compact preset, for a few steps on tiles of 16 pixels.
TINY = [
    f"--set={override}"
    for override in (
        "model.base_channels=8",
        "model.multipliers=[1, 2]",
        "model.attention=[false, true]",
        "model.head_channels=8",
        "training.image_size=[16, 16]",
        "training.batch=2",
        "training.steps=3",
    )
]
ABOUT = ["--name", "tiny", "--licence", "Apache-2.0", "--source", "synthetic"]
PHASES = ["--phases", "rest=0+2,active=1"]


@pytest.fixture
def rock(tmp_path: Path) -> Path:
    """Labels 0, 1 and 2 in 20 slices of 24 × 18 voxels."""
    np.save(tmp_path / "rock.npy", np.random.default_rng(0).integers(0, 3, (20, 24, 18)).astype(np.uint8))
    return tmp_path / "rock.npy"


def test_from_spheres_to_a_checkpoint(mdiff_train, tmp_path: Path):
    volume, checkpoint = tmp_path / "spheres.npy", tmp_path / "spheres.safetensors"
    assert mdiff_train("spheres", volume, "--length", 40, "--width", 32, "--fraction", 0.2, "--seed", 4) == 0
    spheres = np.load(volume)
    assert spheres.shape == (40, 32, 32)
    fit = ["fit", volume, checkpoint, *ABOUT, *TINY, "--phases", "matrix=0,sphere=1"]
    assert mdiff_train(*fit, "--voxel-size", 0.5, "--voxel-unit", "micrometer") == 0

    trained = Checkpoint.load(checkpoint)
    contract = trained.contract
    assert trained.step == 3
    assert trained.network.base_channels == 8
    assert (contract.name, contract.image_size, contract.channels, contract.prediction) == (
        "tiny",
        (16, 16),
        1,
        "epsilon",
    )
    assert contract.phases == (Phase("matrix", 0), Phase("sphere", 255))
    assert contract.schedule.timesteps == 1000
    assert contract.references["sphere"] == Descriptors.of(spheres == 1, 8)
    assert (contract.voxel_size, contract.voxel_unit) == (0.5, "micrometer")
    assert (contract.provenance.data, contract.provenance.licence) == ("synthetic", "Apache-2.0")
    assert contract.provenance.command.startswith(f"mdiff-train fit {volume} {checkpoint} --name tiny")
    assert contract.provenance.git_revision
    assert (contract.labels, contract.fractions, contract.guidable) == (0, (), False)


def test_a_run_is_resumed_where_asked_and_only_there(mdiff_train, rock: Path, tmp_path: Path, capsys):
    checkpoint = tmp_path / "rock.safetensors"
    fit = ["fit", rock, checkpoint, *ABOUT, *TINY, *PHASES]
    assert mdiff_train(*fit) == 0
    capsys.readouterr()
    assert mdiff_train(*fit) == 2
    assert capsys.readouterr().err == f"error: {checkpoint} exists: continue it with --resume, or choose another name\n"
    assert mdiff_train(*fit, "--resume", "--set", "training.steps=5") == 0
    assert Checkpoint.load(checkpoint).step == 5


def test_phases_are_grouped_and_a_part_is_cut_out(mdiff_train, rock: Path, tmp_path: Path):
    checkpoint = tmp_path / "rock.safetensors"
    cut = ["--crop", "1:19,0:24,:17", "--axis", 1]
    assert mdiff_train("fit", rock, checkpoint, *ABOUT, *TINY, "--phases", "matrix=1,rest=0+2", *cut) == 0
    part = np.load(rock)[1:19, 0:24, :17]
    references = Checkpoint.load(checkpoint).contract.references
    assert references == {"rest": Descriptors.of(part != 1, 8), "matrix": Descriptors.of(part == 1, 8)}


def test_planes_of_three_phases_become_classes_and_a_null_class(mdiff_train, rock: Path, tmp_path: Path):
    checkpoint = tmp_path / "rock.safetensors"
    assert mdiff_train("fit", rock, checkpoint, *ABOUT, *TINY, "--phases", "pore=0,active=1,binder=2", "--planes") == 0
    trained, labels = Checkpoint.load(checkpoint), np.load(rock)
    contract = trained.contract
    assert contract.phases == (Phase("pore", 0), Phase("active", 128), Phase("binder", 255))
    assert (contract.classes, contract.null_class) == (("xy", "xz", "yz"), 3)
    assert contract.planes == {"xy": 0, "xz": 1, "yz": 2}
    assert contract.references_along["y"]["binder"] == Descriptors.of(labels == 2, 8, axes=[1])
    assert (trained.network.channels, trained.network.labels, trained.network.fractions) == (3, 4, 0)


def test_without_dropout_of_the_condition_there_is_no_null_class(mdiff_train, rock: Path, tmp_path: Path):
    checkpoint = tmp_path / "rock.safetensors"
    options = [*PHASES, "--planes", "--set", "training.condition_dropout=0.0"]
    assert mdiff_train("fit", rock, checkpoint, *ABOUT, *TINY, *options) == 0
    trained = Checkpoint.load(checkpoint)
    assert (trained.contract.null_class, trained.contract.guidable, trained.network.labels) == (None, False, 3)


def test_several_files_are_told_apart_by_their_fractions(mdiff_train, rock: Path, tmp_path: Path):
    other, checkpoint = tmp_path / "other.npy", tmp_path / "rocks.safetensors"
    np.save(other, np.load(rock)[:16] // 2)
    assert mdiff_train("fit", rock, other, checkpoint, *ABOUT, *TINY, *PHASES, "--tell-fractions") == 0
    trained = Checkpoint.load(checkpoint)
    active = [np.mean(np.load(path) == 1) for path in (rock, other)]
    assert trained.contract.fractions == ((min(active), max(active)),)
    assert trained.contract.guidable
    assert (trained.network.labels, trained.network.fractions) == (0, 1)


def test_crops_of_independent_images(mdiff_train, rock: Path, tmp_path: Path):
    checkpoint = tmp_path / "rock.safetensors"
    assert mdiff_train("fit", rock, checkpoint, *ABOUT, *TINY, *PHASES, "--independent", "--crops", 5) == 0
    assert Checkpoint.load(checkpoint).contract.references["active"] == Descriptors.of(
        np.load(rock) == 1, 8, axes=(1, 2)
    )


def test_grey_levels_have_no_phases(mdiff_train, tmp_path: Path):
    image = np.random.default_rng(0).integers(0, 256, (30, 20)).astype(np.uint8)
    (tmp_path / "sem.raw").write_bytes(image.tobytes())
    checkpoint = tmp_path / "sem.safetensors"
    assert mdiff_train("fit", tmp_path / "sem.raw", checkpoint, *ABOUT, *TINY, "--raw-shape", "30x20") == 0
    assert Checkpoint.load(checkpoint).contract.phases == ()


@pytest.mark.parametrize(
    ("extra", "code", "message"),
    [
        (["--phases", "rest=0+1+2,gold=7"], 3, "rock.npy: nothing of phase 'gold'; its values are 0, 1, 2"),
        (["--phases", "rest=0,active=1"], 3, "rock.npy: value 2 belongs to no phase"),
        (["--phases", "rest"], 2, "phases 'rest': 'rest' is not NAME=VALUE"),
        (["--planes"], 2, "are about phases: name them"),
        ([*PHASES, "--planes", "--crops", "4"], 2, "--planes takes no --axis"),
        (["--crop", "0:9"], 2, "crop '0:9' names 1 axes, the array has 3"),
        (["--preset", "huge"], 2, "preset 'huge' is neither a file nor one of"),
        (["--set", "training.steps=many"], 2, "training.steps = 'many' is not int"),
        (["--set", "training.image_size=[32, 32]"], 3, "smaller than the tile 32×32"),
        (["--set", "model.channels=3"], 2, "model.channels follows from the data"),
        ([*PHASES, "--axis", "3"], 3, "slice axes 0, 1 and 2, not 3"),
        (["--phases", "rock=0+2,rock=1"], 2, "with a name of its own"),
        (["--device", "warp"], 2, "torch cannot use the device 'warp'"),
    ],
)
def test_mistakes_are_one_line_and_an_exit_code(
    mdiff_train, rock: Path, tmp_path: Path, capsys, extra: list[str], code: int, message: str
):
    assert mdiff_train("fit", rock, tmp_path / "model.safetensors", *ABOUT, *TINY, *extra) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "model.safetensors").exists()


def test_a_checkpoint_is_a_safetensors_file(mdiff_train, rock: Path, tmp_path: Path, capsys):
    """Its log and pictures are named after it."""
    assert mdiff_train("fit", rock, tmp_path / "model.csv", *ABOUT, *TINY, *PHASES) == 2
    assert "model.csv: a checkpoint is a .safetensors file" in capsys.readouterr().err


def test_fractions_are_told_only_to_a_network_that_learns_to_do_without(
    mdiff_train, rock: Path, tmp_path: Path, capsys
):
    told = ["--tell-fractions", "--set", "training.condition_dropout=0"]
    assert mdiff_train("fit", rock, tmp_path / "model.safetensors", *ABOUT, *TINY, *PHASES, *told) == 2
    assert "condition_dropout above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("there.npy", "exists: choose another name"),
        ("new.tif", "not an NPY file"),
        ("absent/new.npy", "existing folder"),
    ],
)
def test_spheres_are_written_to_a_new_npy_file(mdiff_train, tmp_path: Path, capsys, name: str, message: str):
    (tmp_path / "there.npy").write_bytes(b"precious")
    assert mdiff_train("spheres", tmp_path / name, "--length", 32, "--width", 32) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "there.npy").read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir()] == ["there.npy"]


def test_help_comes_without_loading_torch():
    code = (
        "import sys\nfrom mdiff_training.cli import main\ntry:\n    main()\nfinally:\n    print('torch' in sys.modules)"
    )
    for arguments in ([], ["fit"], ["spheres"]):
        result = subprocess.run(
            [sys.executable, "-c", code, *arguments, "--help"], capture_output=True, text=True, check=True
        )
        assert "Usage" in result.stdout
        assert result.stdout.endswith("False\n")
        assert result.stderr == ""


@pytest.mark.skipif(not NMC.is_file(), reason="the NMC cathode (shared/data/nmc beside the repository) is not here")
def test_a_rod_of_a_real_cathode_is_fitted(mdiff_train, tmp_path: Path):
    """The rod of Micro3Diff's case III, a short piece of it."""
    checkpoint = tmp_path / "nmc.safetensors"
    part = [*PHASES, "--crop", "93:157,118:182,0:20", "--axis", 2]
    assert mdiff_train("fit", NMC, checkpoint, *ABOUT, *TINY, *part) == 0
    trained = Checkpoint.load(checkpoint)
    rod = read_array(NMC)[93:157, 118:182, 0:20] == 1
    assert trained.contract.references["active"] == Descriptors.of(rod, 8)
