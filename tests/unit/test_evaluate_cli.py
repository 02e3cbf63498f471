"""`isoclip evaluate`: every form of asking, and what is told of a mistake."""

from __future__ import annotations

import csv
import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestCentroid

from fiftyone_isoclip.demo.scenes import COLOURS
from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.evaluation import embedded_tasks
from fiftyone_isoclip.evaluation.embedded_tasks import embed_copies, embed_task
from fiftyone_isoclip.evaluation.labelled_files import read_copies, read_folder
from fiftyone_isoclip.files import embed_files, list_images
from fiftyone_isoclip.index import agreement
from tests.pictures import draw
from tests.terminal import isoclip, sentence


def write_table(path: Path, columns, rows) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def fill(folder: Path, first: int = 0) -> Path:
    """Three labels of four pictures each; those of one label are tinted alike."""
    for number in range(12):
        label = "abc"[number % 3]
        (folder / label).mkdir(parents=True, exist_ok=True)
        path = folder / label / f"{number:02d}.png"
        draw(path, first + number, 48)
        tint = Image.new("RGB", (48, 48), [(255, 0, 0), (0, 255, 0), (0, 0, 255)][number % 3])
        Image.blend(Image.open(path), tint, 0.5).save(path)
    return folder


@pytest.fixture(scope="module")
def clip():
    return load_clip("isoclip-demo")


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("gallery") / "pictures")


@pytest.fixture(scope="module")
def queries(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("queries") / "pictures", 100)


@pytest.fixture
def copies(tmp_path):
    """Four originals, each flipped and shrunk, four others, and an edit of none of them."""
    folder, rows = tmp_path / "copies", []
    folder.mkdir()
    for number in range(8):
        name = f"{number}.png"
        draw(folder / name, number, 64)
        rows.append(
            (name, number if number < 4 else "", "distractor" if number > 3 else "original")
        )
        if number < 4:
            picture = Image.open(folder / name)
            ImageOps.mirror(picture).save(folder / f"{number}_hflip.png")
            picture.resize((32, 32)).save(folder / f"{number}_half.png")
            rows += [(f"{number}_{kind}.png", number, kind) for kind in ("hflip", "half")]
    draw(folder / "stranger.png", 9)
    rows.append(("stranger.png", "", "crop"))
    write_table(folder / "groups.csv", ("file", "group", "attack"), rows)
    return folder


def measured(*words):
    result = isoclip("evaluate", *words, "--json", "-")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def means(report, method: str, metric: str) -> float:
    (found,) = [each for each in report["methods"] if each["name"] == method]
    return found["metrics"][metric]["mean"]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@cache
def embedded(clip, folder: Path):
    """Plain embeddings of a folder as unit rows in float64, and the labels by its sub-folders."""
    paths = list_images(folder)
    rows = unit(embed_files(paths, clip).embeddings.astype(np.float64))
    return rows, np.array([Path(path).parent.name for path in paths])


def mean_precision(clip, searched, asked=None) -> float:
    """mAP of plain CLIP by scikit-learn, in float64, query by query."""
    rows, labels = embedded(clip, searched)
    found = []
    for place, (row, label) in enumerate(zip(*embedded(clip, asked or searched), strict=True)):
        others = np.arange(len(rows)) != (place if asked is None else -1)
        found.append(average_precision_score(labels[others] == label, (rows @ row)[others]))
    return float(np.mean(found))


def test_a_folder_of_labels_is_measured_as_scikit_learn_does(clip, gallery, tmp_path):
    page = tmp_path / "report.html"
    report = measured(gallery, "--report", page)
    assert means(report, "plain CLIP", "mAP") == pytest.approx(
        mean_precision(clip, gallery), abs=1e-6
    )
    assert (report["queries"], report["gallery"], report["classes"]) == (12, 12, 3)
    html = page.read_text("utf-8")
    assert html.index("self-trained demo weights") < html.index("Every method on the same queries")
    for name in ("mean-centred plain CLIP", "all-but-the-top", "whitening", "random band"):
        assert name in html


def test_real_photographs_are_measured_as_scikit_learn_does(clip, shared_data):
    searched, asked = (shared_data / "clothing_cc0" / split for split in ("validation", "test"))
    report = measured(searched, "--queries", asked)
    wanted = mean_precision(clip, searched, asked)
    assert means(report, "plain CLIP", "mAP") == pytest.approx(wanted, abs=1e-6)
    rows, labels = embedded(clip, asked)
    accuracy = np.mean(NearestCentroid().fit(*embedded(clip, searched)).predict(rows) == labels)
    assert means(report, "plain CLIP", "NCM accuracy") == pytest.approx(accuracy, abs=1e-6)


