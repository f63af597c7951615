"""A real browser, as an operator has one, and what it was asked to load."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import (
    ElementNotInteractableException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.browsers.processes import command
from tests.scenarios.harness import ADMIN, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from selenium.webdriver.remote.webelement import WebElement

LIMIT_S = 20.0

DESKTOP, PHONE = (1440, 1000), (390, 844)

AXE = ROOT / "tests" / "client" / "node_modules" / "axe-core" / "axe.min.js"

LISTEN = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


class Browser:
    """Chromium without a window.

    Attributes:
        driver: Selenium's.
    """

    def __init__(self, downloads: Path) -> None:
        options = webdriver.ChromeOptions()
        for each in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--lang=en-GB"):
            options.add_argument(each)
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        # Named, so that nothing is looked for on the network.
        options.binary_location = command("chromium")
        self.driver = webdriver.Chrome(options, Service(command("chromedriver")))
        self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": LISTEN})

    def close(self) -> None:
        self.driver.quit()

    # Where it is.

    def size(self, size: tuple[int, int], *, dark: bool = False) -> None:
        width, height = self.size_now = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def visit(self, url: str) -> None:
        self.driver.get_log("performance")
        self.driver.get_log("browser")
        self.driver.get("about:blank")
        self.driver.get(url)

    def sign_in(self, url: str, token: str = ADMIN) -> None:
        """Opens the dashboard as somebody who was not there before."""
        self.visit(url + "/")
        self.driver.execute_script("sessionStorage.clear(); localStorage.clear()")
        self.visit(url + "/")
        self.type("#token", token)
        self.press("Sign in")

    def go(self, place: str) -> None:
        self.driver.execute_script("location.hash = arguments[0]", f"#/{place}")

    # What is seen.

    def until(self, condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
        def met(_: object) -> Any:
            with contextlib.suppress(*_GONE):
                return condition()
            return None

        try:
            return WebDriverWait(self.driver, limit_s, poll_frequency=0.05).until(met)
        except TimeoutException:
            raise AssertionError(f"not within {limit_s} s: {what}\n{self._text()}") from None

    def find(self, css: str) -> WebElement:
        """The first such element that is shown."""
        found: WebElement = self.until(lambda: next(iter(self.all(css)), None), css)
        return found

    def all(self, css: str) -> list[WebElement]:
        return [each for each in self.driver.find_elements(By.CSS_SELECTOR, css) if each.is_displayed()]

    def text(self, css: str = "body") -> str:
        """What the first such element says, "" without one; asked again where the page is drawn anew meanwhile."""
        return str(self.until(lambda: (self._text(css),), css)[0])

    def _text(self, css: str = "body") -> str:
        found = self.driver.find_elements(By.CSS_SELECTOR, css)
        return found[0].text if found else ""

    def says(self, words: str, css: str = "body", limit_s: float = LIMIT_S) -> None:
        self.until(lambda: words in self._text(css), f"{css} says {words!r}", limit_s)

    # What is done, by css selector; again where the page is drawn anew meanwhile.

    def click(self, css: str) -> None:
        self.until(lambda: [each.click() for each in self.all(css)[:1]], f"click {css}")

    def type(self, css: str, words: str) -> None:
        self.until(lambda: [each.send_keys(words) for each in self.all(css)[:1]], f"type into {css}")

    def clear(self, css: str) -> None:
        self.until(lambda: [each.clear() for each in self.all(css)[:1]], f"clear {css}")

    def press(self, words: str, css: str = "button") -> None:
        self.until(lambda: self._press(words, css), f"press {words!r}")

    def _press(self, words: str, css: str) -> bool:
        for each in self.all(css):
            if each.text == words and each.is_enabled():
                each.click()
                return True
        return False

    # What it did.

    def requests(self) -> list[str]:
        """Every address that was asked for since the last visit."""
        lines = [json.loads(each["message"])["message"] for each in self.driver.get_log("performance")]
        return [each["params"]["request"]["url"] for each in lines if each["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """What the console holds against the page, but refused requests, which it tells too."""
        told = [each["message"] for each in self.driver.get_log("browser") if each["level"] in ("SEVERE", "WARNING")]
        return [each for each in told if "Failed to load resource" not in each]

    def violations(self) -> list[str]:
        return list(self.driver.execute_script("return window.violations"))

    def faults(self) -> list[str]:
        """What axe finds. Where it is not installed (tests/client/check.sh does), nothing; an error in CI."""
        if not AXE.exists() and not os.environ.get("CI"):
            return []
        self.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE.read_text(encoding="utf-8")})
        run = "axe.run(document, {resultTypes: ['violations']}).then((found) => JSON.stringify(found.violations))"
        answer = self.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": run, "awaitPromise": True})
        found = json.loads(answer["result"]["value"])
        return [f"{each['id']}: {node['target']} {node['failureSummary']}" for each in found for node in each["nodes"]]

    def overflows(self) -> int:
        """Pixels by which the page is wider than its window."""
        # On a phone a page that is too wide makes its window wider.
        return int(self.driver.execute_script("return document.documentElement.scrollWidth")) - self.size_now[0]


_GONE = (StaleElementReferenceException, ElementNotInteractableException)
"""What is thrown of an element that the page has replaced meanwhile."""


def hosts(urls: list[str]) -> set[str]:
    return {urlsplit(url).netloc for url in urls if urlsplit(url).scheme in ("http", "https", "ws", "wss")}


@contextlib.contextmanager
def opened(downloads: Path) -> Iterator[Browser]:
    browser = Browser(downloads)
    try:
        yield browser
    finally:
        browser.close()
