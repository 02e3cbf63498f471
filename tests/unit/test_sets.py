"""The readers of the paper's sets: exactly its queries and its gallery, or a reason why not."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.evaluation.sets import (
    IMAGE_SETS,
    TEXT_SETS,
    AbsentSetError,
    DamagedSetError,
    open_set,
)
from fiftyone_isoclip.evaluation.sets.plain_pickle import read_plain_pickle
from tests.small_sets import (
    CAPTIONS,
    COOP,
    TORCHVISION,
    WANTED,
    make_aircraft,
    make_all_sets,
    make_coco,
    make_coop_set,
    make_flickr30k,
    make_landmarks,
    make_nocaps,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("sets")


@pytest.fixture(scope="module")
def made(root):
    return make_all_sets(root)


def check_splits(found, made):
    """Queries are ``test``, the gallery is ``train``, and labels are the classes."""
    assert list(found.query_paths) == made.paths["test"]
    assert list(found.gallery_paths) == made.paths["train"]
    assert found.own_rows.tolist() == [-1] * len(found.query_paths)
    for paths, labels in (
        (found.query_paths, found.query_labels),
        (found.gallery_paths, found.gallery_labels),
    ):
        assert [found.classes[label] for label in labels] == [made.class_of[p] for p in paths]
    assert found.train_rows.tolist() == list(range(len(found.gallery_paths)))
    assert found.test_rows.tolist() == list(range(len(found.query_paths)))


@pytest.mark.parametrize("name", [*COOP, "aircraft"])
def test_queries_are_test_and_the_gallery_is_train_without_val(root, made, name):
    check_splits(open_set(root, name), made[name])


@pytest.mark.parametrize("name", TORCHVISION)
def test_images_lie_where_torchvision_puts_them(tmp_path, name):
    for split_folder in ("splits", "."):
        home = tmp_path / split_folder / name
        made = make_coop_set(home, name, TORCHVISION[name], split_folder)
        check_splits(open_set(home, name), made)


def test_the_folder_of_the_research_code_is_read(tmp_path):
    made = make_coop_set(tmp_path / "CoOp", "sun397")
    check_splits(open_set(tmp_path, "sun397"), made)
    aircraft = make_aircraft(tmp_path, "CoOp/fgvc_aircraft")
    check_splits(open_set(tmp_path, "aircraft"), aircraft)


def test_the_archive_of_aircraft_is_read_as_it_is_unpacked(tmp_path):
    made = make_aircraft(tmp_path, "fgvc-aircraft-2013b/data")
    check_splits(open_set(tmp_path, "aircraft"), made)


def test_every_image_of_cub_is_searched_with_among_all_the_others(root, made):
    found = open_set(root, "cub")
    everything = [*made["cub"].paths["train"], *made["cub"].paths["test"]]
    assert list(found.query_paths) == list(found.gallery_paths) == everything
    assert found.own_rows.tolist() == list(range(len(everything)))
    told = [found.classes[label].partition(".")[2] for label in found.gallery_labels]
    assert told == [made["cub"].class_of[path] for path in everything]
    assert [everything[row] for row in found.train_rows] == made["cub"].paths["train"]
    assert [everything[row] for row in found.test_rows] == made["cub"].paths["test"]


@pytest.mark.parametrize("name", ["roxford", "rparis"])
@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("arrays", [True, False])
def test_landmarks_are_what_was_judged(tmp_path, name, protocol, arrays):
    made = make_landmarks(tmp_path, name, arrays=arrays, protocol=protocol)
    found = open_set(tmp_path, name)
    assert list(found.query_paths) == made.paths["test"]
    assert list(found.gallery_paths) == made.paths["train"]
    assert set(found.own_rows.tolist()) == {-1}
    assert found.judged[0].hard.tolist() == []
    for query, judged in zip(made.paths["test"][1:], found.judged[1:], strict=True):
        kind = made.class_of[query]
        own = [row for row, p in enumerate(made.paths["train"]) if made.class_of[p] == kind]
        told = [rows.tolist() for rows in (judged.easy, judged.hard, judged.junk)]
        assert told == [[row] for row in own]


def check_captions(found):
    of_image = dict(zip(found.query_labels.tolist(), found.query_texts, strict=True))
    assert sorted(of_image.values()) == sorted(CAPTIONS[image][0] for image in WANTED)
    asked = {text: CAPTIONS[image][1:] for image in WANTED for text in CAPTIONS[image][:1]}
    for label, text in of_image.items():
        rows = np.flatnonzero(found.gallery_labels == label)
        assert [found.gallery_texts[row] for row in rows] == asked[text]
    assert len(found.gallery_texts) == 2 * len(WANTED)
    assert set(found.own_rows.tolist()) == {-1}


@pytest.mark.parametrize("karpathy", [True, False])
@pytest.mark.parametrize("table", [True, False])
def test_the_first_caption_of_flickr30k_asks_for_the_others(tmp_path, table, karpathy):
    make_flickr30k(tmp_path, csv=table, karpathy=karpathy)
    check_captions(open_set(tmp_path, "flickr30k"))


@pytest.mark.parametrize("file", ["dataset_coco.json", "dataset_coco_light.json"])
def test_the_first_caption_of_coco_asks_for_the_others(tmp_path, file):
    make_coco(tmp_path, file)
    check_captions(open_set(tmp_path, "coco"))


def test_the_first_caption_of_nocaps_asks_for_the_others(tmp_path):
    make_nocaps(tmp_path)
    check_captions(open_set(tmp_path, "nocaps"))


@pytest.mark.parametrize("name", [*IMAGE_SETS, *TEXT_SETS])
def test_a_set_that_is_not_there_says_what_is_missing_and_who_has_it(tmp_path, name):
    with pytest.raises(AbsentSetError, match=r"holds no .* \(looked for .* there\); \w+"):
        open_set(tmp_path, name)


@pytest.mark.parametrize("name", COOP)
def test_images_without_the_papers_split_are_no_set(tmp_path, name):
    make_coop_set(tmp_path, name)
    for split in tmp_path.rglob("split_zhou_*.json"):
        split.unlink()
    with pytest.raises(AbsentSetError, match=r"split_zhou_\w+\.json.*KaiyangZhou/CoOp"):
        open_set(tmp_path, name)


def test_only_the_sets_of_the_paper_are_known(tmp_path):
    with pytest.raises(IsoClipError, match="no set is called 'mnist'; the sets are caltech, cub"):
        open_set(tmp_path, "mnist")
    with pytest.raises(IsoClipError, match="is no folder"):
        open_set(tmp_path / "nowhere", "cub")


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


DAMAGE = {
    "no JSON": (lambda p: replace(p, "{", "<html>"), "cannot be used"),
    "no split": (lambda p: replace(p, '"test"', '"tests"'), "no split called 'test'"),
    "empty": (lambda p: p.write_text(json.dumps({"train": [], "test": []})), "no split called"),
    "no label": (lambda p: replace(p, '0, "cat"', '"cat", 0'), "is not an image's path"),
    "two names": (lambda p: replace(p, '0, "cat"', '0, "lion"'), "stands for two classes"),
    "outside": (lambda p: replace(p, "cat/", "../../cat/"), "leads out of"),
    "absolute": (lambda p: replace(p, "cat/", "/etc/cat/"), "leads out of"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_split_says_what_is_wrong(tmp_path, damage):
    make_coop_set(tmp_path, "pets")
    spoil, told = DAMAGE[damage]
    spoil(tmp_path / "oxford_pets" / COOP["pets"][1])
    with pytest.raises(DamagedSetError, match=told):
        open_set(tmp_path, "pets")


@pytest.mark.parametrize("name", IMAGE_SETS)
def test_missing_images_are_counted(root, made, tmp_path, name):
    copy = shutil.copytree(root, tmp_path / "sets", copy_function=os.link)
    gone = copy / Path(made[name].paths["test"][1]).relative_to(root)
    gone.unlink()
    with pytest.raises(DamagedSetError, match=r"1 of \d+ images are missing, for one .*jpg"):
        open_set(copy, name)


SPOILED = {
    "cub": ("CUB_200_2011/train_test_split.txt", "3 1\n", "", "nothing on image 3"),
    "aircraft": ("fgvc_aircraft/variants.txt", "dog", "dingo", "'dog 700 ER' is no variant"),
    "flickr30k": ("Flickr30K/results.csv", "101.jpg| 1|", "one", "names no image, number and"),
    "coco": ("COCO2014/dataset_coco.json", '"images"', '"pictures"', "no list called 'images'"),
    "nocaps": ("nocaps/nocaps_val_4500_captions.json", "annotations", "x", "no list called"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_other_damaged_files_say_what_is_wrong(tmp_path, name):
    make_all_sets(tmp_path)
    file, old, new, told = SPOILED[name]
    replace(tmp_path / file, old, new)
    with pytest.raises(DamagedSetError, match=told):
        open_set(tmp_path, name)


def test_judgements_of_rows_that_are_not_there_are_refused(tmp_path):
    make_landmarks(tmp_path, "roxford")
    path = tmp_path / "roxford5k/gnd_roxford5k.pkl"
    truth = pickle.loads(path.read_bytes())
    for wrong in ([9], [-1], ["0"], [[0]], [0.5]):
        truth["gnd"][1]["easy"] = wrong
        path.write_bytes(pickle.dumps(truth, protocol=2))
        with pytest.raises(DamagedSetError, match="does not hold rows of the 9 images"):
            open_set(tmp_path, "roxford")
    path.write_bytes(pickle.dumps({**truth, "gnd": truth["gnd"][1:]}, protocol=2))
    with pytest.raises(DamagedSetError, match="does not hold 6 queries"):
        open_set(tmp_path, "roxford")


PLAIN = {
    "text": ["all_souls_000013", "Æ", b"bytes", ""],
    "numbers": [0, -1, 2**70, 1.5, True, None, (1, (2, 3), [4])],
    "rows": np.arange(6, dtype=np.int32).reshape(2, 3),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big": np.arange(3, dtype=">i8"),
    "none": np.array([]),
    "scalar": np.float32(2.5),
    7: {"inner": np.array([True, False])},
}


@pytest.mark.parametrize("protocol", range(5))
def test_plain_data_comes_out_as_pickle_itself_reads_it(tmp_path, protocol):
    path = tmp_path / "plain.pkl"
    path.write_bytes(pickle.dumps(PLAIN, protocol=protocol))
    found, asked = read_plain_pickle(path), pickle.loads(path.read_bytes())
    np.testing.assert_equal(found, asked)
    for key in ("rows", "columns", "big", "none"):
        assert found[key].dtype == asked[key].dtype


def test_what_python_2_wrote_is_read(tmp_path):
    path = tmp_path / "two.pkl"
    of_python_2 = (
        b"(dp0\nS'imlist'\np1\n(lp2\nS'one'\np3\naS'two'\np4\nasS'rows'\np5\n"
        b"cnumpy.core.multiarray\n_reconstruct\np6\n(cnumpy\nndarray\np7\n(I0\ntp8\nS'b'\np9\ntp10\n"
        b"Rp11\n(I1\n(I2\ntp12\ncnumpy\ndtype\np13\n(S'i8'\np14\nI0\nI1\ntp15\nRp16\n"
        b"(I3\nS'<'\np17\nNNNI-1\nI-1\nI0\ntp18\nbI00\n"
        rb"S'\x05\x00\x00\x00\x00\x00\x00\x00\x7f\x00\x00\x00\x00\x00\x00\x00'"
        b"\np19\ntp20\nbs."
    )
    path.write_bytes(of_python_2)
    found = read_plain_pickle(path)
    assert found["imlist"] == ["one", "two"]
    assert found["rows"].tolist() == [5, 127]


class Calls:
    """Runs a command when it is unpickled."""

    def __init__(self, called, *arguments):
        self.made = (called, arguments)

    def __reduce__(self):
        return self.made


class Sets(Calls):
    def __setstate__(self, state):
        raise AssertionError("this was called")


HOSTILE = {
    "os.system": Calls(os.system, "touch {}"),
    "eval": Calls(eval, "open('{}', 'w')"),
    "getattr": Calls(getattr, "text", "format"),
    "a class": Sets(print),
    "an object array": np.array([Calls(os.system, "touch {}")], dtype=object),
    "a set": {1, 2},
    "a class alone": os.stat_result,
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_pickle_is_never_obeyed(tmp_path, kind, protocol, capsys):
    """Also where what it asks for is deep inside plain data, and before the data is looked at."""
    sign, path = tmp_path / "sign", tmp_path / "gnd.pkl"
    hostile = HOSTILE[kind]
    if type(hostile) is Calls and "{}" in str(hostile.made[1]):
        called, (argument,) = hostile.made
        hostile = Calls(called, argument.format(sign))
    if kind == "an object array":
        hostile = np.array([Calls(os.system, f"touch {sign}")], dtype=object)
    path.write_bytes(pickle.dumps({"imlist": ["one"], "gnd": [{"easy": hostile}]}, protocol))
    with pytest.raises(IsoClipError, match=r"was not read: it .*plain data"):
        read_plain_pickle(path)
    assert not sign.exists()
    assert capsys.readouterr().out == ""


def test_a_hostile_ground_truth_costs_its_set_alone(root, made, tmp_path):
    copy = shutil.copytree(root, tmp_path / "sets", copy_function=os.link)
    path = copy / "roxford5k/gnd_roxford5k.pkl"
    path.unlink()
    path.write_bytes(pickle.dumps(Calls(os.system, f"touch {tmp_path / 'sign'}")))
    with pytest.raises(DamagedSetError, match=r"it asks for posix.system|it asks for nt.system"):
        open_set(copy, "roxford")
    assert open_set(copy, "rparis").judged
    assert not (tmp_path / "sign").exists()


def test_broken_pickles_are_told(tmp_path):
    path = tmp_path / "gnd.pkl"
    whole = pickle.dumps(PLAIN, protocol=2)
    random = np.random.default_rng(0)
    for _ in range(300):
        spoiled = bytearray(whole[: random.integers(1, len(whole) + 1)])
        spoiled[random.integers(len(spoiled))] = random.integers(256)
        path.write_bytes(spoiled)
        try:
            read_plain_pickle(path)
        except IsoClipError as error:
            assert str(path) in str(error)


def test_small_pickles_do_not_become_large(tmp_path):
    """A list of a list ... held twice each is as large as it is written."""
    path = tmp_path / "gnd.pkl"
    deep: list = [0]
    for _ in range(60):
        deep = [deep, deep]
    path.write_bytes(pickle.dumps(deep))
    found = read_plain_pickle(path)
    assert found[0] is found[1]
    loop: list = []
    loop.append(loop)
    path.write_bytes(pickle.dumps(loop))
    with pytest.raises(IsoClipError, match="holds itself"):
        read_plain_pickle(path)


def test_the_papers_table_is_whole():
    table = files("fiftyone_isoclip.evaluation.sets").joinpath("paper_table.csv").read_text()
    rows = list(csv.DictReader(line for line in table.splitlines() if line[0] != "#"))
    assert {(row["method"], row["backbone"]) for row in rows} == {
        (method, backbone)
        for method in ("clip", "oti", "isoclip")
        for backbone in ("ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-B/16-open")
    }
    off = {
        (row["method"], row["backbone"]): float(row["avg"])
        for row in rows
        if abs(np.mean([float(row[name]) for name in IMAGE_SETS]) - float(row["avg"])) > 0.1
    }
    # As printed: the means of their thirteen figures are 53.1 and 58.9.
    assert off == {("isoclip", "ViT-B/16"): 52.8, ("isoclip", "ViT-B/16-open"): 58.6}