def test_real_copies_are_counted_as_by_hand_with_phash_beside(clip, shared_data):
    folder = shared_data / "fixture_cc0" / "images"
    table = shared_data / "fixture_cc0" / "manifest.csv"
    report = measured(folder, "--groups", table)
    rows = list(csv.DictReader(table.read_text("utf-8").splitlines()))
    vectors = unit(embed_files([str(folder / row["file"]) for row in rows], clip).embeddings)
    original = np.array([row["attack"] == "original" for row in rows])
    (plain,) = [each for each in report["methods"] if each["name"] == "plain CLIP"]
    for attack, told in plain["by_attack"].items():
        hits = []
        for row, vector in zip(rows, vectors, strict=True):
            if row["attack"] == attack:
                best = np.flatnonzero(original)[(vectors[original] @ vector).argmax()]
                hits.append(rows[best]["group"] == row["group"])
        assert told["recall@1"] == pytest.approx(np.mean(hits))
    assert set(plain["by_attack"]) == {row["attack"] for row in rows} - {"original"}
    (phash,) = [each for each in report["methods"] if each["kind"] == "hash"]
    assert phash["by_attack"]["jpeg20"]["recall@1"] > 0.9
    assert phash["by_attack"]["hflip"]["recall@1"] < 0.3


def test_queries_of_another_folder_and_of_a_table_are_the_same(gallery, queries, tmp_path):
    apart = measured(gallery, "--queries", queries)
    both = tmp_path / "both"
    rows = []
    for kind, folder in (("query", queries), ("gallery", gallery)):
        shutil.copytree(folder, both / kind)
        rows += [
            (path.relative_to(both), path.parent.name, kind)
            for path in sorted((both / kind).glob("*/*.png"))
        ]
    rows.append((rows[0][0], "a", "val"))
    table = write_table(tmp_path / "split.csv", ("file", "label", "split"), rows)
    result = isoclip("evaluate", both, "--split", table, "--json", "-")
    assert "left out 1 files of split 'val'" in result.stderr
    assert json.loads(result.stdout)["methods"] == apart["methods"]
    assert "NCM accuracy" in apart["methods"][0]["metrics"]


def test_bands_are_measured_as_often_as_given_centred_and_not(gallery):
    report = measured(gallery, "--band", "4/8", "--band", "0/16")
    bands = [each["name"] for each in report["methods"] if each["kind"] == "band"]
    assert bands == ["IsoCLIP 4/8", "IsoCLIP 4/8, centred", "IsoCLIP 0/16", "IsoCLIP 0/16, centred"]


def test_a_band_is_measured_once_however_it_is_written(gallery):
    """Each is measured centred and not; what inversion took minutes for is not lost at the end."""
    asked = ["--band", "4/32-centred", "--band", "4/32", "--band", "0/16-centred"]
    report = measured(gallery, *asked, "--oti", "--queries", gallery)
    bands = [each["name"] for each in report["methods"] if each["kind"] == "band"]
    assert bands == [
        "IsoCLIP 4/32",
        "IsoCLIP 4/32, centred",
        "IsoCLIP 0/16",
        "IsoCLIP 0/16, centred",
    ]
    timed = {each["name"] for each in report["methods"] if each["seconds_per_query"]}
    assert timed == {"plain CLIP", "IsoCLIP 4/32", "IsoCLIP 0/16", "OTI inversion"}


def test_of_many_images_some_ask_and_all_are_found(clip, gallery, copies, tmp_path, monkeypatch):
    every, _ = embed_task("all", clip, read_folder(gallery), sample=12)
    some, _ = embed_task("some", clip, read_folder(gallery), sample=5)
    assert len(some.queries) == 5 and some.gallery_names == every.gallery_names
    assert [every.query_names[row] for row in some.own_rows] == some.query_names
    np.testing.assert_array_equal(some.queries, every.queries[some.own_rows])
    page = tmp_path / "report.html"
    result = isoclip("evaluate", gallery, "--sample", "5", "--json", "-", "--report", page)
    assert "searching with 5 of 12 picked at random" in result.stderr
    report = json.loads(result.stdout)
    assert (report["queries"], report["gallery"], report["intervals_widened"]) == (5, 12, 2)
    assert "5 images, some of the gallery, each without itself" in page.read_text("utf-8")
    monkeypatch.setattr(embedded_tasks, "ALL_QUERIES", 11)
    monkeypatch.setattr(agreement, "SAMPLED_QUERIES", 5)
    assert measured(gallery)["methods"] == report["methods"]
    assert measured(gallery, "--sample", "12")["queries"] == 12
    assert measured(gallery, "--queries", gallery)["queries"] == 12
    for given in ([gallery, "--queries", gallery], [copies]):
        assert isoclip("evaluate", *given, "--sample", "5").exit_code == 2


