"""The command, as a process: exit statuses, one-line errors, JSON alone on stdout, and a README that names it all."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from conftest import TINY, Run, json_output, made_images, one_line_error, tree, write_pictures
from pictures import png
from PIL import Image
from test_bundle import rewrite
from test_codes import rewrite_header
from typer.testing import CliRunner

import aekit.cli
from aekit.cli import app
from aekit.cli.printing import duration
from aekit.codes.formats import dtype_default
from aekit.errors import AekitError, MissingExtra, OutputExists
from aekit.json_files import finite
from aekit.model.bundle import Bundle
from aekit.registry import OBJECTIVES

COMMANDS = sorted(aekit.cli.COMMANDS)
README = Path(__file__).parent.parent / "README.md"
# What a device may have: no UTF-8 anywhere.
PLAIN = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def invoke(*arguments: object) -> tuple[int, str]:
    """Exit status and output of a command run in this process, as long as it raises no AekitError."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return result.exit_code, result.output


# --- the whole job


def test_compress_reconstruct_and_info_with_json(aekit: Run, pictures: Path, tmp_path: Path) -> None:
    (pictures / "b/bad.png").touch()
    done = aekit("compress", pictures, "--out", "codes.npy", "--model", TINY, "--dtype", "uint8", "--json")
    assert done.returncode == 3
    made = json.loads(done.stdout)
    assert {name: made[name] for name in ("out", "images", "skipped", "provider")} == {
        "out": "codes.npy",
        "images": 12,
        "skipped": [{"path": "b/bad.png", "error": "empty file"}],
        "provider": "cpu",
    }
    assert done.stderr == "skipped b/bad.png: empty file\n"
    back = json_output(aekit("reconstruct", "codes.npy", "--json", AEKIT_MODEL=str(TINY)))
    assert (back["out"], back["images"], back["skipped"]) == ("reconstructed", 12, [])
    assert set(tree(tmp_path / "reconstructed")) == {*tree(pictures), "aekit.json"} - {"b/bad.png"}
    assert json_output(aekit("info", "codes.npy", "--json"))["count"] == 12
    assert json_output(aekit("info", TINY, "--json"))["model_id"] == Bundle.read(TINY).model_id


def test_without_json_it_says_what_lies_where_and_what_ran(tmp_path: Path, pictures: Path) -> None:
    status, said = invoke("compress", pictures, "--out", tmp_path / "codes.npy", "--model", TINY)
    assert status == 0
    assert f"12 codes -> {tmp_path / 'codes.npy'} (320 bytes, 26.7 an image)" in said
    assert said.endswith("images/s on cpu\n")
    for path, wanted in ((tmp_path / "codes.npy", "12 codes of 4 float32"), (TINY, "fp32, 16x16 gray, 4 numbers")):
        status, said = invoke("info", path)
        assert status == 0
        assert wanted in said


