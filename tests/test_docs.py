"""README and docs: every command and every Python block runs, every option exists, every link resolves."""

import contextlib
import io
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from conftest import made_images
from PIL import Image
from typer.testing import CliRunner

import aekit.cli
from aekit import Bundle
from aekit.cli import app

ROOT = Path(__file__).parent.parent
GUIDES = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *GUIDES]
"""Pages whose commands are run."""
LINKED = [*PAGES, ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *(ROOT / "aekit" / "codes").glob("*.md")]
"""Pages whose links are checked."""
README_LINES = 150

NOT_RUN = {
    "make demo": "makes an environment and trains for half a minute; .ci/run runs it",
    "make test": "this test is a part of it",
    "aekit --install-completion": "would change the shell's settings",
    "pip install": "tests/test_edge_install.py installs the wheel",
    "pip uninstall": "would change the environment of the tests",
    "python benchmarks/": "takes minutes to an hour",
    "find my-images": "the test writes the list",
}
"""Beginnings of commands that are not run, each with the reason."""

CHEAP = {
    "aekit train mnist --preset classic": "aekit train mnist-5k --preset classic --epochs 1",
    "aekit train my-images/": "aekit train --epochs 1 my-images/",
    " --budget 5m": "",
    " --budget 10m": " --steps 3",
    " --epochs 50": "",
    "aekit export runs/": "aekit export --entropy static runs/",
}
"""Replacements that make a slow command cheap, made in this order."""
BARE = {"aekit train": "aekit train --epochs 1"}
"""The same for whole commands."""
CHEAP_PYTHON = {'budget="2m"': "epochs=1"}
"""The same in Python blocks."""

GIVEN = {
    "on-the-device.md": ("runs", "model"),
    "archives.md": ("model",),
    "python.md": ("model", "codes.npy", "codes.jsonl", "codes.aek"),
    "reliability.md": ("model",),
    "formats.md": ("model",),
    "troubleshooting.md": ("model", "codes.npy", "codes.jsonl"),
}
"""What earlier pages made that a page begins with, beside images."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each fenced block of a page."""
    return _FENCE.findall(page.read_text(encoding="utf-8"))


def commands(text: str) -> list[str]:
    """Commands of a shell block, without their comments."""
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def all_commands() -> list[str]:
    return [line for page in PAGES for language, text in blocks(page) if language == "sh" for line in commands(text)]


def cheap(command: str) -> str:
    if command in BARE:
        return BARE[command]
    for slow, quick in CHEAP.items():
        command = command.replace(slow, quick)
    return command


