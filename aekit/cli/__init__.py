"""The aekit command line. Each command is a file of this package and imports heavy packages only when it runs."""

import errno
import functools
import io
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
from aekit.cli.printing import note, report_error
from aekit.errors import AekitError, nearest, reason

COMMANDS = ("train", "export", "compress", "reconstruct", "evaluate", "denoise", "sample", "info", "doctor")
"""Names of the commands. Each is a function in the file of the same name."""
_SETTINGS = {"help_option_names": ["-h", "--help"]}


def _function(command: str) -> Callable[..., None]:
    function: Callable[..., None] = getattr(import_module(f"aekit.cli.{command}"), command)
    return function


class _Commands(TyperGroup):
    """Import a command when it is asked for. Importing all commands would take as long as importing typer."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands for --help, without building the options of each."""
        width = formatter.width - 6 - max(map(len, COMMANDS))
        texts = [TyperCommand(name, help=_function(name).__doc__).get_short_help_str(width) for name in COMMANDS]
        with formatter.section("Commands"):
            formatter.write_dl(list(zip(COMMANDS, texts, strict=True)))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            if suggestion := nearest(cmd_name, COMMANDS):
                ctx.fail(f"No such command {cmd_name!r}: {suggestion}")
            return None
        alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        alone.command(cmd_name, context_settings=_SETTINGS)(_interruptible(_function(cmd_name)))
        return typer.main.get_command(alone)


app = typer.Typer(
    name="aekit",
    cls=_Commands,
    help="Train a small autoencoder on your own images, export it as two ONNX graphs, run it anywhere.\n\n"
    "The whole job: aekit train, aekit export, aekit compress images/ --out codes.aek, aekit reconstruct codes.aek.\n\n"
    "Exit status: 0 done, 1 an error, 2 wrong usage, 3 done but some inputs were skipped, 130 interrupted.",
    no_args_is_help=True,
    add_completion=True,  # makes --help 8 to 12 ms slower (of 150 ms on a busy machine)
    context_settings=_SETTINGS,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes drawn by rich would take longer than the rest of --help
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
    """Wrap a command so that Ctrl-C and SIGTERM end it with a line of text; typer alone would print nothing."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt as interrupt:
            kept = getattr(interrupt, "__notes__", ["nothing was left half-written"])
            note(f"aekit: interrupted; {kept[0]}")
            raise typer.Exit(130) from None

    return run


_NO_MEMORY = "not enough memory; free some, or use a machine with more"
_LOADERS_WORDS = ("failed to map segment", "cannot allocate memory", "Cannot allocate memory")
"""What the dynamic loader says of a library for which there is no memory."""


def _open_streams() -> None:
    """Open the standard streams that are closed, on the null device.

    Otherwise the next file opened would take the number of a closed stream, and receive what libraries print there.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):  # file names may hold characters that the terminal's encoding lacks
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def main() -> None:
    """Run the command line. An error that aekit or the system raises becomes one line on stderr and exit status 1."""
    _open_streams()
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # a parent process may have set SIGTERM to be ignored
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Pillow warns about odd files on lines of its own. aekit itself says in one line why it skips an image.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # Python warns about text that it parses, such as the header of a damaged .npy file.
    warnings.filterwarnings("ignore", category=SyntaxWarning)
    status: object = 0
    try:
        app()
    except AekitError as error:
        status = report_error(error)
    except MemoryError:
        status = report_error(AekitError(_NO_MEMORY))
    except ImportError as error:
        if not any(words in str(error) for words in _LOADERS_WORDS):
            raise
        status = report_error(AekitError(_NO_MEMORY))
    except RuntimeError as error:
        if "start new thread" not in str(error):  # Python's words, where a system lacks memory or bounds its threads
            raise
        fix = "free some memory, or raise the limit on processes and threads (ulimit -u)"
        status = report_error(AekitError("the system starts no more threads", fix=fix))
    except OSError as error:
        if isinstance(error, io.UnsupportedOperation):  # a mistake in aekit, not something the system refused
            raise
        status = report_error(_system_error(error))
    except SystemExit as ending:
        status = ending.code
    _leave(status)


def _system_error(error: OSError) -> AekitError:
    """Say in one line what the system refused and on which path."""
    found = error.strerror or reason(error)
    if error.errno == errno.ENOMEM:
        return AekitError(_NO_MEMORY)
    if error.filename is not None:
        path = error.filename
        return AekitError(os.fsdecode(path) if isinstance(path, bytes) else str(path), found=found)
    if found.startswith("No usable temporary directory"):  # Python's words, in tempfile
        return AekitError("no folder for temporary files can be written", fix="set TMPDIR to one that can")
    if isinstance(error, FileNotFoundError):
        try:
            os.getcwd()
        except OSError:
            return AekitError("the working folder is gone", fix="change to a folder that exists")
    if error.errno in (errno.ENOSPC, errno.EIO):  # errors of an output name its path, so this is what typer prints
        return AekitError("stdout could not be written", found=found)
    return AekitError("the system refused an operation", found=found)


def _leave(status: object) -> None:
    """End the process at once. All files are closed and no thread has work.

    Python would first take apart itself and its libraries. Measured as the least of 15 runs on two cores: that costs
    0.02 s of 0.09 s after `aekit --help`, and 0.06 s of 0.30 s after `aekit info`.
    """
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
