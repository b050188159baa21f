"""`report.html` as a document: structure, names and addresses, read without a browser. See `test_browser` for one."""

from __future__ import annotations

import base64
import itertools
import re
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

from fl_runtime.evaluation.report.checklist import checklist
from fl_runtime.evaluation.report.document import to_json
from fl_runtime.evaluation.report.figures import Point, Scale, curves, frontier
from fl_runtime.evaluation.report.page import to_html
from fl_runtime.evaluation.report.pictures import png

VOID = {"meta", "img", "link", "br", "input", "line", "circle", "polyline", "polygon"}


class Document(HTMLParser):
    """Every element with its attributes, text and ancestors."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.texts: dict[int, str] = {}
        self._open: list[tuple[str, int]] = []
        self.feed(text)
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes), [name for name, _ in self._open]))
        if tag not in VOID:
            self._open.append((tag, len(self.elements) - 1))

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes), [name for name, _ in self._open]))

    def handle_endtag(self, tag: str) -> None:
        last, _ = self._open.pop()
        assert last == tag, f"<{last}> is closed by </{tag}>"

    def handle_data(self, data: str) -> None:
        for _, place in self._open:
            self.texts[place] = self.texts.get(place, "") + data

    def all(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(found[1], self.texts.get(place, "")) for place, found in enumerate(self.elements) if found[0] == tag]


@pytest.fixture(scope="module")
def text(finished) -> str:
    return to_html(finished, to_json(finished, command="secagg evaluate tiny.toml"))


@pytest.fixture(scope="module")
def page(text: str) -> Document:
    return Document(text)


def test_it_names_no_address_but_its_own(text: str, page: Document) -> None:
    assert not re.search(r"(?:https?:)?//[a-z0-9]", re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", text))
    for _, attributes, _ in page.elements:
        for name in ("src", "href", "action", "data", "poster"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:", "#"))
    assert "@import" not in text
    assert "url(" not in text
    policy = next(a["content"] for a, _ in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_headings_and_landmarks_are_in_order(page: Document) -> None:
    assert [a["lang"] for a, _ in page.all("html")] == ["en"]
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    for landmark in ("header", "nav", "main", "footer"):
        assert len(page.all(landmark)) == 1
    identifiers = [a["id"] for _, a, _ in page.elements if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    for attributes, _ in page.all("section"):
        assert attributes["aria-labelledby"] in identifiers


def test_every_link_leads_somewhere(finished, page: Document) -> None:
    identifiers = {a["id"] for _, a, _ in page.elements if "id" in a}
    targets = {a["href"][1:] for a, _ in page.all("a")}
    assert targets <= identifiers
    assert {point.section for point in checklist(finished)} <= targets
    for _, attributes, _ in page.elements:
        for name in (attributes.get("aria-labelledby") or "").split():
            assert name in identifiers


def test_pictures_and_drawings_have_words(page: Document) -> None:
    pictures = page.all("img")
    assert len(pictures) >= 6
    for attributes, _ in pictures:
        assert len(attributes["alt"]) > 10
    drawings = [a for a, _ in page.all("svg") if a.get("aria-hidden") != "true"]
    assert len(drawings) >= 2
    for attributes in drawings:
        assert attributes["role"] == "img"
        assert len(attributes["aria-labelledby"].split()) == 2


def test_tables_have_heads_and_can_be_scrolled_by_keyboard(page: Document) -> None:
    assert len(page.all("table")) >= 8
    for attributes, _ in page.all("th"):
        assert attributes["scope"] in ("col", "row", "rowgroup")
    around = [a for tag, a, _ in page.elements if tag == "div" and a.get("class") == "scroll"]
    assert len(around) == len(page.all("table"))
    for attributes in around:
        assert attributes["tabindex"] == "0"
        assert attributes["role"] == "region"
        assert attributes.get("aria-label") or attributes.get("aria-labelledby")


def test_everything_is_there_without_javascript(finished, page: Document) -> None:
    rows = [a for tag, a, around in page.elements if tag == "tr" and "data-protection" in a]
    assert len(rows) == len(finished.rows)
    assert not any("hidden" in a for a in rows)
    (form,) = [a for a, _ in page.all("form")]
    assert "hidden" in form, "filters that do nothing without JavaScript must not show"


def test_text_of_the_evaluation_is_escaped(text: str, page: Document) -> None:
    assert [words for _, words in page.all("h1")] == ["A tiny look & a <careful> one"]
    assert "<careful>" not in text


def test_it_says_what_it_must(page: Document) -> None:
    words = " ".join(part for _, part in page.all("main"))
    for phrase in (
        "never safe",
        "secagg evaluate tiny.toml",
        "no audit was run",
        "Attack fails here",
        "inconclusive",
        "reads the sum of 3, with noise",
        "Clopper and Pearson",
        "parallel rows",
        "could not be run",
    ):
        assert phrase in words
    assert "nan" not in words.lower().split()
    assert "None" not in words.split()


def test_a_png_is_one() -> None:
    image = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    raw = base64.b64decode(png(image).removeprefix("data:image/png;base64,"))
    assert raw.startswith(b"\x89PNG\r\n\x1a\n")
    start = raw.index(b"IDAT") + 4
    size = int.from_bytes(raw[start - 8 : start - 4], "big")
    lines = np.frombuffer(zlib.decompress(raw[start : start + size]), np.uint8).reshape(4, 16)
    assert (lines[:, 0] == 0).all()
    assert (lines[:, 1:].reshape(4, 5, 3) == np.moveaxis(image, 0, 2)).all()
    Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: no second reader of PNG")
    import io

    assert (np.asarray(Image.open(io.BytesIO(raw))) == np.moveaxis(image, 0, 2)).all()


def test_marks_of_a_drawing_stand_where_their_figures_are() -> None:
    points = [Point(0.5, 0.25, label="1"), Point(0.9, 1.0, y_ends=(0.8, 1.0), label="2")]
    drawing = frontier(points, x_label="use", y_label="leak", name="x")
    circles = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawing)]
    assert circles[0][0] < circles[1][0]
    assert circles[0][1] > circles[1][1], "more leakage is higher up"
    assert "1: use 0.50, leak 0.25" in drawing
    scale = Scale(0.0, 2.0, 100.0, 300.0)
    assert [scale(0), scale(1), scale(2), scale(9)] == [100, 200, 300, 300]
    assert scale.ticks(4) == [0, 0.5, 1, 1.5, 2]


def test_labels_of_marks_in_one_place_are_joined_and_none_covers_another() -> None:
    points = [Point(0.5, 0.5, label="1"), Point(0.5, 0.5, label="2"), Point(0.5, 0.53, label="3")]
    points += [Point(0.86 + 0.01 * n, 0.99 - 0.03 * n, size=5 + n, label=str(10 + n)) for n in range(6)]
    drawing = frontier(points, x_label="use", y_label="leak", name="x")
    labels = re.findall(r'class="point" x="([\d.]+)" y="([\d.]+)">([^<]+)<', drawing)
    assert {words for _, _, words in labels} == {"1, 2", "3", "10", "11", "12", "13", "14", "15"}
    boxes = [(float(x), float(y), float(x) + 7 * len(words)) for x, y, words in labels]
    for (left, base, right), (other_left, other_base, other_right) in itertools.combinations(boxes, 2):
        assert right < other_left or other_right < left or abs(base - other_base) >= 14
    circles = re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"', drawing)
    for x, y, radius in (map(float, circle) for circle in circles):
        for left, base, right in boxes:
            assert (
                right <= x - radius + 1
                or left >= x + radius - 1
                or base - 12 >= y + radius - 1
                or base <= y - radius + 1
            )


def test_a_curve_says_its_points_in_words() -> None:
    drawing = curves([("a & b", [Point(0, 0.1), Point(1, 0.9, hollow=True)])], ticks=["1", "8"], x_label="clients",
                     y_label="share", name="y")  # fmt: skip
    assert "a &amp; b: 1 0.10, 8 0.90" in drawing
    assert drawing.count("hollow") == 1
