"""A report is one file: nothing is fetched or run, everything is escaped, and it stays small."""

from __future__ import annotations

import re
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.evaluation.report import Page, Pictures, Plot, Table, write_page
from tests.pictures import draw

EVIL = "<script>alert('x')</script>\"' onerror=alert(1) & <img src=//elsewhere/x>"
POINTS_OUTSIDE = {"action", "background", "cite", "data", "formaction", "href", "poster", "srcset"}


class Read(HTMLParser):
    """The tags of a page with their attributes, the cells of its tables, and all its words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[tuple[str | None, str]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.cells.append((dict(attrs).get("class"), ""))

    def handle_data(self, data):
        if self.tags[-1:] and self.tags[-1][0] != "style":
            self.words.append(data)
        if self.tags and self.tags[-1][0] in ("td", "th") and data.strip():
            kind, text = self.cells[-1]
            self.cells[-1] = (kind, text + data)

    @property
    def sources(self) -> list[str]:
        return [attrs["src"] or "" for tag, attrs in self.tags if tag == "img"]


def written(folder, *parts, verdict="No measurable difference.", **parameters) -> tuple[Read, str]:
    path = folder / "report.html"
    write_page(path, Page("A page", verdict, parts, parameters))
    assert path.stat().st_size < 5_000_000
    html = path.read_text("utf-8")
    return Read(html), html


def picture_of(source: str) -> Image.Image:
    return Image.open(BytesIO(b64decode(source.split(",", 1)[1])))


def test_nothing_is_fetched_or_run_and_everything_is_escaped(tmp_path):
    def draw_evil(axes):
        axes.plot([0, 1], [1, 0], label="a line")
        axes.set_title("$x$ <b>")
        axes.legend()

    path = draw(tmp_path / "a<b>.png", 0)
    read, html = written(
        tmp_path,
        Table(EVIL, EVIL, [EVIL, "n"], [(EVIL, 1)]),
        Plot(EVIL, EVIL, draw_evil),
        Pictures(EVIL, EVIL, [[(path, EVIL), (tmp_path / EVIL.replace("/", "_"), EVIL)]]),
        verdict=EVIL,
        **{EVIL: EVIL},
    )
    assert {tag for tag, _ in read.tags} & {"script", "link", "iframe", "object", "base"} == set()
    for tag, attrs in read.tags:
        assert not [name for name in attrs if name.startswith("on") or name in POINTS_OUTSIDE], tag
    assert len(read.sources) == 2
    assert all(source.startswith("data:image/") for source in read.sources)
    style = re.search(r"<style>.*?</style>", html, re.DOTALL)[0]
    assert "url(" not in style and "@import" not in style
    assert "default-src 'none'" in html
    assert "".join(read.words).count(EVIL) == 13


def test_a_plot_is_a_drawing_that_points_nowhere_in_the_ink_of_the_page(tmp_path):
    read, _ = written(tmp_path, Plot("", "", lambda axes: axes.plot([0, 1], [0, 1])))
    (source,) = read.sources
    svg = b64decode(source.split(",", 1)[1]).decode()
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    links = [value for node in root.iter() for name, value in node.items() if name.endswith("href")]
    assert links and all(link.startswith("#") for link in links)
    assert "currentColor" in svg and "prefers-color-scheme:dark" in svg
    assert "#000000" not in svg


def test_a_plot_of_very_many_marks_becomes_pixels(tmp_path):
    points = np.random.default_rng(0).normal(size=(2, 30_000))
    read, _ = written(tmp_path, Plot("", "", lambda axes: axes.scatter(*points)))
    assert picture_of(read.sources[0]).format == "PNG"


def test_numbers_are_flush_right_and_words_are_not(tmp_path):
    rows = [
        ("IsoCLIP 150/50", "150/50", 0.45678, 1234, "+0.021 [0.010, 0.032]", 1.0),
        ("64 bit", "0/0", float("nan"), 7, "45.1 %", None),
    ]
    read, _ = written(tmp_path, Table("", "", ["name", "band", "mAP", "n", "by", "x"], rows))
    number = ["number"] * 4
    assert read.cells == [
        *zip([None, None, *number], ["name", "band", "mAP", "n", "by", "x"], strict=True),
        *zip(
            [None, None, *number],
            ["IsoCLIP 150/50", "150/50", "0.457", "1,234", "+0.021 [0.010, 0.032]", "1.000"],
            strict=True,
        ),
        *zip(
            [None, None, *number],
            ["64 bit", "0/0", "\N{EN DASH}", "7", "45.1 %", "\N{EN DASH}"],
            strict=True,
        ),
    ]


def test_pictures_keep_their_colours_and_shape_and_the_bad_one_says_why(tmp_path):
    red = tmp_path / "red.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    Image.new("RGB", (1200, 600), (200, 10, 10)).save(red, exif=exif)
    (tmp_path / "bad.png").write_bytes(b"\x89PNG no picture")
    own = Image.new("RGB", (50, 20), (0, 0, 255))
    row = [(red, "red"), (own, "blue"), (tmp_path / "bad.png", "bad"), (red, "again")]
    read, _ = written(tmp_path, Pictures("", "", [row]))
    first, second, third = map(picture_of, read.sources)
    assert (first.size, second.size) == ((100, 200), (50, 20))
    assert np.abs(np.asarray(first)[100, 50].astype(int) - (200, 10, 10)).max() < 8
    assert third.tobytes() == first.tobytes()
    assert "its beginning is damaged" in " ".join(read.words)


def test_five_hundred_large_pictures_stay_under_five_megabytes(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    paths = []
    for number in range(500):
        paths.append(tmp_path / f"{number}.jpg")
        Image.fromarray(np.roll(noise, number)).save(paths[-1], quality=60)
    rows = [[(path, path.name) for path in paths[start : start + 5]] for start in range(0, 500, 5)]
    read, html = written(tmp_path, Pictures("Many", "", rows))
    assert len(read.sources) == 500
    assert max(picture_of(read.sources[-1]).size) == int(
        re.search(r"at most (\d+) pixels", html)[1]
    )


def test_what_does_not_fit_even_small_is_left_out_from_the_end_and_told(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    rows = [[(Image.fromarray(noise), str(n)) for n in range(12)]] * 300
    read, html = written(tmp_path, Pictures("Many", "", rows))
    left = int(re.search(r"([\d,]+) pictures were left out", html)[1].replace(",", ""))
    assert len(read.sources) + left == 3600
    assert html.index("left out") > html.rindex("<img")


def test_a_long_table_is_cut_and_says_so(tmp_path):
    read, html = written(tmp_path, Table("", "", ["n"], [(n,) for n in range(1234)]))
    assert read.cells[-1] == ("number", "499")
    assert "734 more rows are not shown" in html


def test_the_verdict_comes_first_and_versions_parameters_and_date_are_there(tmp_path):
    read, html = written(tmp_path, Table("Methods", "", ["a"], [("b",)]), band="150/50")
    words = " ".join("".join(read.words).split())
    assert words.index("No measurable") < words.index("Methods") < words.index("150/50")
    assert "fiftyone-isoclip" in words and "processor" in words
    assert re.search(r"20\d\d-\d\d-\d\d \d\d:\d\d UTC", html)


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path):
    with pytest.raises(IsoClipError, match="cannot be written"):
        write_page(tmp_path / "no" / "page.html", Page("", "", [], {}))

    def fail(axes):
        raise IsoClipError("no such plot")

    written(tmp_path)
    before = (tmp_path / "report.html").read_bytes()
    with pytest.raises(IsoClipError, match="no such plot"):
        write_page(tmp_path / "report.html", Page("", "", [Plot("", "", fail)], {}))
    assert (tmp_path / "report.html").read_bytes() == before


def test_a_name_that_is_no_utf8_is_shown_by_its_escapes(tmp_path):
    read, _ = written(tmp_path, Table("", "", ["file"], [("a\udcff.jpg",)]))
    assert read.cells[-1] == (None, "a\\udcff.jpg")
