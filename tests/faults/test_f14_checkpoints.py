"""A checkpoint that nobody vouches for: never unpickled, never random, never unbounded, checked."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fiftyone_isoclip.dataset import load_model
from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.encoder.checkpoints import Checkpoint
from fiftyone_isoclip.errors import CheckpointError, IsoClipError
from tests import small_models
from tests.checkpoints import write_checkpoint
from tests.terminal import isoclip, sentence

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small model's weights as safetensors; -> (architecture, file)."""
    name = write_checkpoint(tmp_path_factory.mktemp("weights"))
    architecture, _, file = name.partition("/")
    return architecture, Path(file)


@pytest.fixture
def state(weights):
    """The weights, to be changed."""
    return load_file(weights[1])


@pytest.fixture
def load(weights):
    """Load a file as a checkpoint of the small architecture."""
    return lambda file: load_clip(f"{weights[0]}/{file}", device="cpu", precision="float32")


class Trap:
    """Runs code when it is unpickled: a file is made."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


class Stumble:
    """Is allowed by the careful unpickler, which then fails on it."""

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, (1,)


def _zipped(content, file):
    torch.save(content, file)


def _legacy(content, file):
    torch.save(content, file, _use_new_zipfile_serialization=False)


def _bare(content, file):
    file.write_bytes(pickle.dumps(content))


def _array(content, file):
    with file.open("wb") as opened:
        np.save(opened, np.array([content], dtype=object), allow_pickle=True)


def _arrays(content, file):
    with file.open("wb") as opened:
        np.savez(opened, weights=np.array([content], dtype=object))


@pytest.mark.parametrize("write", [_zipped, _legacy, _bare, _array, _arrays])
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "a.npz"])
@pytest.mark.parametrize("decoys", [[], [Stumble()]], ids=["alone", "behind a stumble"])
def test_f14_a_pickle_that_runs_code_is_refused_and_not_run(write, name, decoys, load, tmp_path):
    proof = tmp_path / "ran"
    write({"state_dict": {"a": decoys, "b": Trap(proof)}}, tmp_path / name)
    with pytest.raises(CheckpointError):
        load(tmp_path / name)
    assert not proof.exists()
    # The trap is a real one.
    pickle.loads(pickle.dumps(Trap(proof)))
    assert proof.exists()


def test_f14_a_pickle_in_a_folder_is_not_run(weights, tmp_path):
    proof = tmp_path / "ran"
    _configure(tmp_path)
    torch.save({"b": Trap(proof)}, tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"could run code.*\.safetensors"):
        load_clip(f"local-dir:{tmp_path}")
    assert not proof.exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:.*TorchScript")
def test_f14_a_module_or_a_script_in_place_of_weights_is_refused(load, tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    for name in ("module.pt", "script.pt"):
        with pytest.raises(CheckpointError, match=r"could run code.*save its state_dict"):
            load(tmp_path / name)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("key", ["visual.proj", "transformer.resblocks.1.ln_1.bias"])
def test_f14_weights_that_are_not_finite_are_named(key, value, state, load, tmp_path):
    state[key].view(-1)[-1] = value
    save_file(state, tmp_path / "bad.safetensors")
    with pytest.raises(CheckpointError, match=f"NaN or infinity in '{key}'"):
        load(tmp_path / "bad.safetensors")


@pytest.mark.parametrize(
    ("key", "side"), [("visual.proj", "image"), ("text_projection", "text"), (None, "image")]
)
def test_f14_a_map_of_zeros_is_refused(key, side, state, load, tmp_path):
    for name in [key] if key else list(state):
        state[name].zero_()
    save_file(state, tmp_path / "bad.safetensors")
    with pytest.raises(CheckpointError, match=f"map of the {side} tower .* is zero everywhere"):
        load(tmp_path / "bad.safetensors")


def test_f14_a_map_of_low_rank_loads_and_keeps_that_rank(state, load, tmp_path):
    column = state["visual.proj"][:, :1]
    state["visual.proj"] = (column * torch.linspace(1, 2, 24)).contiguous()
    save_file(state, tmp_path / "low.safetensors")
    clip = load(tmp_path / "low.safetensors")
    assert clip.spectrum.rank == 1
    assert clip.isoclip().dim == 1
    with pytest.raises(IsoClipError, match="keeps none of 1"):
        clip.isoclip(clip.image_band.parse("1/0"))


def _without_a_key(state):
    del state["visual.proj"]


def _with_another_shape(state):
    state["visual.proj"] = torch.zeros(7, 7)


def _with_a_strange_key(state):
    state["visual.another"] = torch.zeros(3)


def _of_the_text_alone(state):
    for key in [key for key in state if key.startswith("visual.")]:
        del state[key]


@pytest.mark.parametrize(
    "harm", [_without_a_key, _with_another_shape, _with_a_strange_key, _of_the_text_alone]
)
def test_f14_weights_of_another_architecture_are_refused(harm, state, load, tmp_path):
    harm(state)
    save_file(state, tmp_path / "bad.safetensors")
    with pytest.raises(CheckpointError, match=r"cannot be loaded into .* small-worded .*visual\."):
        load(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("content", [{}, [1, 2], {"a": 1}, {"state_dict": {}}, "text"])
def test_f14_what_is_no_set_of_weights_is_refused(content, load, tmp_path):
    torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load(tmp_path / "bad.pt")


@pytest.mark.parametrize("name", ["bad.safetensors", "bad.pt", "bad.bin"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"<html>not found</html>" * 99])
def test_f14_a_damaged_file_is_refused(name, content, load, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot be loaded|damaged"):
        load(tmp_path / name)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
@pytest.mark.parametrize("write", [_zipped, _legacy])
def test_f14_a_truncated_file_is_refused(write, share, weights, state, load, tmp_path):
    write(state, tmp_path / "whole.pt")
    for name, whole in {"a.safetensors": weights[1], "a.pt": tmp_path / "whole.pt"}.items():
        content = whole.read_bytes()
        (tmp_path / name).write_bytes(content[: int(share * len(content))])
        with pytest.raises(CheckpointError, match=r"check that the file is complete|damaged"):
            load(tmp_path / name)


def _safetensors(header, size=None, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + body


def _tensor(start, end, shape):
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


LIES = {
    "a header of an exabyte": _safetensors({}, 2**60),
    "a header longer than the file": _safetensors({}, 5000),
    "data beyond the file": _safetensors({"a": _tensor(0, 4 * 10**12, [10**6, 10**6])}),
    "a shape beyond its data": _safetensors({"a": _tensor(0, 16, [10**6, 10**6])}, body=b"\0" * 16),
    "data that ends before it starts": _safetensors({"a": _tensor(16, 0, [2, 2])}, body=b"\0" * 16),
    "two tensors in one place": _safetensors(
        {"a": _tensor(0, 16, [2, 2]), "b": _tensor(8, 24, [2, 2])}, body=b"\0" * 24
    ),
    "a shape that overflows": _safetensors({"a": _tensor(0, 16, [2**33, 2**33])}, body=b"\0" * 16),
    "nested without end": _safetensors(b"[" * 90_000),
    "no tensors": _safetensors({}),
    "a header that is no JSON": _safetensors(b"\xff" * 90),
}


@pytest.mark.parametrize("lie", LIES)
def test_f14_a_file_that_lies_about_itself_is_refused(lie, load, tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(LIES[lie])
    with pytest.raises(CheckpointError, match="check that the file is complete"):
        load(tmp_path / "bad.safetensors")


def _compressed(state, file, times):
    """An archive as no torch.save writes it; the first storage has become so many times larger."""
    plain = io.BytesIO()
    torch.save(state, plain)
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target,
    ):
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("/data/0"):
                content = bytes(times * len(content))
            target.writestr(entry.filename, content)


def test_f14_an_archive_that_unpacks_to_far_more_is_refused_unread(load, tmp_path, monkeypatch):
    _compressed({"visual.proj": torch.randn(1000)}, tmp_path / "bomb.pt", 5000)
    read = []
    monkeypatch.setattr(torch, "load", lambda *args, **options: read.append(args))
    with pytest.raises(CheckpointError, match=r"unpacks to [0-9,]+, which weights never do"):
        load(tmp_path / "bomb.pt")
    assert read == []


def test_f14_an_archive_that_is_merely_compressed_is_read(state, load, tmp_path):
    _compressed(state, tmp_path / "small.pt", 1)
    assert load(tmp_path / "small.pt").fingerprint


def test_f14_weights_are_never_made_up(weights, tmp_path):
    architecture, file = weights
    with pytest.raises(CheckpointError, match="random"):
        load_clip(Checkpoint("mine", architecture, ""))
    with pytest.raises(CheckpointError, match="there is no such file"):
        load_clip(Checkpoint("mine", architecture, "gone.safetensors"))
    with pytest.raises(CheckpointError, match=r"neither a tag of .* nor an existing file"):
        load_clip(f"{architecture}/{file.parent}")
    with pytest.raises(CheckpointError, match=r"neither a tag of .* nor an existing file"):
        load_clip(f"{architecture}/dev/zero")
    with pytest.raises(CheckpointError):
        load_clip(f"{architecture}/")


@pytest.mark.timeout(30)
def test_f14_a_pipe_is_not_waited_for(weights, tmp_path):
    os.mkfifo(tmp_path / "open_clip_model.safetensors")
    pipe = tmp_path / "open_clip_model.safetensors"
    with pytest.raises(CheckpointError, match=r"neither a tag of .* nor an existing file"):
        load_clip(f"{weights[0]}/{pipe}")
    with pytest.raises(CheckpointError, match="no such file"):
        load_clip(Checkpoint("mine", weights[0], str(pipe)))
    _configure(tmp_path)
    with pytest.raises(CheckpointError, match="which is no regular file"):
        load_clip(f"local-dir:{tmp_path}")


def _configure(folder, preprocessing=None, **text):
    config = small_models.CONFIGS["vit"]
    model = config | {"text_cfg": config["text_cfg"] | text}
    written = {"model_cfg": model, "preprocess_cfg": preprocessing or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(written))


def _bring_weights(folder):
    """The weights of the architecture that ``_configure`` writes."""
    architecture = small_models.register("vit", folder)
    state = small_models.build(architecture).state_dict()
    save_file(state, folder / "open_clip_model.safetensors")


@pytest.mark.parametrize("content", [None, b"", b"garbage"])
def test_f14_a_folder_without_whole_weights_is_never_random(content, tmp_path):
    _configure(tmp_path)
    if content is not None:
        (tmp_path / "open_clip_model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"holds no weights|cannot be loaded") as told:
        load_clip(f"local-dir:{tmp_path}")
    assert "hub" not in str(told.value)


@pytest.mark.parametrize("config", [None, "", "[]", "{}", '{"model_cfg": {}}', "[" * 5000])
def test_f14_a_folder_with_a_damaged_configuration_is_refused(config, tmp_path):
    _bring_weights(tmp_path)
    if config is not None:
        (tmp_path / "open_clip_config.json").write_text(config)
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_clip(f"local-dir:{tmp_path}")


@pytest.mark.parametrize(
    "preprocessing",
    [
        {"std": [0, 0, 0]},
        {"mean": [float("nan")] * 3},
        {"mean": [0.5, 0.5]},
        {"mean": "abc"},
        {"interpolation": "no such"},
        {"resize_mode": "no such"},
        {"fill_color": "no such", "resize_mode": "longest"},
    ],
    ids=str,
)
def test_f14_preprocessing_that_cannot_work_is_refused_on_loading(preprocessing, tmp_path):
    _bring_weights(tmp_path)
    _configure(tmp_path, preprocessing)
    with pytest.raises(CheckpointError, match=r"preprocessing .* cannot be used"):
        load_clip(f"local-dir:{tmp_path}", device="cpu")


def test_f14_a_tokenizer_never_brings_code(tmp_path):
    """Its configuration could ask transformers to import a module that lies beside it."""
    _bring_weights(tmp_path)
    asked = {"hf_tokenizer_name": "mine", "tokenizer_kwargs": {"trust_remote_code": True}}
    _configure(tmp_path, **asked)
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["mine.Mine", None]}})
    )
    (tmp_path / "mine.py").write_text(
        f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()"
    )
    clip = load_clip(f"local-dir:{tmp_path}", device="cpu", precision="float32")
    with pytest.raises(CheckpointError, match="asks to run code that comes with it"):
        clip.text_embeddings(["a dog"])
    assert not (tmp_path / "ran").exists()
    assert clip.image_embeddings(torch.zeros(1, 3, 32, 32)).shape == (1, clip.dim)


def test_f14_every_door_gives_the_reason(state, weights, tmp_path):
    state["visual.proj"][0, 0] = float("nan")
    save_file(state, tmp_path / "bad.safetensors")
    name = f"{weights[0]}/{tmp_path / 'bad.safetensors'}"
    with pytest.raises(CheckpointError, match=r"NaN or infinity in 'visual.proj'"):
        load_model(name)
    (tmp_path / "a.png").touch()
    told = sentence(isoclip("embed", tmp_path, "--model", name, "--out", tmp_path / "e.npz"))
    assert "NaN or infinity in 'visual.proj'" in told
    assert not (tmp_path / "e.npz").exists()
