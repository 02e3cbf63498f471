from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file

from fiftyone_isoclip.dataset import embed, find_similar
from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import BandError, DatasetError, ImageError, VectorError
from fiftyone_isoclip.projector import WHOLE, Band
from tests.pictures import draw, draw_many, recompress

FIELD = "clip_embedding"


@pytest.fixture
def gallery(dataset, fill, pictures, checkpoint):
    """12 pictures with embeddings; -> their ids."""
    ids = fill(draw_many(pictures, 12))
    embed(dataset, checkpoint, progress=False)
    return ids


def ranking(dataset, checkpoint, query, band=None):
    """The ids of all samples by IsoCLIP cosine to plain vectors (m, r), by brute force."""
    to_isoclip = load_clip(checkpoint).isoclip(band)
    rows = to_isoclip(np.stack(dataset.values(FIELD))).astype(np.float64)
    scores = rows @ to_isoclip(query).astype(np.float64).mean(axis=0)
    order = np.argsort(-scores, kind="stable")
    return [dataset.values("id")[row] for row in order], scores[order]


@pytest.mark.parametrize("band", [None, WHOLE, Band(4, 4)])
def test_a_sample_finds_its_nearest_and_never_itself(dataset, gallery, checkpoint, band):
    report = find_similar(dataset, gallery[3], 5, band=band)
    ids, scores = ranking(dataset, checkpoint, dataset[gallery[3]][FIELD][None], band)
    assert ids[0] == gallery[3]
    assert report.ids == ids[1:6]
    np.testing.assert_allclose(report.similarities, scores[1:6], atol=1e-5)
    assert report.view.values("id") == report.ids


def test_several_samples_are_searched_for_by_their_mean_direction(dataset, gallery, checkpoint):
    query = [gallery[2], gallery[7]]
    ids, _ = ranking(dataset, checkpoint, np.stack(dataset.select(query).values(FIELD)))
    assert find_similar(dataset, query, 20).ids == [id_ for id_ in ids if id_ not in query]


def test_an_image_file_and_a_vector(dataset, gallery, checkpoint, pictures):
    path = recompress(str(pictures / "004.png"), pictures / "query.jpg")
    report = find_similar(dataset, path, 3)
    assert report.ids[0] == gallery[4]
    assert find_similar(dataset, Path(path), 3).ids == report.ids
    plain = dataset[gallery[5]][FIELD] * 3
    ids, scores = ranking(dataset, checkpoint, plain[None])
    for vector in (plain, plain.tolist(), plain[None]):
        report = find_similar(dataset, vector, 12)
        assert report.ids == ids
        np.testing.assert_allclose(report.similarities, scores / scores[0], atol=1e-5)


def test_a_text_is_compared_in_plain_clip_as_open_clip_does(dataset, gallery, checkpoint):
    architecture, _, weights = checkpoint.partition("/")
    model = open_clip.create_model(architecture)
    model.load_state_dict(load_file(weights))
    model.eval()
    prompt = open_clip.get_tokenizer(architecture)(["a photo of a cat"])
    with torch.no_grad():
        text = model.encode_text(prompt, normalize=True).numpy()[0]
    plain = np.stack(dataset.values(FIELD))
    scores = plain @ text / np.linalg.norm(plain, axis=1)
    report = find_similar(dataset, text="a photo of a cat", k=12)
    found = dict(zip(report.ids, report.similarities, strict=True))
    np.testing.assert_allclose([found[id_] for id_ in gallery], scores, atol=5e-3)
    assert report.similarities == sorted(report.similarities, reverse=True)


def test_the_demo_checkpoint_says_which_words_it_does_not_know(dataset, fill, pictures):
    fill(draw_many(pictures, 2))
    embed(dataset, "isoclip-demo", progress=False)
    assert find_similar(dataset, text="a red zyzzyva").unknown_words == ("zyzzyva",)


def test_only_samples_of_the_view_are_found_but_others_may_be_asked_for(dataset, gallery):
    view = dataset.select(gallery[:6])
    report = find_similar(view, gallery[10], 25)
    assert set(report.ids) == set(gallery[:6])
    everything = find_similar(dataset, gallery[10], 25).ids
    assert report.ids == [id_ for id_ in everything if id_ in gallery[:6]]


