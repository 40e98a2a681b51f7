"""Pages in a real browser: both languages, phone and desktop, with and without scripts."""

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import uvicorn

from api.settings import Settings

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = os.environ.get("EMS_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
SHOTS = os.environ.get("EMS_SCREENSHOTS")
PHONE, DESKTOP = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(180),
    # Playwright leaves its pipe to the collector
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@contextmanager
def served(app: Any) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    assert CHROMIUM, (
        "install Chromium (Debian: apt-get install chromium fonts-noto-cjk) or set EMS_TEST_CHROMIUM"
    )
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def street(kit: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    made = kit.make_street(tmp_path_factory.mktemp("street"), Settings(demo=True))
    yield made
    made.service.store.close()


@pytest.fixture(scope="module")
def url(street: Any) -> Iterator[str]:
    with served(street.app) as address:
        yield address


@pytest.fixture
def opened(browser: Any, url: str, street: Any) -> Iterator[Callable[..., Any]]:
    contexts = []

    def open_page(
        entry: str,
        path: str | None = None,
        *,
        language: str = "en",
        size: dict[str, int] = PHONE,
        scripts: bool = True,
        dark: bool = False,
    ) -> Any:
        context = browser.new_context(
            viewport=size,
            java_script_enabled=scripts,
            locale=language,
            color_scheme="dark" if dark else "light",
        )
        contexts.append(context)
        page = context.new_page()
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda said: page.problems.append(said.text) if said.type == "error" else None)
        page.goto(url + "/")
        if entry == "pause":
            page.click("button[value='home-01']")
            page.click("button[value='day']")
        elif entry != "signed out":
            page.click(f"button[value='{entry}']")
        if path is not None:
            page.goto(url + path)
        return page

    yield open_page
    for pause in street.service.store.orders_from(street.service.clock.now()):
        street.service.store.end_order(pause.id, street.service.clock.now(), "test")
    for context in contexts:
        context.close()


PAGES = {
    "household": ("home-02", None),
    "missing": ("home-03", None),
    "operator": ("operator", "/operator"),
    "site": ("operator", "/operator/sites/home-01"),
    "about": ("home-01", "/about"),
    "front": ("home-01", "/"),
    "signin": ("signed out", "/signin"),
    "paused": ("pause", "/homes/home-01"),
}


def drawn(page: Any) -> None:
    if page.locator("figure[data-course]").count():
        page.wait_for_selector("figure .uplot canvas")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("language", ["ko", "en"])
@pytest.mark.parametrize("name", PAGES)
def test_page_fits_and_everybody_can_use_it(
    opened: Callable[..., Any], name: str, language: str, size: dict[str, int], dark: bool
) -> None:
    entry, path = PAGES[name]
    page = opened(entry, path, language=language, size=size, dark=dark)
    drawn(page)
    if SHOTS:
        folder = Path(SHOTS)
        folder.mkdir(parents=True, exist_ok=True)
        kind = f"{language}-{size['width']}-{'dark' if dark else 'light'}"
        page.screenshot(path=str(folder / f"{name}-{kind}.png"), full_page=True)

    assert page.get_attribute("html", "lang") == language
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"scrolls sideways by {wide} px"
    assert not page.problems

    page.evaluate("document.querySelectorAll('details').forEach(function (d) { d.open = true; })")
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"scrolls sideways by {wide} px with all details open"
    page.evaluate(AXE.read_text())
    found = page.evaluate(
        "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})"
    )
    assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found["violations"]] == []


def test_a_new_reading_is_seen_without_reload(
    opened: Callable[..., Any], street: Any, kit: ModuleType
) -> None:
    page = opened("home-01")
    drawn(page)
    page.evaluate("window.same = true")
    before = page.inner_text("#now .t-home .value")
    site, live = street.service.sites[0], street.service.live
    state = kit.make_live(site)
    changed = replace(state, powers=replace(state.powers, load_kw=2.74))
    deadline = time.monotonic() + 10
    while page.inner_text("#now .t-home .value") != "2.7\N{NO-BREAK SPACE}kW":
        assert time.monotonic() < deadline, f"still shows {before}"
        street.service.loop.call_soon_threadsafe(live.publish, site.id, changed)
        page.wait_for_timeout(200)
    assert page.evaluate("window.same"), "the page was loaded again"
    street.service.loop.call_soon_threadsafe(live.publish, site.id, state)


def test_a_cycle_is_seen_on_the_operators_page_without_reload(
    opened: Callable[..., Any], street: Any, kit: ModuleType
) -> None:
    page = opened("operator", "/operator")
    drawn(page)
    page.evaluate("window.same = true")
    assert "Home 1" in page.inner_text("#operator_sites")
    record = kit.make_record(street.service.sites)
    edge = replace(record.edges[0], site_id="home-01", became="previous", cause="solver took too long")
    street.service.store.save_edges([edge])
    deadline = time.monotonic() + 10
    while "solver took too long" not in page.inner_text("#operator_edges"):
        assert time.monotonic() < deadline
        street.service.live.announce()
        page.wait_for_timeout(200)
    assert page.evaluate("window.same"), "the page was loaded again"


def test_a_person_pauses_and_resumes_without_scripts(opened: Callable[..., Any], street: Any) -> None:
    page = opened("home-01", scripts=False)
    page.click("button[value='day']")
    assert "paused until 13:20 tomorrow" in page.inner_text(".control")
    assert street.service.store.orders_from(street.service.clock.now())[0].site_id == "home-01"
    page.click("button[value='resume']")
    assert "Automatic control is on" in page.inner_text(".control")
    assert street.service.store.orders_from(street.service.clock.now()) == ()


def test_essentials_are_there_without_scripts(opened: Callable[..., Any]) -> None:
    page = opened("home-01", scripts=False)
    assert "The sun runs your home" in page.inner_text("h1")
    assert page.inner_text(".number strong").startswith("₩")
    assert page.locator("svg.sketch path").count() == 4
    if SHOTS:
        page.screenshot(path=str(Path(SHOTS) / "noscript.png"), full_page=True)
    page.click("details.hours summary")
    assert page.locator("details.hours tbody tr").count() > 30
    assert page.locator("noscript a").count() > 0


def test_the_keyboard_alone_reaches_the_action(opened: Callable[..., Any]) -> None:
    page = opened("home-01")
    for _ in range(8):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "wish":
            return
    pytest.fail("the one action is not among the first things the keyboard reaches")
