"""Check that the packages of an optional extra are installed, before a command begins its work."""

import importlib.util
import os

from aekit.errors import MissingExtra


def need_extra(command: str, extra: str, *modules: str) -> None:
    """Raise MissingExtra unless the modules are installed, and FileNotFoundError if the working folder is gone.

    Torch is not imported in a folder that is gone: its oneMKL would end the process with exit status 2.
    """
    os.getcwd()
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(command, extra, module)