def run_command(command: str) -> None:
    arguments = shlex.split(cheap(command))
    assert arguments[0] == "aekit", f"{command}: neither a command of aekit nor listed in NOT_RUN"
    unquoted = [text for text in command.split() if "*" in text and "'" not in text]  # the shell expands these
    for pattern in unquoted:
        at = arguments.index(pattern)
        arguments[at : at + 1] = sorted(map(str, Path().glob(pattern)))
    result = CliRunner().invoke(app, arguments[1:], catch_exceptions=False)
    assert result.exit_code == 0, f"{command}: exit status {result.exit_code}\n{result.output}"


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Train on one thread: on these few images two threads wait for each other, minutes on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def prepared(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small images of two cameras, and what the first commands of the README make of them."""
    folder = tmp_path_factory.mktemp("prepared")
    for name in ("my-images", "images", "noisy"):
        for row, image in enumerate(made_images(60)):
            path = folder / name / f"cam{row % 2 + 1}" / f"{row // 4:03d}_{row % 4}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[:, :, 0]).save(path)
    for row, (height, width) in enumerate([(40, 60), (70, 33), (16, 90), (50, 50)] * 3):
        path = folder / "pictures" / f"{row}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(made_images(1, height, width, seed=row)[0, :, :, 0]).save(path)
    (folder / "second.txt").write_text("my-images/cam1/000_2.png\nmy-images/cam2/000_3.png\n")
    for name, image in zip("ab", made_images(2, seed=1), strict=True):
        Image.fromarray(image[:, :, 0]).save(folder / f"{name}.png")
    with working_in(folder):
        for command in ("train my-images/", "export", "compress images/ --out codes.npy"):
            run_command(f"aekit {command}")
        run_command("aekit compress images/ --out codes.aek")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_python_block_runs(
    page: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AEKIT_MODEL", raising=False)
    for name in ("my-images", "images", "pictures", "noisy", "a.png", "b.png", "second.txt", *GIVEN.get(page.name, ())):
        copy = shutil.copytree if (prepared / name).is_dir() else shutil.copyfile
        copy(prepared / name, tmp_path / name)
    names: dict[str, object] = {}
    with working_in(tmp_path):
        if (tmp_path / "model").exists():
            geometry = Bundle.read(tmp_path / "model").spec.fixed
            names["images"] = made_images(5, geometry.height, geometry.width)
        found = blocks(page)
        assert found
        for (language, text), (following, expected) in zip(found, [*found[1:], ("", "")], strict=True):
            if language == "sh":
                for command in commands(text):
                    if not command.startswith(tuple(NOT_RUN)):
                        run_command(command)
            elif language == "python":
                for slow, quick in CHEAP_PYTHON.items():
                    text = text.replace(slow, quick)
                said = io.StringIO()
                with contextlib.redirect_stdout(said):
                    exec(compile(text, page.name, "exec"), names)
                if following == "text":
                    assert said.getvalue() == expected
            elif language == "toml":
                Path("settings.toml").write_text(text, encoding="utf-8")
            else:
                assert language == "text", f"{page.name}: a block of the language {language!r}"
    if page.name == "python.md":
        assert np.asarray(names["codes"]).shape[1] == 32


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_stands_in_fences_alone(page: Path) -> None:
    """Commands in indented blocks would escape the test above."""
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    assert "```" not in prose
    assert not [line for line in prose.splitlines() if line.startswith("    ")]


@pytest.mark.parametrize("entry", NOT_RUN)
def test_every_exception_is_used(entry: str) -> None:
    assert any(command.startswith(entry) for command in all_commands())


def test_every_replacement_is_used() -> None:
    assert all(command in all_commands() for command in BARE)
    assert all(any(slow in command for command in all_commands()) for slow in CHEAP)
    python = "".join(text for page in PAGES for language, text in blocks(page) if language == "python")
    assert all(slow in python for slow in CHEAP_PYTHON)
    assert {page.name for page in GUIDES} >= set(GIVEN)


def options_of(command: str) -> set[str]:
    """Options of a command, or of `aekit` itself for an empty name."""
    group = typer.main.get_command(app)
    found = group.get_command(None, command) if command else group  # type: ignore[attr-defined]
    return {"--help"}.union(*({*parameter.opts, *parameter.secondary_opts} for parameter in found.params))


@pytest.mark.parametrize("page", [*LINKED], ids=lambda page: page.name)
def test_every_option_shown_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    scripts = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks").glob("*.py"))
    known = {*_OPTION.findall(scripts)}.union(*map(options_of, ("", *aekit.cli.COMMANDS)))
    assert set(_OPTION.findall(text)) <= known
    for command, rest in re.findall(r"aekit (\w+)\b([^`\n]*)", text):
        if command in aekit.cli.COMMANDS:
            assert set(_OPTION.findall(rest)) <= options_of(command), f"{page.name}: aekit {command}{rest}"


@pytest.mark.parametrize("script", sorted(set(re.findall(r"benchmarks/\w+\.py", " ".join(all_commands())))))
def test_options_of_a_benchmark_exist(script: str) -> None:
    shown = {option for line in all_commands() if script in line for option in _OPTION.findall(line)}
    common = (ROOT / "benchmarks" / "common.py").read_text(encoding="utf-8")
    assert shown <= set(_OPTION.findall((ROOT / script).read_text(encoding="utf-8") + common))


@pytest.mark.parametrize("command", aekit.cli.COMMANDS)
def test_every_command_is_run_by_a_page(command: str) -> None:
    assert any(line.split()[:2] == ["aekit", command] for line in all_commands())


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_every_link_resolves(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_the_readme_is_short_and_links_to_every_guide() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= README_LINES
    assert all(f"(docs/{page.name})" in text for page in GUIDES)


def test_the_map_of_the_readme_names_folders_that_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("## Map of the repository")[1]
    named = set(re.findall(r"`([\w/]+/)`", text))
    assert all((ROOT / name).is_dir() for name in named)
    rooms = {f"aekit/{path.parent.name}/" for path in (ROOT / "aekit").glob("*/__init__.py")}
    assert named >= rooms
