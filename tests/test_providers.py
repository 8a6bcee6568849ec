"""providers: a named provider carries the whole graph or is an error; auto says what it took."""

import numpy as np
import onnxruntime
import pytest
from conftest import TINY, made_images

from aekit.errors import ProviderError
from aekit.model.codec import Codec
from aekit.model.providers import PROVIDERS, open_session

GRAPH = (TINY / "encoder.onnx").read_bytes()
HERE = [name for name, full in PROVIDERS.items() if full in onnxruntime.get_available_providers()]


@pytest.mark.skipif(HERE != ["cpu"], reason="this onnxruntime offers more than the CPU")
def test_auto_says_cpu_where_there_is_nothing_else() -> None:
    running = open_session(GRAPH, "auto")
    assert running.provider == "cpu"
    assert running.session.get_providers() == ["CPUExecutionProvider"]
    codec = Codec.load(TINY)
    assert [codec.provider(role) for role in ("encoder", "decoder")] == ["cpu", "cpu"]


def test_a_named_cpu_runs_on_the_cpu_with_the_threads_asked_for() -> None:
    running = open_session(GRAPH, "cpu", threads=2)
    assert running.provider == "cpu"
    assert running.session.get_session_options().intra_op_num_threads == 2


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    for name in ("gpu", "CPU", "CPUExecutionProvider", ""):
        with pytest.raises(ProviderError, match="auto or one of cpu, cuda, tensorrt"):
            open_session(GRAPH, name)


@pytest.mark.parametrize("name", [name for name in PROVIDERS if name not in HERE])
def test_a_provider_this_onnxruntime_lacks_is_an_error_and_never_the_cpu(name: str) -> None:
    with pytest.raises(ProviderError, match=f"{name!r} is not in this onnxruntime .*found .*cpu"):
        Codec.load(TINY, name).provider("encoder")


@pytest.mark.parametrize("provider", ["auto", "cpu"])
def test_a_graph_that_does_not_load_is_one_line(provider: str) -> None:
    with pytest.raises(ProviderError, match="can't run this graph") as caught:
        open_session(b"not a graph", provider)
    assert "\n" not in str(caught.value)


def test_every_name_stands_for_one_that_onnxruntime_knows() -> None:
    assert set(PROVIDERS.values()) <= set(onnxruntime.get_all_providers())


def test_what_a_binding_gives_is_what_a_run_gives(tiny_codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way GPU sessions run, taken by the CPU's: onnxruntime binds there too."""
    images = made_images(10)
    plain = tiny_codec.encode(images), tiny_codec.encode(images, "uint8"), tiny_codec.reconstruct(images)
    monkeypatch.setattr("aekit.model.providers._ON_GPU", ("cpu",))
    bound = tiny_codec.encode(images), tiny_codec.encode(images, "uint8"), tiny_codec.reconstruct(images)
    for a, b in zip(plain, bound, strict=True):
        assert np.array_equal(a, b)
