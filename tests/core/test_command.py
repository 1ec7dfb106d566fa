"""Every error leaves a command as one line on stderr and its class's exit code."""

import pytest
import typer

from mdiff_core import ContractError, DataError, MdiffError, PermanentError, UnavailableError, UsageError
from mdiff_core.command import run_app


def leave(error: BaseException) -> int:
    """Exit code of a Typer command that raises ``error``."""
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as left:
        run_app(lambda: app(args=[]))
    assert isinstance(left.value.code, int)
    return left.value.code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MdiffError, 1),
        (UsageError, 2),
        (DataError, 3),
        (ContractError, 4),
        (UnavailableError, 5),
        (PermanentError, 6),
    ],
)
def test_an_error_becomes_one_line_and_its_exit_code(error: type[MdiffError], code: int, capsys):
    assert leave(error("pore.tif: no such file")) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: pore.tif: no such file\n"


def test_a_message_of_several_lines_is_still_one_line(capsys):
    leave(DataError("damaged\nat byte 7"))
    assert capsys.readouterr().err == "error: damaged at byte 7\n"


def test_ctrl_c_leaves_with_130():
    assert leave(KeyboardInterrupt()) == 130


def test_ctrl_c_outside_typer_leaves_with_130_and_says_so(capsys):
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as left:
        run_app(interrupted)
    assert left.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_mistake_in_mdiff_itself_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run_app(lambda: 1 // 0)
