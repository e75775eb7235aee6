"""A real browser looks at every page of the site, from a server and from disk, light and dark."""

import functools
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import PAGES, ROOT

webdriver = pytest.importorskip("selenium.webdriver", reason="pip install -e '.[docs]'")

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="no browser: apt-get install chromium chromium-driver"
    ),
]

LOOKS = (ROOT / "tests" / "docs" / "looks.js").read_text(encoding="utf-8")
DOCS = [p.relative_to(ROOT / "docs") for p in PAGES if p.is_relative_to(ROOT / "docs")]
NAMES = [page.with_suffix(".html").as_posix() for page in [*DOCS, Path("keys.md")]]
WIDE, NARROW = 1280, 390


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that does not write a line for each."""

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[str]:
    """The address at which the site is served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(params=["server", "disk"], scope="module")
def address(request: pytest.FixtureRequest, site: Path, server: str) -> str:
    """Where the site is: behind a server, or in a folder."""
    return server if request.param == "server" else site.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(30)
    forget = {"source": "localStorage.clear()"}  # else a page remembers the scheme of the last one
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", forget)
    yield driver
    driver.quit()


def show(browser: Any, url: str, width: int = WIDE, scheme: str = "light") -> None:
    """Open a page at a width, in a colour scheme."""
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    resize(browser, width)
    browser.get(url)


def resize(browser: Any, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == NARROW}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def look(browser: Any, check: str) -> list[str]:
    """What one of the functions of ``looks.js`` finds wrong."""
    script = f"{LOOKS}\nPromise.resolve({check}()).then(arguments[0])"
    return browser.execute_async_script(f"(function () {{ {script} }}).apply(null, arguments)")


@pytest.mark.parametrize("name", NAMES)
def test_page_is_sound(browser: Any, address: str, name: str) -> None:
    show(browser, f"{address}/{name}")
    assert look(browser, "brokenPictures") == []
    assert look(browser, "unsetEquations") == []
    assert look(browser, "faintText") == []
    resize(browser, NARROW)
    assert look(browser, "sidewaysScroll") == []
    assert look(browser, "brokenWords") == []
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("name", NAMES)
def test_dark_page_is_readable(browser: Any, site: Path, name: str) -> None:
    show(browser, f"{site.as_uri()}/{name}", scheme="dark")
    dark = "return getComputedStyle(document.body).backgroundColor"
    assert sum(map(int, browser.execute_script(dark)[4:-1].split(","))) < 3 * 64
    assert look(browser, "faintText") == []


@pytest.mark.parametrize(
    ("words", "found"),
    [("train.max_steps", "keys.html#trainmax_steps"), ("KineticEnergy", "api/"), ("resume", "")],
)
def test_search_finds(browser: Any, address: str, words: str, found: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    show(browser, f"{address}/index.html")
    browser.execute_script("document.querySelector('[for=__search]').click()")
    field = browser.find_element("css selector", ".md-search__input")
    WebDriverWait(browser, 10).until(lambda _: field.is_displayed())
    field.send_keys(words)
    results = "a.md-search-result__link"
    WebDriverWait(browser, 20).until(lambda b: b.find_elements("css selector", results))
    first = browser.find_element("css selector", results).get_attribute("href")
    assert found in first
