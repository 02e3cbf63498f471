"""Search among files finds what numpy finds in the embeddings."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.files import embed_files, list_files, search_files, search_files_by_text
from fiftyone_isoclip.projector import Band
from tests.checkpoints import write_checkpoint
from tests.folders import fill_folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    name = write_checkpoint(tmp_path_factory.mktemp("weights"))
    return load_clip(name, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fill_folder(tmp_path_factory.mktemp("files") / "pictures")


@pytest.fixture(scope="module")
def gallery(folder, clip):
    return embed_files(list_files(folder.path), clip)


def expected(gallery, queries, matrix, skipped=None):
    """The paths and cosines of one query (r,), most similar first."""
    rows = gallery.embeddings.astype(np.float64) @ matrix.T
    query = matrix @ queries.astype(np.float64)
    scores = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    order = [row for row in np.argsort(-scores) if gallery.embedded_paths[row] != skipped]
    return [(gallery.embedded_paths[row], scores[row]) for row in order]


def assert_same(matches, wanted):
    """The scores are the best ones in order, and each path has its own; copies may swap places."""
    best = [score for _, score in wanted[: len(matches)]]
    own = [dict(wanted)[match.path] for match in matches]
    found = [match.similarity for match in matches]
    assert found == pytest.approx(best, abs=1e-5)
    assert found == pytest.approx(own, abs=1e-5)


@pytest.mark.parametrize("band", [None, Band(0, 0), Band(2, 3)])
def test_results_are_the_largest_cosines_under_the_band(gallery, folder, clip, band):
    matrix = np.eye(clip.dim) if band == Band(0, 0) else clip.isoclip(band).matrix
    results = search_files(gallery, clip, folder.scenes, count=4, band=band)
    assert [result.query for result in results] == folder.scenes
    for result in results:
        assert len(result.matches) == 4
        row = gallery.embedded_paths.index(result.query)
        wanted = expected(gallery, gallery.embeddings[row], matrix, skipped=result.query)
        assert_same(result.matches, wanted)


def test_a_query_never_finds_itself_by_any_name_but_finds_its_copy(gallery, folder, clip):
    by_link, by_copy = search_files(gallery, clip, [folder.link, folder.exact_copy], count=20)
    assert len(by_link.matches) == len(folder.readable) - 1
    assert folder.scenes[1] not in {match.path for match in by_link.matches}
    assert by_copy.matches[0].path == folder.scenes[3]
    assert by_copy.matches[0].similarity == pytest.approx(1, abs=1e-6)


def test_a_query_from_elsewhere_may_find_everything(gallery, folder, clip, tmp_path):
    stranger = tmp_path / "stranger.png"
    stranger.write_bytes(b"")
    twin = tmp_path / "twin.png"
    shutil.copyfile(folder.scenes[7], twin)
    failed, found, again = search_files(
        gallery, clip, [str(stranger), str(twin), str(twin)], count=99
    )
    assert (failed.matches, failed.failed) == ((), "the file is empty")
    assert found == again
    assert len(found.matches) == len(folder.readable)
    assert found.matches[0].path == folder.scenes[7]


def test_text_is_compared_by_plain_embeddings_on_both_sides(gallery, clip):
    prompts = ["a red square", "stripes"]
    results = search_files_by_text(gallery, clip, prompts, count=5)
    for result, embedding in zip(results, clip.text_embeddings(prompts), strict=True):
        assert_same(result.matches, expected(gallery, embedding, np.eye(clip.dim)))


def test_the_report_has_the_promised_keys(gallery, folder, clip):
    [result] = search_files(gallery, clip, folder.scenes[:1], count=1)
    [match] = result.matches
    assert result.to_json() == {
        "query": folder.scenes[0],
        "results": [{"path": match.path, "similarity": match.similarity}],
    }


def test_f09_nothing_to_search_in_or_for(gallery, folder, clip):
    assert search_files([], clip, folder.scenes[:1], count=3)[0].matches == ()
    assert search_files_by_text([], clip, ["x"], count=3)[0].matches == ()
    assert search_files(gallery, clip, [], count=3) == []
    with pytest.raises(VectorError, match="at least 1"):
        search_files_by_text(gallery, clip, ["x"], count=0)
