"""Files of duplicates taken away and brought back in the real App, from the panel."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest
from playwright.sync_api import Browser, expect

from fiftyone_isoclip.dataset import find_exact_duplicates
from tests.e2e.app_page import PATIENCE_MS, AppPage
from tests.e2e.panel_page import PanelPage
from tests.pictures import draw_many
from tests.removals import look


@pytest.fixture
def copied(tmp_path: Path) -> Iterator[fo.Dataset]:
    """Three pictures, and a byte-identical copy of two of them, found."""
    paths = draw_many(tmp_path / "pictures", 3)
    copies = [shutil.copy(path, f"{path[:-4]}-again.png") for path in paths[:2]]
    dataset = fo.Dataset("copied", persistent=True)
    dataset.add_samples([fo.Sample(filepath=path) for path in paths + copies], progress=False)
    find_exact_duplicates(dataset, key="duplicates")
    yield dataset
    for name in ("copied", "copied-removed"):
        if fo.dataset_exists(name):
            fo.delete_dataset(name)


def names(dataset: fo.Dataset) -> list[str]:
    dataset.reload()
    return sorted(Path(path).name for path in dataset.values("filepath"))


def test_files_are_planned_taken_away_and_brought_back(
    session: Any, browser: Browser, copied: fo.Dataset, tmp_path: Path
) -> None:
    before, listed = look(tmp_path), names(copied)
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    app, panel = AppPage(page), PanelPage(AppPage(page))
    app.open(f"http://localhost:{session.server_port}/datasets/{copied.name}")
    panel.open()
    panel.tab("Duplicates")
    panel.press("Plan the removal of files ...")
    assert "Files to take away:\n\n2" in panel.execute()
    assert look(tmp_path) == before
    panel.press("Take files away ...")
    app.expect_in_form("000-again.png")
    execute = page.locator('[data-cy="operators-prompt-modal"]').get_by_role(
        "button", name="Execute"
    )
    expect(execute).to_be_disabled(timeout=PATIENCE_MS)
    page.get_by_label("Move these files").click()
    expect(execute).to_be_enabled(timeout=PATIENCE_MS)
    assert "isoclip purge" in panel.execute()
    assert names(copied) == ["000.png", "001.png", "002.png"]
    there = sorted(path.name for path in (tmp_path / "pictures").iterdir() if path.is_file())
    assert there == names(copied)
    panel.press("Bring files back ...")
    page.get_by_label("Bring these files back").click()
    expect(execute).to_be_enabled(timeout=PATIENCE_MS)
    panel.execute()
    assert (look(tmp_path), names(copied)) == (before, listed)
    page.close()
    assert app.errors == []
