"""`report.html`: one file that opens offline, prints, and can be read without JavaScript, colour or a mouse."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import resources
from typing import Any

from fl_runtime.evaluation.evaluate import Finished
from fl_runtime.evaluation.matrix.families import FAMILIES
from fl_runtime.evaluation.report import words
from fl_runtime.evaluation.report.checklist import MALICIOUS, checklist
from fl_runtime.evaluation.report.figures import key_dot, key_mark
from fl_runtime.evaluation.report.findings import sentences, verdicts
from fl_runtime.evaluation.report.pictures import chosen
from fl_runtime.evaluation.report.protections import by_protection
from fl_runtime.evaluation.report.sweeps import all_curves, roc_curve
from fl_runtime.evaluation.report.tables import frontier_drawing, frontier_points, heat_map
from fl_runtime.evaluation.rows import Figure, Row
from secagg.errors import Refused

COLUMNS = ("psnr_db", "psnr_db_median", "psnr_db_p90", "psnr_db_worst", "guess_db", "ssim", "lpips", "mse", "rdlv",
           "matching_loss", "reconstructed", "same_diagnosis")  # fmt: skip


def to_html(finished: Finished, report: dict[str, Any]) -> str:
    """The page of a report.

    Raises:
        Refused: Jinja2 is not installed (the extra `report`).
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise Refused("report.html: needs Jinja2, pip install 'secagg[report]'") from None
    folder = resources.files("fl_runtime.evaluation.report.page_files")
    text = {name: (folder / name).read_text(encoding="utf-8") for name in ("report.html.j2", "report.css", "report.js")}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "sentence": _sentence,
        "share": _share,
        "plain": _plain,
        "size": words.size,
        "percent": words.percent,
        "view": words.view,
        "interval": partial(words.figure, share=True),
        "decibels": _decibels,
    }
    template = environment.from_string(text["report.html.j2"])
    return template.render(css=text["report.css"], js=text["report.js"], **_context(finished, report))


def _context(finished: Finished, report: dict[str, Any]) -> dict[str, Any]:
    terms = finished.evaluation.evaluation
    points = frontier_points(finished)
    columns = [name for name in COLUMNS if any(name in row.figures for row in finished.rows)]
    lines = [_line(row, details, columns) for row, details in zip(finished.rows, report["details"], strict=True)]
    return {
        "title": terms.title,
        "terms": terms,
        "evaluation": finished.evaluation,
        "report": report,
        "sentences": sentences(finished),
        "verdicts": verdicts(finished),
        "verdict_words": words.VERDICTS,
        "member_share": FAMILIES["membership"].enough,
        "protections": _sees(report),
        "heat": heat_map(finished),
        "marks": points.marks,
        "left_out": points.left_out,
        "frontier": frontier_drawing(finished, points.marks) if points.marks else "",
        "galleries": _galleries(finished),
        "curves": all_curves(finished),
        "key_mark": key_mark,
        "key_dot": key_dot,
        "lines": lines,
        "has_lpips": "lpips" in columns,
        "malicious": [line for line in lines if line["family"] in MALICIOUS],
        "membership": [line for line in lines if line["family"] == "membership"],
        "searches": [(line, _best(line["details"]["search"])) for line in lines if line["details"]["search"]],
        "roc": roc_curve(finished),
        "points": checklist(finished),
        "size": words.size,
    }


def _line(row: Row, details: dict[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    """One line of the big table."""
    figures = words.shown(row)
    return {
        "row": row,
        "details": details,
        "family": row.cell.family,
        "protection": words.protection(row.cell),
        "setting": words.setting(row.cell),
        "verdict": row.verdict,
        "verdict_words": words.VERDICTS[row.verdict],
        "threat_model": details["threat_model"],
        "success": figures.get(row.cell.traits.success),
        "figures": [(words.METRICS[name], figures.get(name), words.is_share(name, row)) for name in columns],
        "iterations": details["iterations"],
        "converged": figures.get("converged"),
        "notes": details["notes"],
        "blank": any(measured.kind == "blank" for measured in row.measured),
    }


def _sees(report: dict[str, Any]) -> list[dict[str, Any]]:
    """For each backend its coalitions and what they read."""
    return [{"label": label, **found, "sheet": report["datasheets"][label]} for label, found in report["sees"].items()]


def _galleries(finished: Finished) -> list[dict[str, Any]]:
    """For each protection the pictures of the row with the clearest image that one party alone rebuilt."""
    found = []
    for group in by_protection(row for row in finished.rows if row.cell.family == "inversion" and _has_pictures(row)):
        row = (group.alone or group).most("psnr_db_worst")
        if row is not None:
            found.append(
                {
                    "protection": group.name,
                    "setting": words.setting(row.cell),
                    "attack": row.cell.attack.label,
                    "adversary": row.cell.setting.adversary,
                    "sees": "; ".join(row.first.sees),
                    "pairs": chosen(row),
                }
            )
    return found


def _has_pictures(row: Row) -> bool:
    return all(measured.kind == "measured" and measured.pictures is not None for measured in row.measured)


def _best(search: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(search, key=lambda tried: (tried["repeat"], -tried["identified"], -tried["correlation"]))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _share(found: Figure | None) -> str:
    return _in_two_lines(words.figure(found, share=True))


def _plain(found: Figure | None) -> str:
    return _in_two_lines(words.figure(found, share=False))


def _decibels(found: Figure | None) -> str:
    return "–" if found is None else f"{words.number(found.value)}{words.NBSP}dB"


def _in_two_lines(text: str) -> str:
    """A figure with its interval below it, as markup; the text is ours and holds nothing to escape."""
    from markupsafe import Markup

    value, bracket, ends = text.partition(" (")
    return Markup(f'{value} <span class="ends">({ends}</span>') if bracket else value  # noqa: S704
