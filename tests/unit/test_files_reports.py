"""A report is on the disk whole, or the old one still is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.files.reports import check_writable, write_json


def test_names_that_are_not_utf8_survive_json(tmp_path: Path) -> None:
    value = {"path": os.fsdecode(b"caf\xe9 \xff\n.jpg"), "other": "søster"}
    write_json(tmp_path / "report.json", value)
    assert json.loads((tmp_path / "report.json").read_text("ascii")) == value


def test_a_link_to_a_report_keeps_pointing_to_it(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "report.json"
    link.symlink_to("elsewhere/real.json")
    write_json(link, 1)
    write_json(link, 2)
    assert link.is_symlink()
    assert (tmp_path / "elsewhere" / "real.json").read_text() == "2\n"


def test_a_device_is_written_to_and_not_replaced() -> None:
    write_json("/dev/null", 1)
    assert not Path("/dev/null").is_file()


def test_what_could_not_be_written_is_told_beforehand(tmp_path: Path) -> None:
    with pytest.raises(IsoClipError, match=r"the folder .* does not exist"):
        check_writable(tmp_path / "no" / "report.json")
    with pytest.raises(IsoClipError, match="it is a folder"):
        check_writable(tmp_path)
    check_writable(tmp_path / "report.json")
    check_writable(Path("/dev/null"))
    with pytest.raises(IsoClipError, match=r"cannot be written: (No such|Not a)"):
        write_json(tmp_path / "no" / "report.json", 1)
