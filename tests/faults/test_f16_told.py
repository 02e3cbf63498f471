"""What the App is told of errors: a sentence, and no path that was not given there."""

from __future__ import annotations

import logging
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import pytest
from fiftyone.operators.executor import ExecutionContext, Executor

from fiftyone_isoclip import embed, find_clusters
from fiftyone_isoclip.app.told import tell_error, without_paths
from fiftyone_isoclip.dataset.sidestore import store_folder
from fiftyone_isoclip.encoder import read_image
from fiftyone_isoclip.errors import ImageError, IsoClipError
from fiftyone_isoclip.install import PLUGIN_NAME, install_plugin
from tests import corpus
from tests.checkpoints import write_checkpoint
from tests.panels import Panel, texts
from tests.pictures import draw_many

Fill = Callable[[Sequence[str]], list[str]]


@pytest.fixture(autouse=True)
def _plugin() -> None:
    install_plugin(fo.config.plugins_dir)


def context(dataset: fo.Dataset, name: str, params: dict[str, Any]) -> ExecutionContext:
    uri = f"{PLUGIN_NAME}/{name}"
    asked = {"dataset_name": dataset.name, "operator_uri": uri, "params": params}
    return ExecutionContext(request_params=asked, executor=Executor())


def form(dataset: fo.Dataset, name: str, params: dict[str, Any]) -> dict[str, Any]:
    operator = foo.get_operator(f"{PLUGIN_NAME}/{name}")
    drawn = operator.resolve_type(context(dataset, name, params), "inputs")
    return dict(drawn.type.properties)


def told(dataset: fo.Dataset, name: str, **params: Any) -> str:
    """What the App shows when an operator is executed with its form's defaults and these."""
    parts = form(dataset, name, params)
    defaults = {key: part.default for key, part in parts.items() if part.default is not None}
    ctx = context(dataset, name, defaults | params)
    list(foo.get_operator(f"{PLUGIN_NAME}/{name}").execute(ctx))
    return str([sent.params for sent in ctx.executor._requests])


def no_path_in(sentence: str, tmp_path: Path) -> bool:
    foreign = (tmp_path, tmp_path.parent, Path.home(), Path(fo.__file__).parent)
    return not any(str(place) in sentence for place in foreign) and "site-packages" not in sentence


def test_f16_paths_are_cut_down_to_their_last_part(seed: int) -> None:
    random = Random(seed)
    letters = string.ascii_letters + string.digits + "._-+@ \u00fc"
    for _ in range(500):
        parts = ["".join(random.choices(letters, k=random.randint(1, 9))) for _ in range(4)]
        parts = [part.strip(". ") or "x" for part in parts]
        secret = "".join(random.choices(string.ascii_letters, k=12))
        quoted = f"{random.choice(['/', '~/', 'C:/'])}{secret}/{'/'.join(parts)}"
        bare = quoted.replace(" ", "_")
        for path, sentence in (
            (quoted, f"the file {quoted!r} is damaged"),
            (quoted, f'cannot open: "{quoted}"; remove it'),
            (bare, f"{bare} cannot be written (File too large), make room."),
            (bare, f"no room at {bare}: 3 of 4 bytes are free"),
            (bare, f"it lies in ({bare})"),
        ):
            cut = without_paths(sentence, {})
            assert secret not in cut and parts[-1].replace(" ", "_")[:1] in cut
            assert without_paths(sentence, {"a": [{"b": path}]}) == sentence