def test_texts_search_among_texts(clip, tmp_path):
    texts = ["a red circle", "a red square", "a blue circle", "a blue square", "a green star"]
    labels = ["red", "red", "blue", "blue", "green"]
    table = write_table(
        tmp_path / "t.csv", ("text", "label"), list(zip(texts, labels, strict=True))
    )
    report = measured("--texts", table)
    rows = unit(clip.text_embeddings(texts).astype(np.float64))
    wanted = []
    for place in range(4):
        others = np.arange(5) != place
        right = np.array(labels)[others] == labels[place]
        wanted.append(average_precision_score(right, (rows @ rows[place])[others]))
    assert means(report, "plain CLIP", "mAP") == pytest.approx(np.mean(wanted), abs=1e-6)
    assert report["compared"] == "texts" and report["queries_scored"] == 4
    assert f"IsoCLIP {clip.text_band}" in [each["name"] for each in report["methods"]]


def test_copies_are_known_by_the_table_in_the_folder(copies, tmp_path):
    page = tmp_path / "copies.html"
    report = measured(copies, "--report", page, "--similarity", "0.9")
    by_name = {each["name"]: each for each in report["methods"]}
    assert by_name["pHash 64 bit"]["by_attack"]["half"]["recall@1"] == 1
    assert list(by_name["plain CLIP"]["by_attack"]) == ["hflip", "half"]
    assert by_name["plain CLIP"]["at_similarity"]["similarity"] == 0.9
    assert (report["queries"], report["gallery"]) == (9, 8)
    assert "over 8 edited pictures of 4 originals" in report["verdict"]
    assert "pHash 64 bit" in page.read_text("utf-8")


def test_copies_are_shown_by_edit_and_at_one_threshold(copies):
    shown = isoclip("evaluate", copies).stdout
    assert shown.startswith("Too few independent queries (4) to tell")
    assert [
        line.split()[:2] for line in shown.splitlines() if line.startswith(("hflip", "half"))
    ] == [
        ["hflip", "4"],
        ["half", "4"],
    ]
    assert "micro-AP" in shown and "queries with a false match" in shown


def test_ties_are_not_won_by_standing_first(clip, tmp_path):
    """Forty copies of one picture: an original at the top of the table is as likely as any."""
    rows = []
    for number in range(40):
        shutil.copyfile(draw(tmp_path / "one.png", 0), tmp_path / f"{number}.png")
        rows.append((f"{number}.png", number, "original"))
    (tmp_path / "one.png").rename(tmp_path / "edit.png")
    rows.append(("edit.png", 0, "edit"))
    table = write_table(tmp_path / "groups.csv", ("file", "group", "attack"), rows)
    task, _ = embed_copies("ties", clip, read_copies(table, tmp_path))
    assert sorted(task.gallery_groups.tolist()) == list(range(40)) != task.gallery_groups.tolist()


def test_inversion_stands_in_the_table_with_its_seconds(gallery):
    report = measured(gallery, "--oti", "--queries", gallery)
    (oti,) = [each for each in report["methods"] if each["kind"] == "inversion"]
    assert "steps of AdamW" in oti["note"]
    # What is told is from file to ranks; baselines that nobody timed like that tell nothing.
    timed = {each["name"] for each in report["methods"] if each["seconds_per_query"]}
    assert timed == {"plain CLIP", "IsoCLIP 4/32", "OTI inversion"}


def test_an_image_never_finds_itself_by_any_name(clip, gallery, tmp_path):
    alias = tmp_path / "alias"
    alias.symlink_to(gallery)
    task, _ = embed_task("twice", clip, read_folder(gallery), read_folder(alias))
    assert task.own_rows.tolist() == list(range(12)) and not task.is_apart


def test_a_damaged_image_is_left_out_and_told(clip, gallery, tmp_path):
    folder = tmp_path / "pictures"
    shutil.copytree(gallery, folder)
    (folder / "b" / "00.png").write_bytes(b"\x89PNG no picture")
    result = isoclip("evaluate", folder, "--json", "-")
    assert "1 of 13 could not be read" in result.stderr
    report = json.loads(result.stdout)
    assert report["gallery"] == 12
    assert means(report, "plain CLIP", "mAP") == pytest.approx(
        mean_precision(clip, gallery), abs=1e-6
    )


