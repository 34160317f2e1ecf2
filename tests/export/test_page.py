"""The report's page in a headless browser."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "search" / "browser.py"
spec = importlib.util.spec_from_file_location("browser", FILE)
browser = importlib.util.module_from_spec(spec)
spec.loader.exec_module(browser)


@pytest.mark.slow
@pytest.mark.skipif(browser.MISSING is not None, reason=browser.MISSING or "")
@pytest.mark.parametrize(("width", "dark"), [(1300, False), (390, True)])
def test_the_page_is_readable_in_a_browser(width, dark, bundle, tmp_path):
    with browser.Browser(width, 900, dark) as window:
        window.open(bundle.folder / "report.html")
        window.screenshot(tmp_path / "page.png")
        assert window.run("return document.documentElement.scrollWidth") <= width, "nothing sticks out"
        colours = "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
        assert window.run(colours) == (
            ["rgb(20, 25, 30)", "rgb(223, 229, 234)"] if dark else ["rgb(255, 255, 255)", "rgb(29, 39, 51)"]
        )
        assert window.run("return document.querySelectorAll('svg circle').length") >= 5
        assert window.console() == []
        assert window.requests() == []
    assert (tmp_path / "page.png").stat().st_size > 10_000