def test_arrays_and_options_reach_the_job(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", made_images(5))
    common = ("--model", TINY, "--provider", "cpu", "--threads", 1, "--batch-size", 2)
    out = tmp_path / "codes.npy"
    assert invoke("compress", tmp_path / "in.npy", "--out", out, "--dtype", "float16", *common)[0] == 0
    assert np.load(out).dtype == np.float16
    out.with_suffix(".jsonl").unlink()
    made = tmp_path / "images.npy"
    for more in ((), ("--overwrite",)):
        assert invoke("reconstruct", out, "--out", made, "--no-index", *common, *more)[0] == 0
    assert np.load(made).shape == (5, 16, 16, 1)


def test_a_place_where_nothing_is_utf8_and_a_name_that_is_none(aekit: Run, tmp_path: Path) -> None:
    folder = tmp_path / "ö bilder"
    write_pictures(folder, 2)
    os.rename(os.fsencode(folder) + b"/a/000.png", os.fsencode(folder) + b"/a/\xff\xc3.png")
    shutil.copy(folder / "b/001.png", folder / "b/ü.png")
    (folder / "b/ü2.png").touch()
    (folder / "b/esc\x1b[2J\n.png").touch()
    done = aekit("compress", folder, "--out", "codes.npy", "--model", TINY, **PLAIN)
    assert done.returncode == 3, done.stderr
    assert done.stderr.isascii()
    assert done.stderr.splitlines()[0] == r"skipped b/esc\x1b[2J\n.png: empty file"
    assert len(done.stderr.splitlines()) == 2
    done = aekit("reconstruct", "codes.npy", "--out", "zurück", "--model", TINY, "--json", **PLAIN)
    assert json_output(done)["images"] == 3
    found = {os.fsencode(name) for name in tree(tmp_path / "zurück")}
    assert found == {b"a/\xff\xc3.png", b"b/001.png", "b/ü.png".encode(), b"aekit.json"}
    assert aekit("--help", **PLAIN).returncode == 0


def test_denoise_lists_what_it_skips_and_says_what_the_model_is_for(aekit: Run, pictures: Path, tmp_path: Path) -> None:
    (pictures / "b/bad.png").touch()
    done = aekit("denoise", pictures, "--out", "clean", "--model", TINY, "--provider", "cpu", "--json")
    assert done.returncode == 3
    made = json.loads(done.stdout)
    assert (made["out"], made["images"], made["provider"]) == ("clean", 12, "cpu")
    assert made["skipped"] == [{"path": "b/bad.png", "error": "empty file"}]
    assert done.stderr.splitlines() == [
        f"warning: {TINY} was trained for the objective plain, not to remove noise: "
        "train one with --objective denoising",
        "skipped b/bad.png: empty file",
    ]
    assert set(tree(tmp_path / "clean")) == {*tree(pictures), "aekit.json"} - {"b/bad.png"}


def test_sample_draws_one_picture(tmp_path: Path, pictures: Path) -> None:
    out = tmp_path / "new" / "grid.png"
    common = ("--out", out, "--model", TINY, "--provider", "cpu")
    status, said = invoke("sample", *common, "--n", 7, "--json")
    warned, made = said.splitlines()  # the first on stderr
    assert "has no prior, so some images look unlikely" in warned
    assert (status, {**json.loads(made), "out": ""}) == (
        0,
        {
            "out": "",
            "images": 7,
            "rows": 3,
            "columns": 3,
            "seed": 0,
            "model_id": Bundle.read(TINY).model_id,
            "provider": "cpu",
        },
    )
    first = out.read_bytes()
    assert Image.open(out).size == (3 * 66 + 2, 3 * 66 + 2)
    for arguments, same in ((("--n", 7, "--seed", 0), True), (("--n", 7, "--seed", 1), False)):
        assert invoke("sample", *common, *arguments, "--overwrite")[0] == 0
        assert (out.read_bytes() == first) == same
    assert "64 images of random latents" in invoke("sample", *common, "--overwrite")[1]
    assert Image.open(out).size == (8 * 66 + 2, 8 * 66 + 2)
    ends = (pictures / "a/000.png", pictures / "b/001.png")
    assert "10 images between two" in invoke("sample", *common, "--interpolate", *ends, "--overwrite")[1]
    picture = np.asarray(Image.open(out))
    assert picture.shape == (66 + 2, 12 * 66 + 2)
    for left, path in ((2, ends[0]), (2 + 11 * 66, ends[1])):  # the originals, four times as large, at the ends
        np.testing.assert_array_equal(picture[2:66:4, left : left + 64 : 4], np.asarray(Image.open(path)))
    assert [path.name for path in out.parent.iterdir()] == ["grid.png"]


def test_what_a_model_says_of_itself_never_reaches_the_terminal_raw(model: Path) -> None:
    rewrite(model, made_by="\x1b[2J\nforged: line", **{"odd\x07": 1})
    status, said = invoke("info", model)
    assert status == 0
    assert r"made_by: \x1b[2J\nforged: line" in said and r"odd\x07: 1" in said
    assert said.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("objective", "line"),
    [
        ("plain", "validation with float32 codes: MSE 0.00100, PSNR 30.00 dB"),
        ("rate", "validation with uint8 codes: MSE 0.01000, PSNR 20.00 dB"),
    ],
)
def test_info_leads_with_the_error_of_the_codes_that_are_stored(model: Path, objective: str, line: str) -> None:
    validation = {"mse": 0.001, "psnr": 30.0, "mse_float_latents": 0.001, "mse_uint8_codes": 0.01}
    rewrite(model, spec={**Bundle.read(model).spec.to_dict(), "objective": objective}, validation=validation)
    status, said = invoke("info", model)
    assert status == 0 and said.splitlines()[1].strip() == line
    assert json.loads(invoke("info", model, "--json")[1])["validation"] == validation


@pytest.mark.parametrize("validation", [None, 3, {}, {"mse": "x"}, {"mse": -1.0}, {"mse": True}])
def test_info_does_without_the_error(model: Path, validation: object) -> None:
    rewrite(model, validation=validation)
    status, said = invoke("info", model)
    assert status == 0 and "validation with" not in said


