"""Clusters, indexes, maps and upgrades through FiftyOne's executors, against the direct verbs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone.operators.executor import ExecutionError

from fiftyone_isoclip import (
    build_similarity,
    embed,
    find_clusters,
    find_similar,
    load_clip,
    map_embeddings,
    upgrade,
)
from fiftyone_isoclip.install import PLUGIN_NAME, install_plugin
from tests.integration.test_operators import ask, form_errors, messages
from tests.pictures import draw_many, recompress

CLUSTER = f"{PLUGIN_NAME}/cluster_images"
INDEX = f"{PLUGIN_NAME}/build_similarity_index"
MAP = f"{PLUGIN_NAME}/map_embeddings"
UPGRADE = f"{PLUGIN_NAME}/upgrade_embeddings"
Fill = Callable[[Sequence[str]], list[str]]


@pytest.fixture(scope="module", autouse=True)
def _plugin() -> Iterator[None]:
    install_plugin(fo.config.plugins_dir)
    yield
    import fiftyone.plugins as fop

    fop.delete_plugin(PLUGIN_NAME)


@pytest.fixture
def families(dataset: fo.Dataset, fill: Fill, pictures: Path, checkpoint: str) -> list[str]:
    """Three pictures in 5, 4 and 3 versions, with embeddings; -> the ids in this order."""
    paths = [
        recompress(path, pictures / f"{family}-{quality}.jpg", 60 + quality)
        for family, (path, n) in enumerate(zip(draw_many(pictures, 3), (5, 4, 3), strict=True))
        for quality in range(n)
    ]
    ids = fill(paths)
    embed(dataset, checkpoint, progress=False)
    return ids


def defaults(verb: Any, *names: str) -> dict[str, Any]:
    return {name: inspect.signature(verb).parameters[name].default for name in names}


def test_clusters_are_those_of_the_verb_and_the_grid_shows_them(
    dataset: fo.Dataset, families: list[str]
) -> None:
    sent = messages(ask(dataset, CLUSTER, count=3, band="0/0"), CLUSTER)
    result = dict(sent)["show_output"]["results"]
    direct = find_clusters(dataset, count=3, band="0/0", key="direct")
    assert dataset.values("clusters") == dataset.values("direct")
    assert dataset.values("clusters_similarity") == dataset.values("direct_similarity")
    assert (result["clusters"], result["largest"], result["images"], result["noise"]) == (
        len(direct.clusters),
        direct.clusters[0].size,
        12,
        0,
    )
    assert result["silhouette"] == direct.silhouette
    shown = fo.DatasetView._build(dataset, dict(sent)["set_view"]["view"])
    groups = {frozenset(group.values("id")) for group in shown.iter_dynamic_groups()}
    assert groups == {frozenset(families[a:b]) for a, b in ((0, 5), (5, 9), (9, 12))}
    assert "12 images in 3 clusters, the largest of 5" in dict(sent)["notify"]["message"]


def test_leiden_is_not_stopped_by_a_count_typed_before(
    dataset: fo.Dataset, families: list[str]
) -> None:
    view = dataset.select(families[:9])
    result = foo.get_operator(CLUSTER)(view, method="leiden", count=7).result
    direct = find_clusters(view, method="leiden", key="direct")
    assert (result["clusters"], result["noise"]) == (direct.n_clusters, direct.n_noise)
    assert dataset.values("clusters") == dataset.values("direct")


def test_an_index_is_the_verbs_and_embeds_what_is_new(
    dataset: fo.Dataset, families: list[str], fill: Fill, pictures: Path, checkpoint: str
) -> None:
    (new,) = fill(draw_many(pictures / "new", 1, first_seed=50))
    ctx = ask(dataset, INDEX, storage="float16")
    form = foo.get_operator(INDEX).resolve_type(ctx, "inputs").type.properties
    told = form["writes"].view.label
    assert "the 12 images" in told and "those of the 1 without one" in told
    result = dict(messages(ctx, INDEX))["show_output"]["results"]
    assert (result["images"], result["embedded"], result["failed"]) == (13, 1, 0)
    assert result["storage"] == "float16"
    direct = build_similarity(dataset, checkpoint, brain_key="direct", storage="float16")
    made = dataset.load_brain_results("isoclip_search")
    query = [families[0], new]
    for index in (made, direct):
        assert index.total_index_size == 13
    order = [
        dataset.sort_by_similarity(one, brain_key=key).values("id")
        for one in query
        for key in ("isoclip_search", "direct")
    ]
    assert order[0] == order[1] and order[2] == order[3]
    assert set(order[0][:5]) == set(families[:5])
    assert result["band"] == made.config.band == direct.config.band


def test_an_index_is_replaced_with_another_band_if_it_is_asked_for(
    dataset: fo.Dataset, families: list[str], checkpoint: str
) -> None:
    build = foo.get_operator(INDEX)
    build(dataset, band="1/0")
    with pytest.raises(ExecutionError, match="already"):
        build(dataset, band="2/3")
    assert build(dataset, band="2/3", replace=True).result["band"] == "2/3"
    (key,) = dataset.list_brain_runs()
    found = dataset.sort_by_similarity(families[0], brain_key=key).values("id")
    assert found[1:] == find_similar(dataset, families[0], 11, band="2/3").ids
    map_embeddings(dataset, brain_key="a_map")
    with pytest.raises(ExecutionError, match="already"):
        build(dataset, key="a_map", replace=True)


def test_a_map_is_the_verbs_and_its_panel_is_opened(
    dataset: fo.Dataset, families: list[str]
) -> None:
    sent = messages(ask(dataset, MAP, band="2/3", method="pca"), MAP)
    result = dict(sent)["show_output"]["results"]
    assert (result["images"], result["skipped"], result["band"]) == (12, 0, "2/3")
    assert dict(sent)["open_panel"]["name"] == "Embeddings"
    map_embeddings(dataset, band="2/3", brain_key="direct")
    made, direct = (dataset.load_brain_results(key) for key in ("isoclip_map", "direct"))
    np.testing.assert_allclose(made.points, direct.points, atol=1e-6)
    assert made.sample_ids.tolist() == direct.sample_ids.tolist() == families


def test_an_upgrade_gives_the_papers_vectors_and_registers_the_old(
    dataset: fo.Dataset, families: list[str], checkpoint: str
) -> None:
    dataset.add_sample_field("theirs", fo.VectorField)
    dataset.set_values("theirs", dataset.values("clip_embedding"))
    asked = foo.get_operator(UPGRADE)(dataset, "theirs", checkpoint, band="1/2")
    result = asked.result
    assert (result["n_upgraded"], result["skipped"], result["n_checked"]) == (12, 0, 8)
    assert result["agreement"] > 0.99
    from fiftyone_isoclip import Band

    expected = load_clip(checkpoint).isoclip(Band(1, 2))(np.stack(dataset.values("theirs")))
    made = np.stack(dataset.values("isoclip_embedding"))
    np.testing.assert_allclose(made, expected, atol=1e-6)
    assert made.shape[1] == result["dim"]
    direct = upgrade(dataset, "theirs", checkpoint, into="again", band=Band(1, 2))
    assert direct.dim == result["dim"]
    np.testing.assert_array_equal(np.stack(dataset.values("again")), made)
    # Known from now on: it can be clustered, and is no longer offered for an upgrade.
    assert foo.get_operator(CLUSTER)(dataset, field="theirs", count=3).result["clusters"] == 3
    assert "no field of vectors" in form_errors(ask(dataset, UPGRADE), UPGRADE)["refusal"]


def test_another_checkpoints_vectors_are_refused_in_a_sentence(
    dataset: fo.Dataset, families: list[str], checkpoint: str, other_checkpoint: str
) -> None:
    dataset.add_sample_field("theirs", fo.VectorField)
    dataset.set_values("theirs", dataset.values("clip_embedding"))
    ctx = ask(dataset, UPGRADE, field="theirs", model=other_checkpoint)
    told = dict(messages(ctx, UPGRADE))["notify"]
    assert told["variant"] == "error" and "another checkpoint made them" in told["message"]
    assert not dataset.has_field("isoclip_embedding")


@pytest.mark.parametrize(
    ("uri", "wrong", "sentence"),
    [
        (CLUSTER, {"band": "many"}, "many"),
        (CLUSTER, {"key": "source"}, "would be overwritten"),
        (INDEX, {"key": "taken"}, "already; choose another key"),
        (INDEX, {"key": "2nd"}, "lower-case letters"),
        (MAP, {"key": "taken"}, "already; choose another key"),
        (MAP, {"method": "umap"}, "pip install umap-learn"),
        (UPGRADE, {"into": "theirs"}, "vectors of your own"),
        (UPGRADE, {"band": "1"}, "1"),
        (UPGRADE, {"model": "no-such-model"}, "no checkpoint is called"),
    ],
)
def test_forms_answer_mistakes_while_they_are_filled(
    dataset: fo.Dataset,
    families: list[str],
    monkeypatch: pytest.MonkeyPatch,
    uri: str,
    wrong: dict[str, str],
    sentence: str,
) -> None:
    monkeypatch.setattr("fiftyone_isoclip.dataset.maps.find_spec", lambda name: None)
    dataset.add_sample_field("source", fo.StringField)
    dataset.add_sample_field("theirs", fo.VectorField)
    map_embeddings(dataset, brain_key="taken")
    ctx = ask(dataset, uri, **wrong)
    assert list(form_errors(ctx, uri)) == list(wrong)
    assert sentence in form_errors(ctx, uri)[next(iter(wrong))]
    with pytest.raises(ExecutionError, match="Validation error"):
        foo.execute_operator(uri, dataset=dataset, params=ctx.params)


def test_the_forms_say_what_is_missing(dataset: fo.Dataset, fill: Fill) -> None:
    fill(["/nowhere/a.jpg"])
    for uri in (CLUSTER, INDEX, MAP):
        assert "Compute embeddings first" in form_errors(ask(dataset, uri), uri)["refusal"]


def test_forms_and_verbs_have_one_default(dataset: fo.Dataset, families: list[str]) -> None:
    names = ("method", "field", "key")
    asked = ask(dataset, CLUSTER).params
    assert {name: asked[name] for name in names} == defaults(find_clusters, *names)
    asked = ask(dataset, MAP).params
    assert {name: asked[name] for name in ("method", "field")} == defaults(
        map_embeddings, "method", "field"
    )
    assert asked["key"] == defaults(map_embeddings, "brain_key")["brain_key"]
    names = ("field", "storage")
    asked = ask(dataset, INDEX).params
    assert {name: asked[name] for name in names} == defaults(build_similarity, *names)
    dataset.add_sample_field("theirs", fo.VectorField)
    assert ask(dataset, UPGRADE).params["into"] == defaults(upgrade, "into")["into"]
