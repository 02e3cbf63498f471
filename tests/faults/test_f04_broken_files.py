"""A file that is no whole picture fails alone and with a reason, at every door; nothing hangs."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass

import numpy as np
import pytest
from fiftyone.core.media import get_media_type

from fiftyone_isoclip.dataset import embed, load_model
from fiftyone_isoclip.encoder import ImageLimits, embed_images, load_clip, read_image
from fiftyone_isoclip.errors import ImageError
from fiftyone_isoclip.files import rank_keepers
from tests import corpus
from tests.pictures import draw_many
from tests.seeds import SEED
from tests.terminal import isoclip

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """The corpus: kind -> path."""
    print(f"FAULTS_SEED={SEED} draws the same again")
    return corpus.make_broken(tmp_path_factory.mktemp("broken"), SEED)


@pytest.fixture(scope="module")
def reasons(broken):
    """Why each file is not read: path -> reason."""
    return {str(path): reason_of(path) for path in broken.values()}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return draw_many(tmp_path_factory.mktemp("good"), 17)


@pytest.fixture(scope="module")
def clip():
    return load_clip("isoclip-demo", device="cpu", precision="float32")


def reason_of(path):
    with pytest.raises(ImageError) as told:
        read_image(path)
    return str(told.value)


def known_to_fiftyone(broken):
    """FiftyOne tells an image by its suffix, and knows some suffixes of ours on some machines."""
    return [path for path in broken.values() if get_media_type(str(path)) == "image"]


def shuffled(seed, *paths):
    """Files in an order drawn from the seed, as strings."""
    mixed = [str(path) for each in paths for path in each]
    return [mixed[place] for place in np.random.default_rng(seed).permutation(len(mixed))]


def test_f04_every_kind_has_its_reason_in_a_few_words(broken, reasons):
    for kind, path in broken.items():
        reason = reasons[str(path)]
        assert re.search(corpus.BROKEN[kind][1], reason, re.IGNORECASE), (kind, reason)
        assert str(path.parent) not in reason
        assert len(reason) < 160


def test_f04_a_name_with_a_nul_has_a_reason(tmp_path):
    assert "embedded null" in reason_of(f"{tmp_path}/a\0b.jpg")


def test_f04_batch_mates_are_unharmed_to_the_last_bit(broken, reasons, good, clip, seed):
    mixed = shuffled(seed, broken.values(), good)
    failed = {}
    for batch in embed_images(clip, mixed, batch_size=8):
        failed |= {mixed[row]: reason for row, reason in batch.failures.items()}
        mates = [mixed[row] for row in batch.rows]
        # The size of a batch changes how a product is rounded: compare with one of the same size.
        for without in embed_images(clip, mates, batch_size=8):
            assert np.array_equal(batch.embeddings, without.embeddings)
    assert failed == reasons


def test_f04_the_reason_is_on_the_sample_and_batch_mates_keep_their_vectors(
    broken, reasons, good, clip, dataset, fill, seed
):
    fill(shuffled(seed, known_to_fiftyone(broken), good))
    reasons = {str(path): reasons[str(path)] for path in known_to_fiftyone(broken)}
    report = embed(dataset, clip, batch_size=8, progress=False)
    assert report.computed == len(good)
    errors = dict(zip(*dataset.values(["filepath", "clip_embedding_error"]), strict=True))
    assert {path: reason for path, reason in errors.items() if reason} == reasons
    assert sorted(dataset.exists("clip_embedding").values("filepath")) == sorted(good)
    assert sorted(report.failed.values()) == sorted(reasons.values())


def test_f04_fiftyones_own_way_of_embedding_loses_only_the_broken_files(
    broken, good, dataset, fill, seed
):
    paths = shuffled(seed, known_to_fiftyone(broken), good)
    fill(paths)
    model = load_model("isoclip-demo", device="cpu", precision="float32")
    vectors = dataset.compute_embeddings(model, batch_size=8, num_workers=0)
    embedded = [path for path, vector in zip(paths, vectors, strict=True) if vector is not None]
    assert sorted(embedded) == sorted(good)


@pytest.mark.parametrize("command", ["embed", "duplicates"])
def test_f04_a_command_names_every_file_of_a_folder_that_it_could_not_read(
    command, broken, reasons, tmp_path
):
    out = ["--out", tmp_path / "e.npz"] if command == "embed" else []
    root = broken["empty"].parent.parent
    draw_many(root / "good", 2)
    done = isoclip(command, root, *out, "--json", tmp_path / "report.json")
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "report.json").read_text())
    failed = {failure["path"]: failure["reason"] for failure in report["failed"]}
    # A folder is entered, and what is missing is not there to be listed.
    unlisted = {str(broken["folder"]), str(broken["missing"])}
    assert failed == {path: why for path, why in reasons.items() if path not in unlisted}
    assert report["images"] == len(failed) + 2


@pytest.mark.parametrize("rule", ["largest", "sharpest", "earliest"])
def test_f04_what_cannot_even_be_opened_is_no_keeper(rule, broken, reasons, good):
    paths = [*reasons, good[0]]
    ranking = rank_keepers(paths, rule)
    unopened = re.compile("known format|no such|folder|regular|levels|empty|more than .* bytes")
    behind = [row for row, path in enumerate(reasons) if unopened.search(reasons[path])]
    assert len(behind) > 15
    assert all(ranking.prefer[row] > ranking.prefer[-1] for row in behind)
    assert all("unreadable" in ranking.reasons[row] for row in behind)


@dataclass(frozen=True)
class Swapping(ImageLimits):
    """Puts a pipe in the place of a file once the file has been looked at."""

    path: str = ""

    def check_bytes(self, found):
        os.unlink(self.path)  # noqa: PTH108
        os.mkfifo(self.path)


@pytest.mark.timeout(20)
def test_f04_a_pipe_that_takes_a_files_place_is_not_waited_for(tmp_path):
    (path,) = draw_many(tmp_path, 1)
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(path, limits=Swapping(path=path))


@pytest.mark.timeout(60)
def test_f04_a_decoder_that_takes_too_long_is_ended(tmp_path):
    # No interpreter starts, let alone decodes, within that time.
    (tmp_path / "a.j2k").write_bytes(corpus.j2k(9000, 9000))
    with pytest.raises(ImageError, match=r"not decoded within 0\.01 seconds"):
        read_image(tmp_path / "a.j2k", limits=ImageLimits(seconds=0.01))


def test_f04_a_file_that_turned_bad_loses_its_old_vector_until_it_is_mended(
    good, clip, dataset, fill, tmp_path
):
    paths = draw_many(tmp_path, 3)
    whole = (tmp_path / "001.png").read_bytes()
    ids = fill(paths)
    embed(dataset, clip, progress=False)
    (tmp_path / "001.png").write_text("gone bad")
    assert list(embed(dataset, clip, progress=False).failed) == [ids[1]]
    sample = dataset[ids[1]]
    assert (sample["clip_embedding"], sample["clip_embedding_source"]) == (None, None)
    (tmp_path / "001.png").write_bytes(whole)
    assert embed(dataset, clip, progress=False).computed == 1
    sample.reload()
    assert sample["clip_embedding"] is not None
    assert sample["clip_embedding_error"] is None
