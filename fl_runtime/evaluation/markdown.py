"""`report.md`: the summary, the verdicts and the matrix, for papers and pull requests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fl_runtime.evaluation import words
from fl_runtime.evaluation.checklist import checklist
from fl_runtime.evaluation.evaluate import Finished
from fl_runtime.evaluation.findings import protections, sentences


def to_markdown(finished: Finished, report: dict[str, Any]) -> str:
    """The report as Markdown, without drawings."""
    terms = finished.evaluation.evaluation
    lines = [
        f"# {_plain(terms.title)}",
        "",
        f"{terms.repeats} repeats with {terms.images} images each or more; 95 % intervals in brackets.",
        "",
        "## In short",
        "",
        *(f"- {_plain(str(sentence))}" for sentence in sentences(finished)),
        "",
        "## Verdicts",
        "",
        *_table(
            ["protection", "verdict", "worst row", "share recovered", f"utility ({terms.utility})", "upload a round",
             "rows", "inconclusive", "not run"],
            [
                [
                    found.name,
                    words.VERDICTS[found.worst.verdict],
                    f"{found.worst.cell.attack.label}; {found.worst.cell.setting.adversary}",
                    words.figure(found.worst.success, share=True),
                    words.figure(found.worst.utility, share=True),
                    words.size(found.worst.upload_bytes),
                    str(found.rows),
                    str(found.inconclusive),
                    str(found.unsupported),
                ]
                for found in protections(finished)
            ],
        ),
        "",
        "## Who sees what",
        "",
        *_table(
            ["backend", "party", "colluding with", "reads"],
            [
                [label, entry["party"], ", ".join(entry["colluders"]) or "nobody", "; ".join(entry["sees"])]
                for label, found in report["sees"].items()
                for entry in found["coalitions"]
            ],
        ),
        "",
        "## All rows",
        "",
        *_table(
            ["protection", "attack", "setting", "adversary reads", "verdict", "recovered", "PSNR", "worst"],
            [
                [
                    words.protection(row.cell),
                    row.cell.attack.label,
                    words.setting(row.cell),
                    f"{row.cell.setting.adversary}: {'; '.join(row.first.sees) or 'no update'}",
                    words.VERDICTS[row.verdict] + (f": {row.problem}" if row.problem else ""),
                    words.figure(row.success, share=True),
                    words.figure(row.figures.get("psnr_db"), share=False),
                    words.figure(row.figures.get("psnr_db_worst"), share=False),
                ]
                for row in finished.rows
            ],
        ),
        "",
        "## What is shown, of 22 points",
        "",
        *(f"{n}. {_plain(point.text)}: {_plain(point.evidence) or 'not in this evaluation'}"
          for n, point in enumerate(checklist(finished), 1)),
        "",
        "## Reproduce",
        "",
        f"    {report['command']}",
        "",
        f"Settings `{report['config_digest']}`; images `{report['data_digest']}`; versions "
        + ", ".join(f"{name} {version}" for name, version in report["versions"].items())
        + ".",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *([_plain(text) for text in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _plain(text: str) -> str:
    """Text that Markdown takes as it stands, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text.replace("\n", " "))
