"""Defaults of options from a file and from the environment."""

import json

import pytest

DRY = ("generate3d", "out.zarr", "--dry-run", "--json")


@pytest.fixture
def cost(client, tmp_path):
    """What a dry run of ``generate3d`` tells, with a file of defaults."""

    def run(text, *options, **environment):
        file = tmp_path / "client.toml"
        file.write_text(text)
        result = client("--config", file, *DRY, *options, **environment)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return run


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(cost):
    file = "model = 'nmc64'\n[generate3d]\ncount = 3\nsteps = 4"
    assert cost(file)["model"] == "nmc64"
    assert cost(file)["volumes"] == 3
    assert cost(file, MDIFF_GENERATE3D_COUNT=4)["volumes"] == 4
    assert cost(file, "--count", "5", MDIFF_GENERATE3D_COUNT=4)["volumes"] == 5


def test_a_key_for_every_command_is_given_to_those_that_know_it(client, tmp_path, free_port, assert_one_line):
    file = tmp_path / "client.toml"
    port = free_port()
    file.write_text(f"url = 'localhost:{port}'\nin-flight = 2\n[library.run]\nshard = '5/3'\n")
    assert_one_line(client("--config", file, "info"), 5, f"no server answers at localhost:{port}")
    assert_one_line(client("library", "run", "none.zarr", MDIFF_CONFIG=file), 2, "shard 5/3")


def test_the_usual_file_is_read_where_it_is_there(client, tmp_path):
    folder = tmp_path / ".config" / "mdiff"
    folder.mkdir(parents=True)
    (folder / "client.toml").write_text("count = 9")
    assert json.loads(client(*DRY, HOME=tmp_path).stdout)["volumes"] == 9


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("counts = 3", "counts is neither a command nor an option of one"),
        ("[generate3d]\ncounts = 3", "[generate3d] has counts, which is no option of mdiff-client generate3d"),
        ("[generate4d]\ncount = 3", "[generate4d] is no command of mdiff-client"),
        ("[library.rum]\nshard = '0/1'", "[rum] is no command of mdiff-client"),
        ("count =", "not valid TOML"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(client, tmp_path, assert_one_line, text, complaint):
    file = tmp_path / "client.toml"
    file.write_text(text)
    assert_one_line(client("--config", file, *DRY), 2, complaint)


def test_a_file_that_is_named_must_be_there(client, tmp_path, assert_one_line):
    assert_one_line(client("--config", tmp_path / "none.toml", *DRY), 3, "cannot be read")


def test_a_shell_can_complete(client):
    # Without it typer asks which shell has started it.
    shown = client("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert shown.returncode == 0
    assert "mdiff" in shown.stdout