@pytest.mark.parametrize(
    "sentence",
    [
        "keeps 100 of 1/2 or 150/50; 3/4 of them",
        "write ViT-B-32/openai or hf-hub:ORG/MODEL, see https://example.org/a/b",
        "'a' and 'b' / 'c'",
    ],
)
def test_f16_what_is_no_path_stays(sentence: str) -> None:
    assert without_paths(sentence, {}) == sentence


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied", "/home/somebody/.secret/key"),
        RuntimeError("mongodb://root:password@10.0.0.1/ did not answer"),
        MemoryError(),
        KeyError("/srv/data"),
    ],
)
def test_f16_somebody_elses_message_is_in_the_log_only(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    sentence = tell_error(error, {}, logging.getLogger("a"))
    assert sentence.startswith(f"{type(error).__name__}: look for error ")
    number = sentence.split("error ")[1].split(" ")[0]
    assert number in caplog.text and str(error) in caplog.text
    assert not any(word in sentence for word in ("somebody", "password", "10.0.0.1", "srv"))


def test_f16_a_form_that_fails_says_a_sentence(
    dataset: fo.Dataset, fill: Fill, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(draw_many(pictures, 2))

    def fail(*_: Any) -> None:
        raise PermissionError(13, "Permission denied", "/home/somebody/.secret")

    monkeypatch.setattr("fiftyone_isoclip.app.embed.tell_cost", fail)
    parts = form(dataset, "compute_embeddings", {})
    assert "PermissionError: look for error" in parts["refusal"].error_message
    assert "secret" not in str(parts["refusal"].to_json()) and "token" not in parts


def test_f16_real_errors_of_each_kind_tell_no_path(
    dataset: fo.Dataset,
    fill: Fill,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fill(draw_many(pictures, 4))
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("FIFTYONE_ISOCLIP_MODELS_DIR", str(folder))
    name = write_checkpoint(folder)
    embed(dataset, name, on_samples=False, progress=False)

    # Weights that are damaged: the path was given, so it may be told again.
    damaged = folder / "damaged.safetensors"
    damaged.write_bytes(b"not weights")
    asked = f"{name.partition('/')[0]}/{damaged}"
    said = told(dataset, "compute_embeddings", model=asked, field="other")
    assert "cannot be loaded" in said and str(damaged) in said

    # Files of this package that are damaged.
    files = [path for path in store_folder(dataset, "clip_embedding").rglob("*") if path.is_file()]
    vectors = max(files, key=lambda path: path.stat().st_size)
    content = vectors.read_bytes()
    vectors.write_bytes(content[: len(content) // 2])
    said = told(dataset, "cluster_images")
    # The name of the checkpoint is what the dataset itself says, wherever it is shown.
    assert "cannot be read" in said and no_path_in(said.replace(name, ""), tmp_path)
    assert str(vectors.parent) in caplog.text
    vectors.write_bytes(content)

    # Weights that the dataset was embedded with, and that are gone.
    Path(name.partition("/")[2]).unlink()
    for operator in ("build_similarity_index", "cluster_images"):
        shown = form(dataset, operator, {})
        said = str([part.to_json() for part in shown.values()])
        assert "weights-0" in said and no_path_in(said.replace(name, ""), tmp_path)

    # No folder for files of this package.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FIFTYONE_ISOCLIP_DIR", str(tmp_path / "file"))
    said = told(dataset, "find_exact_duplicates")
    assert "cannot be written" in said and no_path_in(said, tmp_path)
    assert str(tmp_path / "file") in caplog.text
    monkeypatch.setenv("FIFTYONE_ISOCLIP_DIR", str(Path(fo.config.plugins_dir) / "x"))
    said = told(dataset, "find_exact_duplicates")
    assert "set FIFTYONE_ISOCLIP_DIR to another folder" in said
    assert fo.config.plugins_dir not in said


def test_f16_the_panel_tells_no_path(
    dataset: fo.Dataset,
    fill: Fill,
    pictures: Path,
    checkpoint: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    fill(draw_many(pictures, 3))
    embed(dataset, checkpoint, progress=False)
    find_clusters(dataset, count=2)

    def fail(*_: Any) -> None:
        raise OSError(5, "Input/output error", "/home/somebody/.secret")

    def refuse(*_: Any) -> None:
        raise IsoClipError("the file /home/somebody/.secret is damaged")

    panel = Panel(dataset, "clusters")
    for broken, sentence in ((fail, "OSError: look for error"), (refuse, ".../.secret is damaged")):
        monkeypatch.setattr("fiftyone_isoclip.app.panel.clusters.load_clusters", broken)
        shown = texts(panel.send())
        assert sentence in shown and "somebody" not in shown
        panel.do("name")
        assert sentence in panel.told["notify"]["message"]
        assert "somebody" not in str(panel.told)


def test_f16_the_reason_on_a_sample_names_no_path(tmp_path: Path, seed: int) -> None:
    for kind, path in corpus.make_broken(tmp_path, seed).items():
        with pytest.raises(ImageError) as caught:
            read_image(path)
        assert no_path_in(str(caught.value), tmp_path) and "/" not in str(caught.value), kind
