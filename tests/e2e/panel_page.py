"""The panel "IsoCLIP" as a user sees it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from playwright.sync_api import Locator, expect

from tests.e2e.app_page import PATIENCE_MS, AppPage


class PanelPage:
    """The panel beside the grid of an App's page."""

    def __init__(self, app: AppPage) -> None:
        self.app = app
        self.page = app.page

    def open(self) -> None:
        """Open the panel, unless the session left it open."""
        if not self.page.get_by_role("tab", name="Leaks").is_visible():
            self.page.locator('[data-cy="new-panel-btn"]').first.click()
            self.page.locator('[data-cy="new-panel-option-isoclip"]').click()
        expect(self.page.get_by_role("tab", name="Leaks")).to_be_visible(timeout=PATIENCE_MS)

    def tab(self, name: str) -> None:
        """Go to a tab."""
        tab = self.page.get_by_role("tab", name=name, exact=True)
        tab.click()
        expect(tab).to_have_attribute("aria-selected", "true")

    def press(self, label: str | re.Pattern[str], nth: int = 0) -> None:
        """Press a button of the panel."""
        found = self.page.get_by_role("button", name=label, exact=isinstance(label, str)).nth(nth)
        expect(found).to_be_enabled(timeout=PATIENCE_MS)
        found.click()

    def expect_text(self, text: str | re.Pattern[str]) -> Locator:
        """Wait until the panel says this."""
        found = self.page.get_by_text(text).first
        expect(found).to_be_visible(timeout=PATIENCE_MS)
        return found

    def execute(self) -> str:
        """Execute the form that a button of the panel opened, and leave its result; -> its text."""
        told = self.app.execute()
        self.app.leave_result()
        return told

    def pictures(self, alt: re.Pattern[str]) -> list[str]:
        """The files of the pictures that are described like this, in their order."""
        found = self.page.get_by_alt_text(alt)
        expect(found.first).to_be_visible(timeout=PATIENCE_MS)
        sources = [image.get_attribute("src") or "" for image in found.all()]
        return [unquote(source.split("filepath=")[-1]) for source in sources]

    def neighbours_in_band(self) -> list[str]:
        """The names of the files shown as neighbours in the band, beside those in plain CLIP."""
        shown = self.pictures(re.compile("^neighbour "))
        return [Path(path).name for path in shown[len(shown) // 2 :]]

    def move(self, label: str, value: float) -> None:
        """Set a slider."""
        under = f'xpath=//*[starts-with(text(), "{label}")]/following::input[@type="range"][1]'
        slider = self.page.locator(under)
        slider.scroll_into_view_if_needed()
        slider.fill(str(value))
