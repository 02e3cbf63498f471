"""Take the pictures of the App that the documentation shows, from the demonstration itself.

    python scripts/take_screenshots.py [--only operator duplicates similarity]

Runs in a database, plugins folder and port of its own, as the tests do; nothing of the user's is
touched. Needs a Chromium (scripts/ensure_chromium.py).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
SCREEN = {"width": 1280, "height": 800}
LARGEST_BYTES = 600_000

if TYPE_CHECKING:
    from tests.e2e.app_page import AppPage


def main() -> int:
    """Run the demonstration, then photograph the App on it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=list(SHOTS), default=list(SHOTS))
    wanted = parser.parse_args().only
    sys.path.insert(0, str(ROOT))
    import tests.conftest  # noqa: F401  (makes the world that FiftyOne is imported into)
    from fiftyone_isoclip.demo.run import DATASET_NAME, open_app, run_demo

    print(run_demo())
    session = open_app(DATASET_NAME, wait=False)
    url = f"http://localhost:{session.server_port}/datasets/{DATASET_NAME}"
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        with _page(url) as app:
            app.show_everything("samples")
            SHOTS[name](app)
            _shrink(app, IMAGES / f"app-{name}.png")
    session.close()
    return 0


def show_operator(app: AppPage) -> None:
    """The form of the operator that finds near-duplicates."""
    app.open_operator("IsoCLIP: Find near-duplicates")


def show_duplicates(app: AppPage) -> None:
    """The groups that this operator leaves in the grid."""
    app.open_operator("IsoCLIP: Find near-duplicates")
    app.execute()
    app.leave_result()
    app.expect_counts("groups")


def show_similarity(app: AppPage) -> None:
    """What the magnifier finds through our index."""
    app.search_like_first_tile()
    app.expect_counts("25 samples")


SHOTS = {
    "operator": show_operator,
    "duplicates": show_duplicates,
    "similarity": show_similarity,
}


@contextmanager
def _page(url: str) -> Iterator[AppPage]:
    from playwright.sync_api import sync_playwright

    from tests.e2e.app_page import CHROMIUM_FLAGS, AppPage

    system = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=system, args=list(CHROMIUM_FLAGS))
        size: Any = SCREEN
        app = AppPage(browser.new_page(viewport=size))
        app.open(url)
        yield app
        browser.close()


def _shrink(app: AppPage, path: Path) -> None:
    """Photographs make heavy PNG files; a palette of 256 colours is enough for documentation."""
    app.photograph(path)
    with Image.open(path) as full:
        small = full.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT)
    small.save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {size / 1000:.0f} kB")
    if size > LARGEST_BYTES:
        raise SystemExit(f"{path} is larger than {LARGEST_BYTES / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
