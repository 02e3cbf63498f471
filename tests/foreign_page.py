"""A web page of somebody else's, in a real browser: what it can make the App's server do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Error, Page, Response, sync_playwright

from tests.e2e.app_page import CHROMIUM_FLAGS

Post = tuple[str, dict[str, Any]]
"""A path of the App's server, and what is posted there."""

_FETCH = """async ([app, posts]) => {
  for (const [path, body] of posts)
    await fetch(app + path, {method: "POST", mode: "no-cors", body,
                             headers: {"Content-Type": "text/plain"}});
}"""
_READ = """async ([app, path, body]) => {
  try {
    const reply = await fetch(app + path, {method: "POST", mode: "cors", body,
                                           headers: {"Content-Type": "text/plain"}});
    return await reply.text();
  } catch (error) { return null; }
}"""
_SUBMIT = """([app, path, name, value]) => {
  document.body.innerHTML = '<iframe name="hidden"></iframe>';
  const form = document.body.appendChild(document.createElement("form"));
  Object.assign(form, {method: "POST", action: app + path, target: "hidden"});
  form.enctype = "text/plain";
  const input = form.appendChild(document.createElement("input"));
  Object.assign(input, {name, value});
  form.submit();
}"""


class _Nothing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Kittens</title><body>")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class ForeignPage:
    """A page of another origin than the App's."""

    def __init__(self, page: Page, app: str) -> None:
        self._page = page
        self._app = app
        self._answered: list[Response] = []
        page.on("response", lambda response: self._answered.append(response))

    def post(self, posts: Sequence[Post]) -> list[int]:
        """Post these, one after the other; -> the statuses, which the page itself cannot see."""
        self._answered.clear()
        self._page.evaluate(_FETCH, [self._app, [[path, json.dumps(b)] for path, b in posts]])
        return [response.status for response in self._answered]

    def submit(self, path: str, body: dict[str, Any]) -> int:
        """Post this as a form, in the one shape of JSON that a form can take; -> the status."""
        name, value = '{"ignored": "', '", ' + json.dumps(body)[1:]
        with self._page.expect_response(lambda response: path in response.url) as answer:
            self._page.evaluate(_SUBMIT, [self._app, path, name, value])
        return answer.value.status

    def read(self, path: str, body: dict[str, Any]) -> str | None:
        """Try to read the reply to a post; -> None if the browser refuses."""
        return self._page.evaluate(_READ, [self._app, path, json.dumps(body)])


@contextmanager
def open_foreign_page(app: str) -> Iterator[ForeignPage]:
    """Serve a page on another port and open it in Chromium."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Nothing)
    Thread(target=server.serve_forever, daemon=True).start()
    system = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        with sync_playwright() as playwright:
            try:
                browser = playwright.chromium.launch(
                    executable_path=system, args=list(CHROMIUM_FLAGS)
                )
            except Error as error:
                pytest.skip(f"no Chromium starts here ({error.message.splitlines()[0]})")
            page = browser.new_page()
            page.set_default_timeout(90_000)
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            yield ForeignPage(page, app)
            browser.close()
    finally:
        server.shutdown()
        server.server_close()
