"""Take the pictures of the App that the documentation shows, from the demonstration itself.

    python scripts/take_screenshots.py [--only duplicates leaks ...]

Runs in a database, plugins folder and port of its own, as the tests do; nothing of the user's is
touched. Needs a Chromium (scripts/ensure_chromium.py).
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
SCREEN = {"width": 1440, "height": 900}
LARGEST_BYTES = 600_000

if TYPE_CHECKING:
    import fiftyone as fo

    from tests.e2e.app_page import AppPage
    from tests.e2e.panel_page import PanelPage


def main() -> int:
    """Run the demonstration, then photograph the App on it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=list(SHOTS), default=list(SHOTS))
    wanted = parser.parse_args().only
    sys.path.insert(0, str(ROOT))
    import tests.conftest  # noqa: F401  (makes the world that FiftyOne is imported into)
    from fiftyone_isoclip.demo.run import DATASET_NAME, open_app, run_demo

    print(run_demo())
    import fiftyone as fo
    from fiftyone.core.odm.workspace import default_workspace_factory

    _split(fo.load_dataset(DATASET_NAME))
    session = open_app(DATASET_NAME, wait=False)
    url = f"http://localhost:{session.server_port}/datasets/{DATASET_NAME}"
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        session.spaces = default_workspace_factory()  # no panel that an earlier picture needed
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
    """The groups that this operator leaves in the grid, and what the panel says of them."""
    app.open_operator("IsoCLIP: Find near-duplicates")
    app.execute()
    app.leave_result()
    panel = _panel(app, "Duplicates")
    panel.tab("Set the similarity")
    panel.expect_text("Just duplicates")


def show_review(app: AppPage) -> None:
    """One group, image by image."""
    panel = _panel(app, "Duplicates")
    panel.press("Next")
    panel.expect_text("Group 2 of")


def show_leaks(app: AppPage) -> None:
    """The table of splits, and pairs of two of them."""
    panel = _panel(app, "Leaks")
    panel.press("Find leaks between splits")
    panel.execute()
    panel.press(re.compile("train.*test"))
    panel.expect_text("PAIRS")


def show_clusters(app: AppPage) -> None:
    """Clusters by size, with the image that stands for each."""
    _panel(app, "Clusters").expect_text(re.compile("silhouette"))


def show_space(app: AppPage) -> None:
    """The band on the spectrum, and what it does to the neighbours of an image."""
    panel = _panel(app, "Space")
    panel.press(re.compile("Load the space"))
    panel.expect_text("NEIGHBOURS IN PLAIN CLIP")


def show_runs(app: AppPage) -> None:
    """Everything that was found, to show, update, rename and delete."""
    _panel(app, "Runs").expect_text("RUNS")


def show_similarity(app: AppPage) -> None:
    """What the magnifier finds through our index."""
    app.search_like_first_tile()
    app.expect_counts("25 samples")


SHOTS = {
    "operator": show_operator,
    "similarity": show_similarity,
    "duplicates": show_duplicates,
    "review": show_review,
    "leaks": show_leaks,
    "clusters": show_clusters,
    "space": show_space,
    "runs": show_runs,
}


def _panel(app: AppPage, tab: str) -> PanelPage:
    from tests.e2e.panel_page import PanelPage

    panel = PanelPage(app)
    panel.open()
    panel.tab(tab)
    return panel


def _split(dataset: fo.Dataset) -> None:
    """Tag every third photograph with its copies as a test split, and two copies that leak."""
    from fiftyone import ViewField as F

    names = sorted(dataset.distinct("source_group"))
    test = dataset.match(F("source_group").is_in(names[::3]))
    test.tag_samples("test")
    dataset.exclude(test).tag_samples("train")
    for copied in ("as webp", "recompressed"):
        leaked = dataset.match((F("source_group") == names[1]) & (F("copy_kind") == copied))
        leaked.untag_samples("train")
        leaked.tag_samples("test")


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
    app.await_pictures()
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
