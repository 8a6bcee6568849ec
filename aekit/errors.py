"""The exceptions that aekit raises on purpose, and what turns an error into one line of text.

    AekitError (Exception)
    ├── SourceError (ValueError)            the images to read: a folder, an array or an idx file that can't serve
    ├── ImageError (ValueError)             one image that can't be decoded
    ├── ShapeError (ValueError)             an array of the wrong shape or dtype
    ├── SpecError (ValueError)              a model description that is malformed or from a newer aekit
    ├── BundleError (ValueError)            a model folder with a missing, altered or foreign file
    ├── CodesError (ValueError)             a code file that is damaged or does not fit
    ├── TablesError (ValueError)            frequency tables that don't make a code
    ├── ModelMismatch (ValueError)          codes of one model given to another model
    ├── ProviderError (RuntimeError)        an execution provider that is absent or does not run the graph
    ├── WorkerError (RuntimeError)          a worker process that died twice on one piece of work
    ├── TooManyFailures (ValueError)        more unreadable inputs than --max-failures allows
    ├── OutputError (OSError)               an output that can't be written
    │   └── OutputExists (FileExistsError)  an output path that is taken
    ├── OptionError (ValueError)            options that do not fit each other or the data
    ├── CheckpointError (ValueError)        a training run that can't be resumed or exported
    ├── TrainingError (RuntimeError)        a training run that had to stop
    ├── ParityError (RuntimeError)          an exported graph that does not compute what torch computes
    └── MissingExtra (ImportError)          a command whose optional dependencies are not installed

Each class also inherits the builtin in brackets, so `except ValueError` catches it too. A message is one line: what is
wrong, what was expected, what was found, what to do.
"""

import re
from collections.abc import Iterable
from pathlib import Path


class AekitError(Exception):
    """Base of all errors aekit raises on purpose.

    `what` names the thing at fault (a path where there is one); `expected`, `found` and `fix` complete the sentence.
    """

    def __init__(self, what: str, *, expected: str = "", found: str = "", fix: str = "") -> None:
        self.what, self.expected, self.found, self.fix = what, expected, found, fix
        facts = ", ".join(part for part in (expected and f"expected {expected}", found and f"found {found}") if part)
        super().__init__("; ".join(part for part in (f"{what}: {facts}" if facts else what, fix) if part))

    def __str__(self) -> str:
        # OSError's own __str__ would print its errno. A newline in a file name must not make a second line.
        return one_line("; ".join([str(self.args[0]), *getattr(self, "__notes__", ())]))


def reason(error: BaseException, most: int = 160) -> str:
    """The first line of an error's text, at most `most` characters; its class's name if it has no text."""
    return str(error).strip().partition("\n")[0][:most] or type(error).__name__


def one_line(text: str) -> str:
    """Return the text with control characters and line ends, which file names may hold, written as escapes."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class SourceError(AekitError, ValueError):
    """A folder, an array or an idx file that can't serve as a source of images."""


class ImageError(AekitError, ValueError):
    """One image that can't be decoded: corrupt, truncated, empty, too large or of an unsupported kind."""

    def __init__(self, problem: str, path: str = "") -> None:
        self.problem = problem
        """What is wrong, without the path."""
        self.path = path
        """The file, or empty for pixels that come from no file."""
        super().__init__(f"{path}: {problem}" if path else problem)

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        return type(self), (self.problem, self.path)


class ShapeError(AekitError, ValueError):
    """An array whose shape or dtype does not fit the model."""


class SpecError(AekitError, ValueError):
    """A model description that is malformed, out of bounds or written by a newer aekit."""


class BundleError(AekitError, ValueError):
    """A model folder in which a file is missing, altered or from another model."""


class CodesError(AekitError, ValueError):
    """A code file that is damaged, incomplete or of the wrong width or dtype."""


class TablesError(AekitError, ValueError):
    """Frequencies that don't make a code: a wrong shape or sum, or a symbol out of range."""


class ModelMismatch(AekitError, ValueError):
    """Codes that one model made and another model was asked to decode."""

    def __init__(self, codes: str, codes_model: str, model: str) -> None:
        super().__init__(
            codes,
            expected=f"codes of model {model}",
            found=f"codes of model {codes_model}",
            fix="give the model that made them with --model",
        )


class ProviderError(AekitError, RuntimeError):
    """An execution provider that this install lacks or that would not run the graph."""


class WorkerError(AekitError, RuntimeError):
    """A worker process that died on a piece of work, and so did its successor."""

    def __init__(self, piece: str, ending: str) -> None:
        super().__init__(
            f"a worker process on {piece} {ending}, and so did the one that tried again",
            fix="free memory, take these inputs away, or give --workers 0 to work without other processes",
        )


class TooManyFailures(AekitError, ValueError):
    """A job met more unreadable inputs than its limit allows."""


class OutputError(AekitError, OSError):
    """An output that can't be written where it was asked for."""


class OutputExists(OutputError, FileExistsError):
    """An output path that is taken."""

    def __init__(self, path: Path, fix: str = "choose another --out, or give --overwrite to replace it") -> None:
        super().__init__(str(path), expected="a path that is free", found="one that exists", fix=fix)


class OptionError(AekitError, ValueError):
    """Options that do not fit each other, the data or the network."""


def unknown_value(what: str, value: object, names: Iterable[str]) -> OptionError:
    """Return the error for an option's value that is not one of `names`. It suggests the nearest name."""
    known = list(names)
    return OptionError(what, expected=" or ".join(known), found=repr(value)[:80], fix=nearest(value, known))


def nearest(value: object, names: Iterable[str]) -> str:
    """Return a question that suggests the name most like a mistyped value; empty if no name is like it."""
    import difflib

    found = difflib.get_close_matches(str(value)[:80], list(names), 1, 0.5)
    return f"did you mean {found[0]!r}?" if found else ""


class CheckpointError(AekitError, ValueError):
    """A training run whose files can't be resumed or exported."""


class TrainingError(AekitError, RuntimeError):
    """A training run that had to stop, such as one that diverged."""


class ParityError(AekitError, RuntimeError):
    """An exported graph whose results differ too much from torch's."""


class MissingExtra(AekitError, ImportError):
    """A command whose optional dependencies are not installed."""

    def __init__(self, command: str, extra: str, module: str) -> None:
        super().__init__(
            f"{command} needs {module}, which is not installed", fix=f"install it with: pip install 'aekit[{extra}]'"
        )
