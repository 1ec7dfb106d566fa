"""Two processes over gloo, as torchrun starts them: they train what one process trains, and act as one."""

import csv
import dataclasses
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mdiff_core import ModelContract, UsageError
from mdiff_training.checkpoint import Checkpoint
from mdiff_training.config import TrainingConfig
from mdiff_training.data.micrographs import Micrographs
from mdiff_training.loop import train
from mdiff_training.ranks import joined

# Each process tells what became of each run in a file of its own.
SCRIPT = """
import os, pickle, signal, sys
from pathlib import Path

import torch

from mdiff_core import MdiffError
from mdiff_training.loop import train
from mdiff_training.data.micrographs import Micrographs
from mdiff_training.ranks import joined
from mdiff_training.stopping import Stopped

class StopsTheSecond(Micrographs):
    seen = 0

    def batch(self, size, tile, generator):
        type(self).seen += 1
        if os.environ["RANK"] == "1" and self.seen == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().batch(size, tile, generator)

torch.set_num_threads(1)
folder, rank = Path(sys.argv[1]), os.environ["RANK"]
told = []
with joined("cpu") as ranks:
    mine = torch.tensor([2.0 + ranks.index])
    told.append(f"mean of {mine.tolist()}: {ranks.mean(mine).tolist()}, and still {mine.tolist()}")
    for name, (config, micrographs, contract) in pickle.loads((folder / "runs.pickle").read_bytes()).items():
        if name == "stopped":
            micrographs = StopsTheSecond(micrographs.stacks, micrographs.phases, micrographs.references)
        try:
            train(config, micrographs, contract, folder / f"{name}.safetensors", checkpoint_every=3, sample_every=4,
                  log=folder / f"{name}.csv")
            told.append(f"{name}: done")
        except (Stopped, MdiffError) as error:
            told.append(f"{name}: {type(error).__name__}: {error}")
(folder / f"{rank}.txt").write_text("\\n".join(told))
"""

Run = tuple[TrainingConfig, Micrographs, ModelContract]


def torchrun(folder: Path, runs: dict[str, Run]) -> tuple[list[str], list[str]]:
    """What either process tells of each run."""
    (folder / "runs.pickle").write_bytes(pickle.dumps(runs))
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run(
        [*command, str(folder / "script.py"), str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    first, second = ((folder / f"{rank}.txt").read_text().splitlines() for rank in (0, 1))
    return first, second


def with_(config: TrainingConfig, learned_variance: bool = False, **training: object) -> TrainingConfig:
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, learned_variance=learned_variance),
        training=dataclasses.replace(config.training, **training),  # type: ignore[arg-type]
    )


def test_two_processes_train_what_one_trains_and_stop_together(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    short = dataclasses.replace(contract, schedule=dataclasses.replace(contract.schedule, timesteps=2))
    plain = with_(tiny, steps=8)
    learned = with_(tiny, learned_variance=True, importance_sampling=True, accumulate=2, clip_norm=0.1, steps=12)
    runs: dict[str, Run] = {
        "plain": (plain, cross, contract),
        "learned": (learned, cross, short),
        "stopped": (plain, cross, contract),
        "odd": (with_(tiny, batch=9), cross, contract),
        "mad": (with_(tiny, learning_rate=1e30), cross, contract),
    }
    (mean, *first), (other_mean, *second) = torchrun(tmp_path, runs)
    assert mean == "mean of [2.0]: [2.5], and still [2.0]"
    assert other_mean == "mean of [3.0]: [2.5], and still [3.0]"

    stopped = f"stopped by SIGTERM: {tmp_path / 'stopped.safetensors'} keeps step 3; the same command with --resume"
    assert first == [
        "plain: done",
        "learned: done",
        f"stopped: Stopped: {stopped} goes on from it",
        "odd: UsageError: a batch of 9 does not split over 2 processes of 1 parts each: make it a multiple of 2",
        first[4],
    ]
    assert first[4].startswith("mad: PermanentError: training diverged at step 2")
    # One line is enough to say how to go on; what went wrong, any process may know alone.
    assert second == [*first[:2], "stopped: Stopped: ", *first[3:]]
    assert Checkpoint.load(tmp_path / "stopped.safetensors").step == 3

    for name in ("plain", "learned"):
        config, micrographs, of = runs[name]
        one = train(config, micrographs, of, tmp_path / f"one-{name}.safetensors", log=tmp_path / f"one-{name}.csv")
        two = Checkpoint.load(tmp_path / f"{name}.safetensors")
        assert (two.step, two.contract, two.tensors.keys()) == (one.step, one.contract, one.tensors.keys())
        for key, value in one.tensors.items():
            # Sums in another order: a few units in the last place, and Adam divides by gradients that are as small.
            torch.testing.assert_close(two.tensors[key], value, rtol=1e-4, atol=1e-5)
        assert logged(tmp_path / f"{name}.csv") == pytest.approx(logged(tmp_path / f"one-{name}.csv"), rel=1e-5)
        assert (tmp_path / f"{name}.samples" / f"{config.training.steps:06d}.png").is_file()


def logged(log: Path) -> list[float]:
    """Step, loss and gradient norm of the last row."""
    with log.open(newline="") as file:
        *_, last = csv.DictReader(file)
    return [float(last[column]) for column in ("step", "loss", "gradient_norm")]


def test_alone_there_is_nobody_to_agree_with():
    with joined("cpu") as ranks:
        assert (ranks.index, ranks.count, ranks.writes) == (0, 1, True)
        assert ranks.highest(-3) == -3
        rows = torch.arange(3)
        assert torch.equal(ranks.gathered(rows), rows)
        assert torch.equal(ranks.mean(rows), rows)
        network = torch.nn.Linear(2, 2)
        assert ranks.wrapped(network) is network


def test_processes_that_torchrun_did_not_start_are_told_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(UsageError, match="WORLD_SIZE is 2, but the processes do not meet: use torchrun"), joined("cpu"):
        pass
