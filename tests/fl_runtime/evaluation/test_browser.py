"""`report.html` in a real headless Chromium. Run by `make browser`; without a browser it fails, it does not skip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fl_runtime.evaluation.report.document import to_json
from fl_runtime.evaluation.report.page import to_html
from tests.fl_runtime.evaluation.chromium import Tab

pytestmark = pytest.mark.browser
SHOWN = "[...document.querySelectorAll('#all-rows tbody tr')].filter(row => row.checkVisibility())"


@pytest.fixture(scope="module")
def path(finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(to_html(finished, to_json(finished, command="secagg evaluate tiny.toml")), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with Tab(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


def column(tab: Tab, place: int) -> list[str]:
    return tab.evaluate(
        f"{SHOWN}.map(row => row.cells[{place}].dataset.value ?? row.cells[{place}].textContent.trim())"
    )


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_is_as_wide_as_the_window_and_tables_scroll_within_themselves(
    tab: Tab, path: Path, width: int
) -> None:
    tab.open(path, width=width)
    assert tab.evaluate("innerWidth") == width
    assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    beyond = """[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll'))
        .filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    assert tab.evaluate(beyond) == []
    assert tab.evaluate("[...document.querySelectorAll('.scroll')].some(e => e.scrollWidth > e.clientWidth)")
    assert tab.evaluate("Math.min(...[...document.querySelectorAll('p, li, td, th')].filter(e => e.checkVisibility())"
                        ".map(e => parseFloat(getComputedStyle(e).fontSize)))") >= 12  # fmt: skip


def test_nothing_is_said_on_the_console_and_nothing_is_asked_of_the_network(tab: Tab, path: Path) -> None:
    tab.console.clear()
    tab.requests.clear()
    tab.open(path)
    assert tab.console == []
    assert {address.partition(":")[0] for address in tab.requests} <= {"file", "data"}
    assert [address for address in tab.requests if address.startswith("file")] == [path.resolve().as_uri()]


def test_rows_are_sorted_by_keyboard_one_way_and_the_other(tab: Tab, path: Path) -> None:
    tab.open(path)
    tab.evaluate("document.querySelectorAll('#all-rows thead button')[2].focus()")
    tab.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Recovered"
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    for order in (1, -1):
        tab.press("Enter")
        values = [float(value) for value in column(tab, 3) if value]
        assert values == sorted(values, reverse=order < 0)
        assert len(set(values)) > 2
        said = tab.evaluate("document.querySelector('#all-rows th[aria-sort]').getAttribute('aria-sort')")
        assert said == ("ascending" if order > 0 else "descending")
    assert column(tab, 3)[-1] == "", "rows without a figure stay below"


def test_rows_are_filtered_by_choice_and_by_words_and_all_come_back(tab: Tab, path: Path) -> None:
    tab.open(path)
    everything = len(column(tab, 0))
    tab.evaluate("""(() => { const chosen = document.querySelector('#filters [name=protection]');
        chosen.value = 'secaggplus'; chosen.dispatchEvent(new Event('change')); })()""")
    chosen = column(tab, 0)
    assert set(chosen) == {"secaggplus"}
    assert tab.evaluate("document.getElementById('count').textContent") == f"{len(chosen)} of {everything} rows"
    tab.evaluate("document.querySelector('#filters [name=words]').focus()")
    tab.type("imprint")
    assert set(column(tab, 1)) == {"imprint"}
    tab.evaluate("document.querySelector('#filters [type=reset]').click()")
    tab.evaluate("new Promise(done => setTimeout(done, 20))")
    assert len(column(tab, 0)) == everything


def test_without_javascript_everything_is_there_and_no_control_is_dead(tab: Tab, path: Path) -> None:
    tab.open(path)
    texts = "[...document.querySelectorAll('main h2, main td, main figcaption')].length"
    scripted = tab.evaluate(texts)
    tab.open(path, javascript=False)
    assert tab.evaluate(texts) == scripted
    assert (
        tab.evaluate("[...document.querySelectorAll('button, select, input')].filter(e => e.checkVisibility()).length")
        == 0
    )
    assert tab.evaluate(f"{SHOWN}.length") == tab.evaluate("document.querySelectorAll('#all-rows tbody tr').length")
    assert tab.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


def test_the_accessibility_tree_has_names_for_what_can_be_reached(tab: Tab, path: Path) -> None:
    tab.open(path)
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    named = {"link", "button", "combobox", "searchbox", "textbox", "image", "img", "region", "heading"}
    found = [node for node in nodes if not node["ignored"] and node["role"]["value"] in named]
    assert {"link", "button", "region", "heading"} <= {node["role"]["value"] for node in found}
    assert [node["role"]["value"] for node in found if not node["name"]["value"].strip()] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(tab: Tab, path: Path, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: a contrast of 4.5 for text."""
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    tab.open(path)
    poor = tab.evaluate(CONTRAST)
    tab.call("Emulation.setEmulatedMedia", features=[])
    assert poor == []


def test_it_prints_on_paper_without_what_only_a_screen_can_do(tab: Tab, path: Path) -> None:
    tab.open(path)
    pdf = tab.pdf()
    assert pdf.startswith(b"%PDF")
    assert 3 <= pdf.count(b"/Type /Page\n") <= 60
    tab.call("Emulation.setEmulatedMedia", media="print")
    hidden = tab.evaluate("['nav', '#filters'].every(name => !document.querySelector(name).checkVisibility())")
    cut = tab.evaluate(
        "[...document.querySelectorAll('.scroll')].some(e => getComputedStyle(e).overflowX != 'visible')"
    )
    tab.call("Emulation.setEmulatedMedia", media="")
    assert hidden
    assert not cut


CONTRAST = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const bytes = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = bytes(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const poor = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest('svg, .visually-hidden, script, option')) continue;
    const style = getComputedStyle(e), back = ground(e), opacity = Number(style.opacity);
    const ink = bytes(style.color).map((v, i) => v * opacity + back[i] * (1 - opacity));
    const [a, b] = [light(ink), light(back)].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) poor.push(`${e.tagName}.${e.className} ${contrast.toFixed(2)}: ${e.textContent.slice(0, 30)}`);
  }
  return [...new Set(poor)];
})()"""
