import json
import re
from pathlib import Path

import numpy as np
import pytest
from browser import MISSING, Browser
from commands import call

from gemnet.search.report_figures import pareto_front, principal_plane
from gemnet.search.standing import standing

browser = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")
ROWS = "return [...document.querySelectorAll('tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))"


@pytest.fixture
def page(study):
    result = call("report", study)
    assert (result.exit_code, result.stdout) == (0, f"{study}/report.html\n"), result.output
    return f"{study}/report.html"


def data_of(page):
    with open(page) as file:
        return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', file.read())[1])


def test_the_report_holds_every_trial_and_says_nothing_of_this_machine(page, study, tmp_path):
    data, found = data_of(page), standing(tmp_path / "study")
    assert len(data["rows"]) == len(data["cells"]) == 12
    scores = {row[0]: row[data["columns"].index("score")] for row in data["rows"]}
    best, score = found.best()
    assert max(scores.values()) == scores[best.arch_key[:12]] == pytest.approx(score, abs=1e-6)
    assert data["shown"][0] == ["found", [trial.key for trial in found.all_trials].index(best.key)]
    codes, edges = data["cells"][data["shown"][0][1]]
    assert [data["ops"][code] for code in codes] == best.arch["ops"]
    assert np.reshape(edges, (-1, 2)).tolist() == best.arch["edges"]
    assert [figure["id"] for figure in data["figures"]] == ["pareto", "progress", "map"]
    assert str(tmp_path) not in Path(page).read_text()


def test_a_figure_that_cannot_be_drawn_says_why(study, tmp_path):
    folder = tmp_path / "study" / "artifacts" / "encoder-0"
    folder.mkdir(parents=True)
    (folder / "encoder.json").write_text('{"schema": "gemnet.encoder/0"}')
    call("report", study)
    [drawn] = [figure for figure in data_of(f"{study}/report.html")["figures"] if figure["id"] == "map"]
    assert drawn["text"].startswith("Not drawn: artifacts/encoder-0/encoder.json")
    assert drawn["data"] == []


def test_text_from_a_study_cannot_end_its_script(tmp_path, preset):
    call("run", tmp_path / "a</script><b>", "--preset", preset, "--workers", "0", "--set", "strategy.samples=2")
    call("report", tmp_path / "a</script><b>", "--out", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "</script><b>" not in text
    assert "<b>" not in text.partition("<script>")[0]


def test_a_search_that_has_measured_nothing_has_a_report(tmp_path, preset):
    from gemnet.search import presets
    from gemnet.search.compose import compose
    from gemnet.search.study import Study

    Study.create(tmp_path / "s", compose(presets.load(preset))).close()
    assert call("report", tmp_path / "s").exit_code == 0
    data = data_of(tmp_path / "s" / "report.html")
    assert (data["rows"], data["figures"], data["shown"]) == ([], [], [])


def test_the_front_holds_what_nothing_beats():
    points = [(3, 5), (1, 2), (2, 2), (2, 4), (3, 4), (4, 5), (5, 6), (1, 1)]
    assert pareto_front(points) == [(1, 2), (2, 4), (3, 5), (5, 6)]


def test_the_plane_is_that_of_the_singular_value_decomposition():
    vectors = np.random.default_rng(0).normal(size=(50, 6)) * [5, 4, 1, 1, 1, 1]
    plane, share = principal_plane(vectors)
    centred = vectors - vectors.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    assert np.allclose(np.abs(plane), np.abs(u[:, :2] * s[:2]))
    assert share == pytest.approx((s[:2] ** 2).sum() / (s**2).sum())


@browser
@pytest.mark.parametrize(("width", "dark"), [(1400, False), pytest.param(390, True, marks=pytest.mark.slow)])
def test_the_page_works_offline_in_a_browser(page, width, dark):
    with Browser(width, 900, dark) as window:
        window.open(page)
        assert window.run("return document.querySelectorAll('.plot .main-svg').length") >= 3
        assert window.run("return document.documentElement.scrollWidth") <= width, "nothing sticks out"
        back = window.run("return getComputedStyle(document.body).backgroundColor")
        assert back == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")
        assert window.run("return document.querySelectorAll('#shown svg').length") == 3
        rows = window.run(ROWS)
        column = window.run("return D.columns.indexOf('score')")
        by_score = "document.querySelectorAll('thead button')[arguments[0]].click();"
        falling, rising = (window.run(by_score + ROWS, column) for _ in range(2))
        numbers = [float(row[column]) for row in falling]
        assert numbers == sorted(numbers, reverse=True) != [float(row[column]) for row in rows]
        assert [row[0] for row in rising] == [row[0] for row in falling][::-1]
        search = "const box = document.getElementById('filter'); box.value = arguments[0]; box.oninput();"
        kept = window.run(search + ROWS, f"score>={numbers[4]:.4f} measured")
        assert 4 <= len(kept) <= 5
        assert window.run(search + ROWS, rows[3][0]) == [rows[3]]
        hover(window)
        assert window.console() == []
        assert window.requests() == []


def hover(window):
    """Moves the mouse over a point of the first figure and looks at the cell that is shown."""
    place = window.run(
        "const plot = document.getElementById('pareto'); plot.scrollIntoView({block: 'center'});"
        "const box = plot.querySelector('.scatterlayer .point').getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2]"
    )
    assert window.run("return document.getElementById('panel').hidden")
    window.move(place[0] - 30, place[1] - 30)
    window.move(*place)
    for _ in range(50):
        if not window.run("return document.getElementById('panel').hidden"):
            break
    assert window.run("return document.querySelectorAll('#panel svg rect').length") >= 4
    assert window.run("return document.querySelector('#panel figcaption').textContent").startswith("measured cell ")
