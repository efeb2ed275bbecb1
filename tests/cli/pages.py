"""Pages in a real browser: Debian's chromium, driven by Playwright's client.

MEMO_SCREENSHOTS names a folder that gets a picture of every page that is looked at.
"""

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
MAP = "#map canvas"


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    assert chromium, "chromium is missing: make build installs it"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


class Look:
    """A page that was opened, and what must not have happened."""

    def __init__(self, browser, file, viewport=DESKTOP, **options):
        self.context = browser.new_context(viewport=viewport, **options)
        self.page = self.context.new_page()
        self.errors, self.requests = [], []
        self.page.on("console", lambda message: message.type in ("error", "warning") and self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("html[data-ready]", timeout=60_000)
        self.settle()

    def settle(self):
        self.page.wait_for_timeout(350)  # pictures are drawn once fast, then sharp

    def close(self):
        assert self.errors == []
        assert [url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))] == []
        self.context.close()

    def shown(self):
        """What the map says that it shows."""
        self.settle()
        return self.page.get_attribute(MAP, "aria-description")

    def colours(self, selector):
        """How many colours a canvas has, and the one of its top left corner."""
        return self.page.evaluate(
            """(selector) => {
              const canvas = document.querySelector(selector), copy = document.createElement("canvas");
              copy.width = canvas.width;
              copy.height = canvas.height;
              const context = copy.getContext("2d", {willReadFrequently: true});
              context.drawImage(canvas, 0, 0);
              const data = context.getImageData(0, 0, copy.width, copy.height).data;
              const found = new Set(new Uint32Array(data.buffer));
              return [found.size, Array.from(data.slice(0, 3))];
            }""",
            selector,
        )

    def row(self, selector, y):
        """[red, green, blue] of each pixel of a canvas's row."""
        data = self.page.evaluate(
            """([selector, y]) => {
              const canvas = document.querySelector(selector), copy = document.createElement("canvas");
              copy.width = canvas.width;
              copy.height = 1;
              const context = copy.getContext("2d", {willReadFrequently: true});
              context.drawImage(canvas, 0, -y);
              return [...context.getImageData(0, 0, copy.width, 1).data];
            }""",
            [selector, y],
        )
        return [data[at : at + 3] for at in range(0, len(data), 4)]

    def style(self, selector, name):
        script = "(found, name) => getComputedStyle(found).getPropertyValue(name)"
        return self.page.eval_on_selector(selector, script, name).strip()

    def middle(self, selector):
        self.page.locator(selector).scroll_into_view_if_needed()
        box = self.page.locator(selector).bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def screenshot(self, name):
        if folder := os.environ.get("MEMO_SCREENSHOTS"):
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest.fixture
def look(browser):
    looks = []

    def opened(file, **options):
        looks.append(Look(browser, file, **options))
        return looks[-1]

    yield opened
    for one in looks:
        one.close()
