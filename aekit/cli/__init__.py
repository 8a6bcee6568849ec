"""The aekit command. Each command is a file of this package and imports what is heavy when it runs."""

import functools
import os
import signal
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from aekit._version import __version__
from aekit.cli.common import note, report_error
from aekit.errors import AekitError

COMMANDS = ("train", "export", "compress", "reconstruct", "evaluate", "denoise", "sample", "info", "doctor")
"""Each is a function of a file of its name."""
_SETTINGS = {"help_option_names": ["-h", "--help"]}


def _function(command: str) -> Callable[..., None]:
    function: Callable[..., None] = getattr(import_module(f"aekit.cli.{command}"), command)
    return function


class _Commands(TyperGroup):
    """Imports a command when it is asked for: one alone is needed, and all of them take as long as typer itself."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list in --help, for which a command's options need not be built."""
        width = formatter.width - 6 - max(map(len, COMMANDS))
        texts = [TyperCommand(name, help=_function(name).__doc__).get_short_help_str(width) for name in COMMANDS]
        with formatter.section("Commands"):
            formatter.write_dl(list(zip(COMMANDS, texts, strict=True)))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        alone.command(cmd_name, context_settings=_SETTINGS)(_interruptible(_function(cmd_name)))
        return typer.main.get_command(alone)


app = typer.Typer(
    name="aekit",
    cls=_Commands,
    help="Train a small autoencoder on your own images, export it as two ONNX graphs, run it anywhere.\n\n"
    "The whole job: aekit train, aekit export, aekit compress images/ --out codes.npy, aekit reconstruct codes.npy.\n\n"
    "Exit status: 0 done, 1 an error, 2 wrong usage, 3 done but some inputs were skipped, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    context_settings=_SETTINGS,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # drawing boxes with rich would take longer than all the rest of --help
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aekit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def _interruptible(command: Callable[..., None]) -> Callable[..., None]:
    """The command, which Ctrl-C and SIGTERM end with a word: typer alone would end it in silence."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt as interrupt:
            kept = getattr(interrupt, "__notes__", ["nothing was left half-written"])
            note(f"aekit: interrupted; {kept[0]}")
            raise typer.Exit(130) from None

    return run


def _open_streams() -> None:
    """Give the process all three standard streams: were one closed, the next file opened would take its number, and
    get what libraries print."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):  # file names may hold bytes that the terminal's encoding does not
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def main() -> None:
    """Run the command line; an error aekit raises on purpose becomes one line on stderr and exit status 1."""
    _open_streams()
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # else who started us wants it otherwise
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Pillow warns of odd files on lines of its own; what keeps an image out is said in one line where it is skipped.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # Python warns of what it parses, such as the header of a damaged .npy file.
    warnings.filterwarnings("ignore", category=SyntaxWarning)
    status: object = 0
    try:
        app()
    except AekitError as error:
        status = report_error(error)
    except SystemExit as ending:
        status = ending.code
    _leave(status)


def _leave(status: object) -> None:
    """End the process at once, as all files are closed and no thread has work: to take itself and its libraries apart
    takes Python as long as thousands of small images."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            pass
        except (OSError, ValueError):
            status = status or 1
    if not isinstance(status, int | None):
        sys.exit(status)  # type: ignore[arg-type]
    os._exit(status or 0)
