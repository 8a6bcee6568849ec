"""The rooms' walls: what the runtime must not load, what is shipped, and what nothing may use."""

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TINY

ROOT = Path(__file__).parent.parent
SOURCES = [path for folder in ("aekit", "export", "benchmarks", "tests") for path in (ROOT / folder).rglob("*.py")]
TRAINING_ONLY = ("torch", "onnx", "onnxscript", "sklearn", "matplotlib", "pandas", "mlxtend", "aekit.exporting")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


def among(loaded: set[str], names: tuple[str, ...]) -> set[str]:
    return {name for name in loaded for wanted in names if name == wanted or name.startswith(f"{wanted}.")}


def test_the_runtime_loads_nothing_that_only_training_needs() -> None:
    runtime = "aekit, aekit.cli, aekit.model.codec, aekit.jobs.job, aekit.images.sources, aekit.__main__"
    code = (
        f"import sys, {runtime}\naekit.model.codec.Codec.load({str(TINY)!r}).provider('encoder')\nprint(*sys.modules)"
    )
    loaded = set(python("-c", code).stdout.split())
    assert {"aekit.model.codec", "aekit.jobs.job", "onnxruntime"} <= loaded
    assert among(loaded, (*TRAINING_ONLY, "aekit.training")) == set()


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['aekit', '--help']; from aekit.cli import app\n"
        "try:\n app()\nexcept SystemExit:\n print('loaded:', *sys.modules)"
    )
    loaded = set(python("-c", code).stdout.partition("loaded:")[2].split())
    assert "aekit.cli.compress" in loaded
    assert among(loaded, (*TRAINING_ONLY, "onnxruntime", "numpy", "PIL", "rich", "pydantic")) == set()


def test_processes_that_read_can_be_forked_before_onnxruntime_makes_threads() -> None:
    code = (
        "import sys, aekit.model.codec, aekit.jobs.job, aekit.images.sources, aekit.images.reading; print(*sys.modules)"
    )
    assert among(set(python("-c", code).stdout.split()), ("onnxruntime",)) == set()


def test_a_bare_import_loads_the_version_alone() -> None:
    loaded = set(python("-c", "import sys, aekit; print(*sys.modules)").stdout.split())
    assert among(loaded, ("aekit",)) == {"aekit", "aekit._version"}


@pytest.mark.parametrize(("asked", "found"), [(None, "1"), ("0", "0")])
def test_onnxruntimes_telemetry_is_off_before_it_is_imported_unless_the_user_asks_for_it(
    asked: str | None, found: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    if asked:
        environment["ORT_DISABLE_TELEMETRY"] = asked
    code = (
        "import os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'onnxruntime': print(os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
        "sys.meta_path.insert(0, Watch())\n"
        "import aekit.model.codec\n"
        f"aekit.model.codec.Codec.load({str(TINY)!r}).provider('encoder')"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [found]


def test_the_packages_listed_are_the_packages_on_the_disk() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = [path.parent for path in (ROOT / "aekit").rglob("*.py")]
    folders += [
        ROOT / "aekit" / "exporting" / path.parent.relative_to(ROOT / "export")
        for path in (ROOT / "export").rglob("*.py")
    ]
    assert sorted(listed) == sorted({".".join(folder.relative_to(ROOT).parts) for folder in folders})


def test_every_package_has_an_init() -> None:
    for top in ("aekit", "export"):
        assert all((path.parent / "__init__.py").exists() for path in (ROOT / top).rglob("*.py"))


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_can_load_a_pickle(path: Path) -> None:
    tree = ast.parse(path.read_bytes())
    imported = {
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not imported & {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    shipped = "tests" not in path.relative_to(ROOT).parts
    for name, call in calls(tree):
        given = {word.arg: ast.unparse(word.value) for word in call.keywords}
        if name in ("np.load", "numpy.load"):
            assert given.get("allow_pickle", "absent" if shipped else "False") == "False", ast.unparse(call)
        if name == "torch.load":
            assert given.get("weights_only") == "True", ast.unparse(call)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_bytes()))


@pytest.mark.parametrize("package", ["aekit.images", "aekit.codes", "aekit.model"])
def test_a_package_names_its_public_parts_and_loads_them_on_first_use(package: str) -> None:
    code = (
        f"import sys, {package} as package\n"
        "assert not {'numpy', 'PIL', 'onnxruntime'} & set(sys.modules)\n"
        "assert all(callable(getattr(package, name)) for name in package.__all__)\n"
        "assert not hasattr(package, 'elsewhere')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
