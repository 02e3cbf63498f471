"""FiftyOne's own Similarity Search and Embeddings panels, as a user sees them."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.e2e.app_page import PATIENCE_MS, AppPage


class SearchPage:
    """The panels beside the grid of an App's page."""

    def __init__(self, app: AppPage) -> None:
        self.app = app
        self.page = app.page

    def open(self) -> None:
        """Open the Similarity Search panel, unless the session left it open."""
        button = self.page.get_by_role("button", name="New Search").first
        if not button.is_visible():
            self._open_panel("similarity_search_panel")
        expect(button).to_be_visible(timeout=PATIENCE_MS)

    def new(self, key: str) -> None:
        """Begin a search with an index."""
        self.page.get_by_role("button", name="New Search").first.click()
        choice = self.page.get_by_role("combobox").last
        if key not in choice.inner_text():
            choice.click()
            self.page.get_by_role("option", name=re.compile(key)).click()
        expect(self.page.get_by_text("Number of matches")).to_be_visible(timeout=PATIENCE_MS)

    def by_text(self, text: str) -> None:
        """Ask for a text."""
        self.page.get_by_role("button", name="Text Search").click()
        self.page.get_by_placeholder("Enter a text prompt").fill(text)

    def by_upload(self, path: str) -> None:
        """Ask for a picture from this machine."""
        self.page.get_by_role("button", name="Upload Image").click()
        self.page.locator("input[type=file]").first.set_input_files(path)
        expect(self.page.get_by_role("button", name="Clear")).to_be_visible(timeout=PATIENCE_MS)

    def by_samples(self, *, wanted: int, unwanted: int) -> None:
        """Ask for what is like one tile and unlike another."""
        self.page.get_by_role("button", name="Image Search").click()
        self._select(wanted, alt=False)
        self._select(unwanted, alt=True)
        told = re.compile("1 samples? selected .positive. .* 1 negative")
        expect(self.page.get_by_text(told)).to_be_visible(timeout=PATIENCE_MS)

    def execute(self) -> None:
        """Search, and show what was found in the grid."""
        self.page.get_by_role("button", name="Search", exact=True).click()
        self.page.get_by_text("Run this operation synchronously").click()
        found = self.page.locator('button[aria-label="Show results"]').first
        expect(found).to_be_attached(timeout=PATIENCE_MS)
        # Forced: the card around it says aria-disabled, which is about dragging it.
        found.click(force=True)

    def open_map(self, key: str, count: int) -> None:
        """Open the Embeddings panel on a map, and wait until it shows so many points."""
        self._open_panel("Embeddings")
        self.page.get_by_text(key, exact=True).first.click()
        shown = self.page.get_by_text(re.compile(rf"\b{count} points"))
        expect(shown.first).to_be_visible(timeout=PATIENCE_MS)

    def _open_panel(self, name: str) -> None:
        self.page.locator('[data-cy="new-panel-btn"]').first.click()
        self.page.locator(f'[data-cy="new-panel-option-{name}"]').click()

    def _select(self, tile: int, *, alt: bool) -> None:
        shown = self.page.locator('[data-cy="looker"]').nth(tile)
        shown.hover()
        # The checkbox is drawn by the tile and lies outside of what Playwright calls visible.
        shown.locator('[data-cy^="looker-checkbox-input"]').evaluate(
            "(box, altKey) => box.dispatchEvent(new MouseEvent('click', {bubbles: true, altKey}))",
            alt,
        )