def test_f10_deleted_and_new_samples_are_seen_at_once(dataset, fill, gallery, pictures, checkpoint):
    best = find_similar(dataset, gallery[0], 1).ids[0]
    dataset.delete_samples([best])
    new = fill([recompress(str(pictures / "000.png"), pictures / "new.jpg")])
    assert find_similar(dataset, gallery[0], 3).skipped.keys() == set(new)
    embed(dataset, checkpoint, progress=False)
    report = find_similar(dataset, gallery[0], 11)
    assert report.ids[0] == new[0]
    assert len(report.ids) == 11
    assert best not in report.ids


def test_f10_a_sample_whose_file_has_changed_is_not_found(dataset, gallery, pictures, checkpoint):
    before = find_similar(dataset, gallery[0], 11)
    changed = before.ids[:3]
    for id_ in changed:
        recompress(str(pictures / "011.png"), dataset[id_].filepath)
    report = find_similar(dataset, gallery[0], 5)
    assert report.ids == before.ids[3:8]
    assert report.similarities == before.similarities[3:8]
    assert {id_: "changed" in why for id_, why in report.skipped.items()} == dict.fromkeys(
        changed, True
    )
    assert not set(find_similar(dataset, text="a dog", k=12).ids) & set(changed)
    embed(dataset, checkpoint, progress=False)
    assert set(changed) <= set(find_similar(dataset, gallery[0], 11).ids)


def test_f09_nothing_and_one(dataset, fill, pictures, checkpoint):
    embed(dataset, checkpoint, progress=False)
    assert find_similar(dataset, text="a dog").ids == []
    assert find_similar(dataset, np.ones(24)).ids == []
    ids = fill([draw(pictures / "1.png", 1)])
    embed(dataset, checkpoint, progress=False)
    assert find_similar(dataset, ids[0]).ids == []
    assert len(find_similar(dataset, ids[0]).view) == 0
    assert find_similar(dataset, text="a dog").ids == ids


def test_what_cannot_be_asked(dataset, fill, gallery, pictures, checkpoint):
    with pytest.raises(DatasetError, match="one thing to look for"):
        find_similar(dataset)
    with pytest.raises(DatasetError, match="one thing to look for"):
        find_similar(dataset, gallery[0], text="a dog")
    with pytest.raises(DatasetError, match="at least 1"):
        find_similar(dataset, gallery[0], 0)
    with pytest.raises(DatasetError, match="at least one sample"):
        find_similar(dataset, [])
    with pytest.raises(DatasetError, match="no such sample"):
        find_similar(dataset, "0" * 24)
    with pytest.raises(ImageError, match=r"nowhere\.png"):
        find_similar(dataset, "nowhere.png")
    with pytest.raises(VectorError):
        find_similar(dataset, np.ones(7))
    with pytest.raises(VectorError):
        find_similar(dataset, np.full(24, np.nan))
    (late,) = fill([draw(pictures / "late.png", 88)])
    with pytest.raises(DatasetError, match="no embedding yet"):
        find_similar(dataset, late)
    with pytest.raises(DatasetError, match="embed"):
        find_similar(dataset, gallery[0], field="nowhere")


def test_vectors_of_boxes_are_not_those_of_samples(dataset, gallery, checkpoint):
    whole = fo.Detection(label="all", bounding_box=[0, 0, 1, 1])
    dataset.set_values("things", [fo.Detections(detections=[whole.copy()]) for _ in gallery])
    embed(dataset, checkpoint, patches_field="things", progress=False)
    with pytest.raises(DatasetError, match="vectors of boxes"):
        find_similar(dataset, gallery[0], field=f"things.detections.{FIELD}")


def test_a_band_may_be_written_as_on_the_command_line(dataset, fill, pictures, checkpoint):
    ids = fill(draw_many(pictures, 6))
    embed(dataset, checkpoint, progress=False)
    written = find_similar(dataset, ids[0], band="0/0")
    assert written.similarities == find_similar(dataset, ids[0], band=Band(0, 0)).similarities
    assert written.similarities != find_similar(dataset, ids[0], band="6/6").similarities
    with pytest.raises(BandError, match="is not a band"):
        find_similar(dataset, ids[0], band="x/y")