def test_the_default_of_dtype_follows_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dtype_default().endswith("; uint8 for the objective rate")
    monkeypatch.setitem(OBJECTIVES, "rounded", replace(OBJECTIVES["rate"]))
    assert dtype_default().endswith("; uint8 for the objective rate or rounded")


# --- exit statuses


def test_done_is_0_and_the_version_is_said(aekit: Run) -> None:
    done = aekit("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("aekit 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["compress"],
        ["compress", "in"],  # --out is missing
        ["compress", "in", "--out", "a.npy", "--batch-size", "0"],
        ["compress", "in", "--out", "a.npy", "--threads", "none"],
        ["reconstruct", "a.npy", "--nothing"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    assert invoke(*arguments)[0] == 2


def test_errors_are_one_line_with_status_1_and_leave_nothing(aekit: Run, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bombs").mkdir()
    (tmp_path / "bombs" / "a.png").write_bytes(png(10_000, 10_000))
    before = tree(tmp_path)
    compress = ["compress", pictures, "--out", "codes.npy"]
    for arguments, said in [
        (compress, "expected a model folder with model.json, found none; make one with `aekit export`"),
        ([*compress, "--model", TINY, "--provider", "cuda"], "provider 'cuda' is not in this onnxruntime"),
        (["compress", "empty", "--out", "codes.npy", "--model", TINY], "found none"),
        (["compress", "no\nwhere", "--out", "codes.npy", "--model", TINY, "--json"], r"no\nwhere: expected a folder"),
        (["compress", "bombs", "--out", "codes.npy", "--model", TINY], "over 89,478,485 pixels"),
        (
            ["info", "nowhere"],
            "nowhere: expected a model folder or a code file, NAME.npy or NAME.aek, found nothing",
        ),
    ]:
        assert said in one_line_error(aekit(*arguments))
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compress", "pictures", "--out", "codes.npy"], "codes.npy: expected a path that is free"),
        (["compress", "pictures", "--out", "codes.txt"], "ends in .npy"),
        (["compress", "pictures", "--out", "new.npy", "--dtype", "int4"], "--dtype: expected float32"),
        (["compress", "pictures", "--out", "new.npy", "--on-error", "stop"], "skip or fail"),
        (["compress", "bad", "--out", "new.npy", "--on-error", "fail"], "x.png: empty file"),
        (["compress", "bad", "--out", "new.npy"], "at least one readable image"),
        (["compress", "pictures", "--out", "new.npy", "--provider", "gpu"], "auto or one of cpu"),
        (["reconstruct", "codes.npy", "--out", "pictures", "--overwrite"], "aekit did not make it"),
        (["reconstruct", "codes.npy", "--out", "."], "a place apart from codes.npy"),
        (["reconstruct", "foreign.npy"], "codes of model 0123456789abcdef; give the model that made them"),
        (["reconstruct", "lost.npy"], "give --no-index"),
        (["reconstruct", "none.npy"], "nothing there"),
        (["info", "none.npy"], "nothing there"),
        (["denoise", "pictures", "--out", "pictures", "--overwrite"], "a place apart from pictures"),
        (["denoise", "pictures", "--out", "codes.npy"], "codes.npy: expected a path that is free"),
        (["denoise", "pictures", "--out", "new.npy", "--original-size"], "--original-size: expected image files"),
        (["denoise", "pictures", "--out", "new", "--on-error", "stop"], "skip or fail"),
        (["denoise", "bad", "--out", "new"], "at least one readable image"),
        (["denoise", "nowhere", "--out", "new"], "nowhere: expected a folder"),
        (["denoise", "pictures", "--out", "new.aek"], "--out new.aek: expected a folder, or a name that ends in .npy"),
        (["reconstruct", "codes.npy", "--out", "new.jsonl"], "--out new.jsonl: expected a folder, or a name"),
        (["info", "codes.jsonl"], "found another file; the codes are codes.npy"),
        (
            ["info", "cut.npy"],
            "cut.npy: expected a finished output, found an interrupted job; run it",
        ),
        (["evaluate", "pictures", "--run", "nowhere"], "--run nowhere: expected the model's run folder, found nothing"),
        (["compress", "x.tar", "--out", "new.npy"], "found a .tar file; unpack it first"),
        (["compress", "x.aek", "--out", "new.npy"], "found a .aek file; `aekit reconstruct` decodes an archive"),
        (["sample", "--out", "new.jpg"], "new.jpg: expected a name that ends in .png"),
        (["sample", "--out", "there.png"], "there.png: expected a path that is free"),
        (["sample", "--out", "new.png", "--n", "0"], "--n: expected 1 to 10,000 images, found 0"),
        (["sample", "--out", "new.png", "--n", "10001"], "--n: expected 1 to 10,000 images, found 10,001"),
        (["sample", "--out", "new.png", "--seed", "-1"], "--seed: expected 0 or more"),
        (["sample", "--out", "new.png", "--model", "old"], "latent: expected the distribution of latents"),
        (["sample", "--out", "new.png", "--model", "nowhere"], "expected a model folder"),
        (["sample", "--out", "new.png", "--interpolate", "there.png", "no.png"], "no.png: No such file"),
        (["sample", "--out", "new.png", "--interpolate", "bad/x.png", "there.png"], "x.png: empty file"),
        (["sample", "--out", "new.png", "--interpolate", "a", "b", "--n", "1"], "--n: expected 2 to 10,000"),
        (
            ["sample", "--out", "new.png", "--interpolate", "a", "b", "--seed", "1"],
            "--seed: expected no seed",
        ),
        (["export", "nowhere", "--out", "pictures"], "it holds no model.json"),
    ],
)
def test_each_mistake_is_a_named_error(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AEKIT_MODEL", str(TINY))
    for name in ("codes", "foreign", "lost"):
        assert invoke("compress", "pictures", "--out", f"{name}.npy")[0] == 0
    rewrite_header(tmp_path / "foreign.npy", model_id="0123456789abcdef")
    (tmp_path / "lost.jsonl").unlink()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").touch()
    (tmp_path / "cut.npy.journal").touch()
    for kind in ("aek", "tar"):
        (tmp_path / f"x.{kind}").write_bytes(b"not read")
    shutil.copy(tmp_path / "pictures" / "a" / "000.png", tmp_path / "there.png")
    shutil.copytree(TINY, tmp_path / "old")
    rewrite(tmp_path / "old", latent=None)
    before = tree(tmp_path)
    with pytest.raises(AekitError) as caught:
        invoke(*arguments)
    assert said in str(caught.value)
    assert tree(tmp_path) == before


def test_ctrl_c_ends_with_130_and_leaves_nothing_half_written(aekit: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.zeros((200_000, 16, 16), np.uint8))
    command = [
        sys.executable,
        "-m",
        "aekit",
        "compress",
        "in.npy",
        "--out",
        "c.npy",
        "--model",
        TINY,
        "--batch-size",
        1,
    ]
    with subprocess.Popen(list(map(str, command)), cwd=tmp_path, stderr=subprocess.PIPE, text=True) as running:
        while not (tmp_path / "c.npy.part").exists():  # one image a batch takes long: it is stopped in the midst of it
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert said == "aekit: interrupted; nothing was left half-written\n"
    assert [path.name for path in tmp_path.iterdir()] == ["in.npy"]


# --- help and README


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_has_help(command: str) -> None:
    group = typer.main.get_command(app)
    found = group.get_command(None, command)  # type: ignore[attr-defined]
    assert found.help
    for parameter in found.params:
        assert getattr(parameter, "help", None), f"{command} {parameter.name}"
    assert invoke(command, "--help")[0] == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_the_readme_names_every_command(command: str) -> None:
    assert f"aekit {command}" in README.read_text()


# --- how results and errors read


def test_an_error_names_both_sides_and_the_remedy_in_one_line() -> None:
    error = AekitError("a\nb\x1b[2J\r\u2028.png", expected="x", found="y", fix="do z")
    assert str(error) == r"a\nb\x1b[2J\r\u2028.png: expected x, found y; do z"
    assert str(AekitError("only this")) == "only this"
    assert isinstance(OutputExists(Path("a")), FileExistsError)
    assert "pip install 'aekit[train]'" in str(MissingExtra("aekit train", "train", "torch"))


def test_json_has_no_infinities() -> None:
    values = {"a": float("inf"), "b": [1.5, float("nan")], "c": ("x", None)}
    assert finite(values) == {"a": None, "b": [1.5, None], "c": ["x", None]}


def test_durations_read_as_clocks() -> None:
    assert [duration(seconds) for seconds in (0, 59.6, 3600, 3723)] == ["0:00", "1:00", "1:00:00", "1:02:03"]


@pytest.mark.parametrize(("words", "expected"), [("aekit comp", {"compress"}), ("aekit info --js", {"--json"})])
def test_a_shell_completes_commands_and_options(words: str, expected: set[str]) -> None:
    program = "import sys; sys.argv[0] = 'aekit'; from aekit.cli import main; main()"
    asked = {"_AEKIT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **asked}, capture_output=True, text=True, timeout=60
    )
    assert set(done.stdout.split()) == expected, done.stderr
