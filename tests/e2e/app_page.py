"""The FiftyOne App as a user sees it: the only file that knows its selectors."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import ConsoleMessage, Locator, Page, expect

PATIENCE_MS = 180_000
"""For what the App's server or a worker may have to import first, on a slow machine."""

CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# What the App itself says, with or without us: its fonts offline, and a race in its own start.
NOISE = re.compile(r"ERR_NAME_NOT_RESOLVED|ERR_INTERNET_DISCONNECTED|ERR_FAILED|entry is loading")

_FORM = '[data-cy="operators-prompt-modal"]'
_RESULT = '[data-cy="operators-prompt-view-modal"]'
_TILE = '[data-cy="looker"]'


class AppPage:
    """One page of the App; ``errors`` collects what its console complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self._add(str(error)))
        page.set_default_timeout(PATIENCE_MS)
        # An advertisement lies over the grid until it is dismissed.
        advertisement = page.get_by_role("button", name="Dismiss")
        # Pressed before the page listens it stays, and is pressed again.
        page.add_locator_handler(advertisement, lambda button: button.click(), no_wait_after=True)

    def open(self, url: str) -> None:
        """Load a dataset and wait until the grid shows samples."""
        self.page.goto(url)
        expect(self.page.locator(_TILE).first).to_be_visible(timeout=PATIENCE_MS)

    def show_everything(self, counts: str) -> None:
        """Leave every view, until the grid counts this."""
        clear = self.page.locator('[data-cy="btn-clear-view-bar"]')
        if clear.is_visible():
            clear.click()
        self.expect_counts(counts)

    def expect_counts(self, counts: str) -> None:
        """Wait until the grid counts, say, `6 groups`."""
        shown = self.page.locator('[data-cy="entry-counts"]')
        expect(shown).to_contain_text(counts, timeout=PATIENCE_MS)

    def expect_tiles(self, n: int) -> None:
        """Wait until the grid shows this many tiles."""
        expect(self.page.locator(_TILE)).to_have_count(n, timeout=PATIENCE_MS)

    def list_operators(self, query: str) -> list[str]:
        """The labels that the operator browser finds; it stays open."""
        self.page.locator('[data-cy="action-browse-operations"]').click()
        self.page.locator('[data-cy="operators-browser-search"]').fill(query)
        found = self.page.locator('[data-cy="operators-browser"]').get_by_text(
            re.compile("^IsoCLIP")
        )
        expect(found.first).to_be_visible(timeout=PATIENCE_MS)
        return found.all_inner_texts()

    def choose_operator(self, label: str) -> None:
        """Open the form of an operator, whatever it says."""
        self.list_operators(label)
        browser = self.page.locator('[data-cy="operators-browser"]')
        browser.get_by_text(label, exact=True).click()

    def open_operator(self, label: str) -> None:
        """Open the form of an operator and wait until it can be executed."""
        self.choose_operator(label)
        expect(self._go()).to_be_enabled(timeout=PATIENCE_MS)

    def value(self, label: str) -> str:
        """What an input of the form holds."""
        return self._input(label).input_value()

    def fill(self, label: str, value: str) -> None:
        """Fill an input of the form."""
        self._input(label).fill(value)

    def expect_in_form(self, sentence: str) -> None:
        """Wait until the form says this: the server has seen what was filled in."""
        expect(self.page.locator(_FORM)).to_contain_text(sentence, timeout=PATIENCE_MS)

    def execute(self) -> str:
        """Press Execute and wait for the form of results; -> its text."""
        self._execute().click()
        result = self.page.locator(_RESULT)
        # The same box shows the progress first.
        expect(result).to_contain_text(":", timeout=PATIENCE_MS)
        expect(result.get_by_role("progressbar")).to_have_count(0, timeout=PATIENCE_MS)
        return result.inner_text()

    def schedule(self) -> None:
        """Choose Schedule instead of Execute, unless it is chosen still, and press it."""
        form = self.page.locator(_FORM)
        button = form.get_by_role("button", name="Schedule")
        if not button.is_visible():
            form.get_by_role("button").last.click()
            self.page.get_by_role("menuitem", name="Schedule").click()
        expect(button).to_be_enabled(timeout=PATIENCE_MS)
        button.click()
        self.expect_notice("Operation successfully scheduled")
        expect(form).to_have_count(0, timeout=PATIENCE_MS)

    def expect_notice(self, sentence: str | re.Pattern[str]) -> None:
        """Wait for a notification."""
        expect(self.page.get_by_text(sentence).first).to_be_visible(timeout=PATIENCE_MS)

    def leave_result(self) -> None:
        """Close the form of results."""
        self.page.locator(_RESULT).get_by_role("button", name="Done").click()

    def search_like_first_tile(self) -> None:
        """Select the first tile, press the magnifier, and show what its panel found."""
        tile = self.page.locator(_TILE).first
        tile.hover()
        # The checkbox is drawn by the tile and lies outside of what Playwright calls visible.
        tile.locator('[data-cy^="looker-checkbox-input"]').evaluate("box => box.click()")
        self.page.locator('[data-cy="action-sort-by-similarity"]').click()
        self.page.get_by_text("Show similar samples").click()
        button = self.page.locator('button[aria-label="Show results"]').first
        # Forced: the card around it says aria-disabled, which is about dragging it.
        button.click(force=True)

    def await_pictures(self) -> None:
        """Wait until the grid shows pictures and not only that it is loading them."""
        expect(self.page.locator(_TILE).first).to_be_visible(timeout=PATIENCE_MS)
        self.page.wait_for_timeout(3000)  # the tiles are drawn on a canvas, which does not tell

    def photograph(self, path: Path) -> None:
        """Save what is on the screen, once the pictures are drawn."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.wait_for_timeout(1500)
        self.page.screenshot(path=path)

    def _input(self, label: str) -> Locator:
        under = f'xpath=.//*[normalize-space(text())="{label}"]/following::input[1]'
        return self.page.locator(_FORM).locator(under)

    def _go(self) -> Locator:
        # The App remembers which of the two was chosen last.
        return self.page.locator(_FORM).get_by_role("button", name=re.compile("Execute|Schedule"))

    def _execute(self) -> Locator:
        return self.page.locator(_FORM).get_by_role("button", name="Execute")

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._add(message.text)

    def _add(self, error: str) -> None:
        if not NOISE.search(error):
            self.errors.append(error)
