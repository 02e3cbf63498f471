"""Provide a Chromium for the tests that drive the App: the system's own, or Playwright's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def main() -> int:
    """Leave a Chromium that can be found, or say what the user can do."""
    for install in (None, install_with_apt, install_with_playwright):
        if install is not None and not install():
            continue
        if found := find_chromium():
            print(f"chromium: {found}")
            return 0
    print(
        "chromium: none was found and none could be installed; the tests that drive the App need "
        "one. Install your system's chromium, or run `playwright install --with-deps chromium`",
        file=sys.stderr,
    )
    return 1


def find_chromium() -> Path | None:
    """The browser to drive: the first on the PATH, else the one Playwright downloaded."""
    for name in NAMES:
        if found := shutil.which(name):
            return Path(found)
    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    return own if own.exists() else None


def install_with_apt() -> bool:
    """Install the distribution's package, where that is allowed."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    print("chromium: installing it with apt-get")
    commands = (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"])
    return all(subprocess.run(command).returncode == 0 for command in commands)


def install_with_playwright() -> bool:
    """Download Playwright's own build."""
    print("chromium: asking Playwright to download it")
    command = [sys.executable, "-m", "playwright", "install", "chromium"]
    return subprocess.run(command).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
