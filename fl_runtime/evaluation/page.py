"""`report.html`: one file that opens offline, prints, and can be read without JavaScript, colour or a mouse."""

from __future__ import annotations

from importlib import resources
from typing import Any

from fl_runtime.evaluation import words
from fl_runtime.evaluation.evaluate import Finished
from fl_runtime.evaluation.figures import key_mark
from fl_runtime.evaluation.findings import sentences, verdicts, worst_of
from fl_runtime.evaluation.pictures import chosen
from fl_runtime.evaluation.tables import all_curves, frontier_drawing, frontier_points, heat_map
from secagg.errors import Refused

MALICIOUS = ("imprint", "inconsistency")
COLUMNS = ("psnr_db", "psnr_db_worst", "ssim", "mse", "rdlv", "matching_loss", "reconstructed", "same_diagnosis")


def to_html(finished: Finished, report: dict[str, Any]) -> str:
    """The page of a report.

    Raises:
        Refused: Jinja2 is not installed (the extra `report`).
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise Refused("report.html: needs Jinja2, pip install 'secagg[report]'") from None
    folder = resources.files("fl_runtime.evaluation.page_files")
    text = {name: (folder / name).read_text(encoding="utf-8") for name in ("report.html.j2", "report.css", "report.js")}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "sentence": _sentence,
        "share": _share,
        "plain": _plain,
        "size": words.size,
        "percent": words.percent,
    }
    template = environment.from_string(text["report.html.j2"])
    return template.render(css=text["report.css"], js=text["report.js"], **_context(finished, report))


def _context(finished: Finished, report: dict[str, Any]) -> dict[str, Any]:
    terms = finished.evaluation.evaluation
    marks = frontier_points(finished)
    lines = [_line(row, details) for row, details in zip(finished.rows, report["details"], strict=True)]
    return {
        "title": terms.title,
        "terms": terms,
        "evaluation": finished.evaluation,
        "report": report,
        "sentences": sentences(finished),
        "verdicts": verdicts(finished),
        "verdict_words": words.VERDICTS,
        "protections": _sees(report),
        "heat": heat_map(finished),
        "marks": marks,
        "frontier": frontier_drawing(finished, marks) if marks else "",
        "galleries": _galleries(finished),
        "curves": all_curves(finished),
        "key_mark": key_mark,
        "lines": lines,
        "malicious": [line for line in lines if line["family"] in MALICIOUS],
        "membership": [line for line in lines if line["family"] == "membership"],
        "searches": [(line, _best(line["details"]["search"])) for line in lines if line["details"]["search"]],
        "points": POINTS,
        "size": words.size,
    }


def _line(row: Any, details: dict[str, Any]) -> dict[str, Any]:
    """One line of the big table."""
    success = row.success
    return {
        "row": row,
        "details": details,
        "family": row.cell.family,
        "protection": words.protection(row.cell),
        "setting": words.setting(row.cell),
        "verdict": details["verdict"],
        "verdict_words": words.VERDICTS[details["verdict"]],
        "threat_model": details["threat_model"],
        "success": success,
        "success_words": words.METRICS.get(row.first.success, row.first.success),
        "figures": [
            (words.METRICS.get(name, name), row.figures.get(name), words.is_share(name, row)) for name in COLUMNS
        ],
        "iterations": details["iterations"],
        "converged": row.figures.get("converged"),
        "notes": details["notes"],
    }


def _sees(report: dict[str, Any]) -> list[dict[str, Any]]:
    """For each backend its coalitions and what they read."""
    return [{"label": label, **found, "sheet": report["datasheets"][label]} for label, found in report["sees"].items()]


def _galleries(finished: Finished) -> list[dict[str, Any]]:
    """For each protection the pictures of the row that shows the most."""
    threshold = finished.evaluation.evaluation.control
    groups: dict[str, list[Any]] = {}
    for row in finished.rows:
        if row.cell.family == "inversion" and row.first.kind == "measured" and row.problem is None:
            groups.setdefault(words.protection(row.cell), []).append(row)
    found = []
    for name, rows in groups.items():
        worst = worst_of(rows, threshold)
        if pairs := chosen(worst):
            found.append(
                {
                    "protection": name,
                    "setting": words.setting(worst.cell),
                    "attack": worst.cell.attack.label,
                    "adversary": worst.cell.setting.adversary,
                    "sees": "; ".join(worst.first.sees),
                    "pairs": pairs,
                }
            )
    return found


def _best(search: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(search, key=lambda tried: (tried["repeat"], -tried["psnr_db"]))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _share(found: Any) -> str:
    return words.figure(found, share=True)


def _plain(found: Any) -> str:
    return words.figure(found, share=False)


POINTS = (
    ("Threat model per row, and what each party sees", "sees"),
    ("HE and SMPC: the decrypted sum, the key holder, collusion, a cohort of one", "sees"),
    ("The attack tuned per defence, the search logged", "tuning"),
    ("An adaptive attack per defence", "rows"),
    ("Labels known, inferred, unknown", "rows"),
    ("BatchNorm statistics known, running, withheld", "rows"),
    ("Untrained, half-trained and trained checkpoints", "curves"),
    ("Sweeps over batch, local steps and clients", "curves"),
    ("PSNR, SSIM, MSE, matching loss", "rows"),
    ("Identification in a gallery, RDLV against a prior", "rows"),
    ("Worst case, quantiles, share over a threshold", "rows"),
    ("Seeds, images, clustered bootstrap, Clopper-Pearson", "method"),
    ("Hungarian matching, no oracle choice of restarts", "method"),
    ("The undefended control succeeds, or inconclusive", "verdicts"),
    ("Utility on the same runs", "frontier"),
    ("Epsilon, delta, accountant, clip, unit, audited lower bound", "datasheets"),
    ("Membership at low false-positive rates", "membership"),
    ("Malicious server, and whether a client could have noticed", "malicious"),
    ("Compute budget and convergence", "tuning"),
    ("Pictures: best, median, worst", "pictures"),
    ("Config hash, versions, one command", "reproduce"),
    ("Does a diagnosis classifier agree on the reconstruction", "rows"),
)
"""What a report must show, and the section of the page where it is."""