@pytest.mark.parametrize(
    ("table", "rows", "words", "told"),
    [
        ("file,label", ["a,b"], "--split", "has no column split"),
        ("file,label,split", ["a,b,val"], "--split", "no row whose split is query or test"),
        ("file,label,split", ["a,b,test"], "--split", "no row whose split is gallery or train"),
        ("file,label,split", ["a,,test"], "--split", "row 2 of {table} has no label"),
        ("file,label,split", ["a"], "--split", "row 2 of {table} has no label and no split"),
        ("file,label,split", [], "--split", "no row below its first line"),
        ("file,group,attack", ["a,0,original"], "--groups", "no edited picture"),
        ("file,group,attack", ["a,0,crop"], "--groups", "no original or distractor"),
        ("text", ["a"], "--texts", "has no column label"),
    ],
)
def test_a_table_that_cannot_serve_is_told(table, rows, words, told, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("\n".join([table, *rows]), encoding="utf-8")
    asked = [words, path] if words == "--texts" else [tmp_path, words, path]
    assert told.format(table=path) in sentence(isoclip("evaluate", *asked))


def test_mistakes_are_told_in_a_sentence(gallery, copies, tmp_path):
    (tmp_path / "empty").mkdir()
    shutil.copyfile(gallery / "a" / "00.png", tmp_path / "loose.png")
    for words, told in [
        ([tmp_path / "nowhere"], "there is nothing"),
        ([gallery / "a" / "00.png"], "there is a file"),
        ([gallery / "a"], "lies in no sub-folder"),
        ([gallery.parent], "lies in a sub-folder of a sub-folder"),
        ([tmp_path / "empty"], "holds no images"),
        ([gallery, "--split", tmp_path / "no.csv"], "cannot be read as a CSV table"),
        ([gallery, "--band", "90/90"], "keeps none of 96 directions"),
        ([gallery, "--groups", copies / "groups.csv"], "of 17 images 0 could be read"),
        ([gallery, "--report", tmp_path / "no" / "x.html"], "does not exist"),
    ]:
        assert told in sentence(isoclip("evaluate", *words)), words


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["x", "--texts", "y"],
        ["--texts", "y", "--queries", "z"],
        ["x", "--queries", "y", "--split", "z"],
        ["dataset:x"],
        ["x", "--labels", "y"],
        ["dataset:x", "--labels", "y", "--split", "z"],
        ["x", "--sample", "0"],
    ],
)
def test_what_does_not_go_together_is_wrong_usage(words):
    assert isoclip("evaluate", *words).exit_code == 2


def test_texts_are_not_inverted(tmp_path):
    table = write_table(tmp_path / "t.csv", ("text", "label"), [("a", "b")])
    assert isoclip("evaluate", "--texts", table, "--oti").exit_code == 2


def means_of(report):
    return {each["name"]: each["metrics"]["mAP"]["mean"] for each in report["methods"]}


def test_copies_of_files_are_no_further_queries(gallery, tmp_path):
    doubled = shutil.copytree(gallery, tmp_path / "doubled")
    for path in list(doubled.rglob("*.png")):
        shutil.copy(path, path.with_name(f"again-{path.name}"))
    once, twice = measured(gallery), measured(doubled)
    assert (twice["queries"], twice["gallery"], twice["repeated"]) == (12, 12, 12)
    assert once["repeated"] == 0
    assert means_of(twice) == pytest.approx(means_of(once), abs=1e-9)


def test_equal_texts_are_no_further_queries(tmp_path):
    rows = [(f"a {colour} {thing}", thing) for colour in COLOURS for thing in ("circle", "square")]
    columns = ("text", "label")
    once = measured("--texts", write_table(tmp_path / "once.csv", columns, rows))
    twice = measured("--texts", write_table(tmp_path / "twice.csv", columns, [*rows, *rows]))
    assert (twice["queries"], twice["repeated"]) == (len(rows), len(rows))
    assert means_of(twice) == pytest.approx(means_of(once), abs=1e-9)


def test_a_copy_of_a_query_in_the_gallery_is_the_query_itself(gallery, tmp_path):
    leaked = shutil.copytree(gallery, tmp_path / "leaked")
    within, apart = measured(gallery), measured(leaked, "--queries", gallery)
    assert apart["queries_in_gallery"] == 12
    assert means_of(apart) == pytest.approx(means_of(within), abs=1e-9)
    assert apart["intervals_widened"] == within["intervals_widened"] == 2


def test_what_cannot_be_read_is_told_in_the_report(gallery, tmp_path):
    spoiled = shutil.copytree(gallery, tmp_path / "spoiled")
    (spoiled / "a" / "00.png").write_bytes(b"no picture")
    page = tmp_path / "page.html"
    (path,) = measured(spoiled, "--report", page)["unreadable"]
    assert path.endswith("a/00.png")
    assert "1 that could not be read" in page.read_text()


def test_a_gallery_of_one_label_is_refused(gallery, tmp_path):
    shutil.copytree(gallery / "a", tmp_path / "one" / "a")
    shown = isoclip("evaluate", tmp_path / "one")
    assert shown.exit_code == 1 and "have one label" in sentence(shown)
