"""Groups of options in the place of one argument of a command."""

from collections.abc import Callable
from functools import partial
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from mdiff_client.cli.gathered import gathers


def water(
    cold: Annotated[int, typer.Option(help="Litres.")] = 1, hot: Annotated[int, typer.Option(help="Litres.")] = 0
) -> list[int]:
    """What a bath is filled with."""
    return [cold, hot]


@pytest.fixture
def run():
    """Runs a command with arguments and gives what it printed."""

    def run(group, *arguments):
        app = typer.Typer(rich_markup_mode=None)

        @app.command()
        @gathers(filled=group)
        def bath(room: str, seconds: int = 9, *, filled: Callable[[], list[int]], loud: bool = False) -> None:
            """Fill a bath."""
            typer.echo([room, seconds, filled(), loud])

        return CliRunner().invoke(app, arguments)

    return run


def test_the_argument_calls_the_function_with_its_options(run):
    assert run(water, "attic", "--hot", "5", "--loud").output == "['attic', 9, [1, 5], True]\n"


def test_the_options_stand_in_the_place_of_the_argument(run):
    shown = run(water, "--help").output
    assert "Fill a bath." in shown
    assert shown.index("--seconds") < shown.index("--cold") < shown.index("--hot") < shown.index("--loud")
    assert "Litres." in shown
    assert "--filled" not in shown


def test_what_is_bound_is_not_offered(run):
    warm = partial(water, hot=3)
    assert run(warm, "attic").output == "['attic', 9, [1, 3], False]\n"
    assert run(warm, "attic", "--hot", "5").exit_code == 2
