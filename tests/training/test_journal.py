"""The log of a run: what it says, what of it survives a resume, and what is refused."""

import sys
from pathlib import Path

import numpy as np
import pytest

from mdiff_core import DataError, UsageError
from mdiff_training.cli import main
from mdiff_training.journal import Journal

HEADER = "step,loss,images_per_s,learning_rate,gradient_norm,seconds"


def row(step: int, **more: float) -> dict[str, float]:
    return {
        "loss": 1 / step,
        "images_per_s": 7.5,
        "learning_rate": 1e-4,
        "gradient_norm": 0.5,
        "seconds": 2.0 * step,
    } | more


def test_rows_are_there_as_soon_as_they_are_written(tmp_path: Path):
    log = tmp_path / "log.csv"
    journal = Journal(log, None, ["s2_error_pore"])
    assert log.read_text() == f"{HEADER},s2_error_pore\n"
    journal.write(100, row(100))
    journal.write(300, row(300, s2_error_pore=12.5))
    assert log.read_text().splitlines()[1:] == [
        "100,0.01,7.5,0.0001,0.5,200,",
        "300,0.00333333,7.5,0.0001,0.5,600,12.5",
    ]
    assert journal.seconds == 600


def test_a_resumed_log_goes_on_after_its_step_and_in_its_columns(tmp_path: Path):
    log = tmp_path / "log.csv"
    before = Journal(log, None, ["s2_error_pore"])
    for step in (100, 200, 300):
        before.write(step, row(step, s2_error_pore=9.0))
    after = Journal(log, None, step=200)
    assert after.seconds == 400
    after.write(250, row(250))
    assert [line.split(",")[0] for line in log.read_text().splitlines()] == ["step", "100", "200", "250"]
    assert log.read_text().splitlines()[0] == HEADER
    assert list(tmp_path.iterdir()) == [log]


def test_a_log_that_is_gone_begins_anew(tmp_path: Path):
    assert Journal(tmp_path / "log.csv", None, step=200).seconds == 0
    assert (tmp_path / "log.csv").read_text() == f"{HEADER}\n"


def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    journal = Journal(None, None)
    journal.write(1, row(1))
    journal.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"step,loss,seconds\nx,1,2\n", b"step\n3\n", b"\xff\xfe\x00"])
def test_another_file_is_not_written_over(tmp_path: Path, content: bytes):
    log = tmp_path / "other.csv"
    log.write_bytes(content)
    with pytest.raises(DataError, match=r"other.csv: not a log of mdiff-train, or damaged: choose another with --log"):
        Journal(log, None, step=100)
    assert log.read_bytes() == content


def test_a_log_that_cannot_be_written_is_a_data_error(tmp_path: Path):
    with pytest.raises(DataError, match="cannot be written"):
        Journal(tmp_path / "absent" / "log.csv", None)
    journal = Journal(tmp_path / "log.csv", None)
    (tmp_path / "log.csv").unlink()
    (tmp_path / "log.csv").mkdir()
    with pytest.raises(DataError, match=r"log.csv: cannot be written"):
        journal.write(1, row(1))


def test_tensorboard_that_is_not_installed_is_asked_for_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(
        UsageError, match="--tensorboard needs the package tensorboard: install it, or leave the option"
    ):
        Journal(tmp_path / "log.csv", tmp_path / "board")
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_shows_the_same_figures(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = tmp_path / "board"
    journal = Journal(None, board, ["s2_error_pore"])
    for step in (100, 200, 300):
        journal.write(step, row(step))
    journal.close()
    resumed = Journal(None, board, ["s2_error_pore"], step=200)
    resumed.write(400, row(400, s2_error_pore=3.0))
    resumed.close()
    events = EventAccumulator(str(board)).Reload()
    assert [(e.step, pytest.approx(e.value)) for e in events.Scalars("loss")] == [
        (100, 0.01),
        (200, 0.005),
        (400, 0.0025),
    ]
    assert [(e.step, e.value) for e in events.Scalars("s2_error_pore")] == [(400, 3.0)]


def test_a_folder_for_tensorboard_that_is_a_file_is_a_data_error(tmp_path: Path):
    (tmp_path / "board").touch()
    with pytest.raises(DataError, match=r"board: cannot be written \(File exists\)"):
        Journal(None, tmp_path / "board")


def test_the_command_logs_and_samples_beside_the_checkpoint_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    np.save("rock.npy", np.random.default_rng(0).integers(0, 2, (16, 16)).astype(np.uint8))
    network = ["model.base_channels=8", "model.multipliers=[1]", "model.attention=[false]", "model.head_channels=8"]
    training = ["training.image_size=[16, 16]", "training.batch=2", "training.steps=2"]
    about = ["--name", "rock", "--licence", "CC0-1.0", "--source", "noise", "--phases", "pore=0,rock=1"]

    def fit(*arguments: str) -> int:
        overrides = [f"--set={override}" for override in network + training]
        monkeypatch.setattr(sys, "argv", ["mdiff-train", "fit", "rock.npy", *arguments, *about, *overrides])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code or 0

    assert fit("default.safetensors") == 0
    assert fit("told.safetensors", "--log", "elsewhere.csv", "--sample-every", "0") == 0
    assert sorted(str(path) for path in Path().rglob("*.*") if path.is_file()) == [
        "default.csv",
        "default.safetensors",
        "default.samples/000002.png",
        "elsewhere.csv",
        "rock.npy",
        "told.safetensors",
    ]
    assert "s2_error_pore,lp_error_pore,s2_error_rock,lp_error_rock" in Path("default.csv").read_text()
    assert Path("elsewhere.csv").read_text().startswith(f"{HEADER}\n2,")

    assert fit("new.safetensors", "--log", "default.csv") == 2
    assert capsys.readouterr().err == ("error: default.csv exists: continue it with --resume, or choose another name\n")
    assert not Path("new.safetensors").exists()
