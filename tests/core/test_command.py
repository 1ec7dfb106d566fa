"""Every error leaves a command as one line on stderr and its class's exit code."""

from importlib.metadata import metadata

import pytest
import typer

from mdiff_core import ContractError, DataError, MdiffError, PermanentError, UnavailableError, UsageError
from mdiff_core.command import run_app
from mdiff_core.extras import EXTRAS


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


@pytest.mark.parametrize(
    ("module", "complaint"),
    [
        ("taufactor", "taufactor is not installed: pip install '.[properties]' in a checkout of mdiff"),
        ("muFFT.Stencils3D", "muFFT.Stencils3D is not installed: pip install '.[elasticity]' in a checkout of mdiff"),
        ("granite", "granite is not installed: the README, Installing, names the extra"),
    ],
)
def test_a_missing_package_names_its_extra(module: str, complaint: str, capsys):
    assert leave(ModuleNotFoundError(f"No module named {module!r}", name=module)) == 2
    assert capsys.readouterr().err == f"error: {complaint}\n"


def test_a_package_that_cannot_be_loaded_is_told_in_one_line(capsys):
    assert leave(ImportError("libfreetype.so.6: cannot open\nshared object file", name="matplotlib.ft2font")) == 2
    complaint = "error: matplotlib.ft2font cannot be loaded: libfreetype.so.6: cannot open shared object file\n"
    assert capsys.readouterr().err == complaint


@pytest.mark.parametrize("error", [ImportError("no name"), ImportError("ours", name="mdiff_client.x")])
def test_a_mistake_in_an_import_of_our_own_is_not_hidden(error: ImportError):
    with pytest.raises(ImportError):
        leave(error)


def test_every_extra_that_is_named_is_one():
    assert set(EXTRAS.values()) <= set(metadata("mdiff").get_all("Provides-Extra", []))


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
