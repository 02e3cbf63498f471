"""One real App server and one real Chromium for all of these tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest
from PIL import Image
from playwright.sync_api import Browser, Error, sync_playwright

from fiftyone_isoclip.demo.photographs import find_photographs
from fiftyone_isoclip.files.edits import edit_image
from fiftyone_isoclip.install import install_plugin
from tests.e2e.app_page import CHROMIUM_FLAGS, AppPage

SOURCES = ("astronaut", "chelsea", "coffee", "rocket", "china", "flower")
KINDS = ("recompressed", "half size", "as webp")


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> fo.Dataset:
    """Six photographs and three copies of each; copies do not lie beside their originals."""
    folder = tmp_path_factory.mktemp("photographs")
    known = {photograph.name: photograph.path for photograph in find_photographs()}
    samples = []
    for kind in ("original", *KINDS):
        for name in SOURCES:
            path = folder / f"{name}-{kind.replace(' ', '-')}.jpg"
            with Image.open(known[name]) as opened:
                image = opened.convert("RGB")
            image.thumbnail((320, 320))
            (image if kind == "original" else edit_image(image, kind, 0)).save(path, quality=90)
            samples.append(fo.Sample(filepath=str(path), source_group=name, copy_kind=kind))
    dataset = fo.Dataset("photographs", persistent=True)
    dataset.add_samples(samples, progress=False)
    return dataset


@pytest.fixture(scope="session")
def session(photographs: fo.Dataset) -> Iterator[Any]:
    """The App's server, with the plugin installed as `isoclip install` does it."""
    install_plugin()
    # Without it the App offers no Schedule.
    os.environ["FIFTYONE_ALLOW_LEGACY_ORCHESTRATORS"] = "true"
    port = int(os.environ["FIFTYONE_DEFAULT_APP_PORT"])
    session = fo.launch_app(photographs, remote=True, address="localhost", port=port)
    yield session
    session.close()
    fo.close_app()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, or Playwright's own."""
    system = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=system, args=list(CHROMIUM_FLAGS))
        except Error as error:
            pytest.skip(f"no Chromium starts here ({error.message.splitlines()[0]})")
        yield browser
        browser.close()


@pytest.fixture
def app(
    session: Any, browser: Browser, photographs: fo.Dataset, request: pytest.FixtureRequest
) -> Iterator[AppPage]:
    """A page on the dataset; what its console says of errors fails the test."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    app = AppPage(page)
    app.open(f"http://localhost:{session.server_port}/datasets/{photographs.name}")
    yield app
    pictures = Path(request.config.rootpath, "build", "e2e")
    app.photograph(pictures / f"{request.node.name}.png")
    page.close()
    assert app.errors == []
