"""Plans by name, from files, and the options that change them."""

import dataclasses
import json

import pytest

from mdiff_client.plan_files import parse_periodic, parse_ratio, parse_size, read_plan
from mdiff_client.sampling import PLANS
from mdiff_client.sampling.plan import DEFAULT
from mdiff_core import DataError, UsageError


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "my.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_a_name_is_a_plan():
    assert read_plan("paper", harmonize=2) == dataclasses.replace(PLANS["paper"], harmonize=2)
    with pytest.raises(UsageError, match="'magic' is unknown"):
        read_plan("magic")


def test_a_file_changes_the_plan_that_it_names_or_the_default(written):
    assert read_plan(written('plan = "paper"\nharmonize = 3\n')) == dataclasses.replace(PLANS["paper"], harmonize=3)
    assert read_plan(written("")) == PLANS[DEFAULT]


def toml(value):
    """A plan's value as a file says it."""
    if value is None:
        return '"none"'
    return (
        f"[{', '.join(map(toml, value))}]"
        if isinstance(value, tuple)
        else str(json.dumps(value)).replace("Infinity", "inf")
    )


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_file_may_set_every_field(written, plan):
    plan = dataclasses.replace(plan, ratio=(2, 1, 1), periodic="z", size=(64, 128, 96))
    fields = {name: value for name, value in vars(plan).items() if name != "eta" or plan.sampler == "ddim"}
    text = "\n".join(f"{name} = {toml(value)}" for name, value in fields.items())
    assert read_plan(written(text)) == dataclasses.replace(plan, eta=read_plan(written(text)).eta)


def test_options_change_what_the_file_says(written):
    assert read_plan(written("steps = 12\nharmonize = 2"), steps=5) == read_plan(written("steps = 5\nharmonize = 2"))


def test_none_is_written_as_a_text(written):
    plan = read_plan(written('steps = "none"\nband = "none"\nsize = "none"'))
    assert (plan.steps, plan.band, plan.size) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("stepz = 3", "has no stepz: it has plan, steps, "),
        ("steps = 2.5", 'steps = 2.5: give a whole number, or "none"'),
        ("steps = true", "steps = True: give a whole number"),
        ("steps = 0", "at least one"),
        ('sampler = "euler"', "sampler = 'euler': give one of ddpm, ddim, dpm-solver"),
        ("band = [1]", r"band = \[1\]: give \[a number, a number\], or"),
        ('ratio = [1, 1, "2"]', r"give \[a whole number, a whole number, a whole number\]"),
        ("clip = 1", "clip = 1: give true or false"),
        ("plan = 3", "plan = 3: give a text"),
        ('plan = "magic"', "'magic' is unknown"),
        ('sampler = "ddpm"\neta = 0.0', "eta belongs to the sampler ddim"),
        ("steps = ", "not valid TOML"),
    ],
)
def test_a_file_that_makes_no_plan_is_refused(written, text, complaint):
    with pytest.raises(UsageError, match=complaint):
        read_plan(written(text))


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_plan(str(tmp_path / "gone.toml"))


def test_options_are_read():
    assert parse_size("64x128x96") == (64, 128, 96)
    assert parse_size("96") == (96, 96, 96)
    assert parse_ratio("2:1:1") == (2, 1, 1)
    assert (parse_periodic("xz"), parse_periodic("none")) == ("xz", "")
    for parse, text, complaint in (
        (parse_size, "64x64", "as 64x128x96"),
        (parse_size, "64,64,64", "not of the form"),
        (parse_ratio, "2:1", "as 2:1:1"),
    ):
        with pytest.raises(UsageError, match=complaint):
            parse(text)
