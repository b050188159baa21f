"""`report.md`: the summary, the verdicts and the matrix, for papers and pull requests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fl_runtime.evaluation.evaluate import Finished
from fl_runtime.evaluation.report import words
from fl_runtime.evaluation.report.checklist import checklist
from fl_runtime.evaluation.report.findings import Verdicts, sentences, verdicts


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
        *(line for tried in verdicts(finished) for line in _verdicts(tried, terms.utility)),
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
            ["protection", "attack", "setting", "adversary reads", "verdict", "recovered", "PSNR", "clearest"],
            [
                [
                    words.protection(row.cell),
                    row.cell.attack.label,
                    words.setting(row.cell),
                    f"{row.cell.setting.adversary}: {'; '.join(row.first.sees) or 'no update'}",
                    words.VERDICTS[row.verdict] + (f": {row.problem}" if row.problem else ""),
                    words.figure(words.shown(row).get(row.cell.traits.success), share=True),
                    words.figure(words.shown(row).get("psnr_db"), share=False),
                    words.figure(words.shown(row).get("psnr_db_worst"), share=False),
                ]
                for row in finished.rows
            ],
        ),
        "",
        "## What is shown, of 22 points",
        "",
        *(f"{n}. {_plain(point.text)}: {_plain(point.in_words)}"
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


def _verdicts(tried: Verdicts, utility: str) -> list[str]:
    heads = ["protection", "model", "verdict", "recovered", "out of", "by", "clearest PSNR", f"utility ({utility})",
             "upload a round", "with colluders", "rows", "inconclusive", "not run"]  # fmt: skip
    lines = []
    for group in tried.groups:
        alone, together, row = group.alone, group.together, group.shown
        lines.append(
            [
                group.name,
                group.cell.setting.model,
                words.VERDICTS[row.verdict] if alone else "no party tried alone",
                words.figure(alone.recovered, share=True) if alone else "–",
                words.view(row) if alone else "–",
                f"{row.cell.attack.label}, {row.cell.setting.adversary}" if alone else "–",
                words.figure(alone.largest("psnr_db_worst"), share=False) if alone else "–",
                words.figure(row.utility, share=True),
                words.size(row.upload_bytes),
                words.figure(together.recovered, share=True) if together else "not tried",
                str(len(group.rows)),
                str(group.count("inconclusive")),
                str(group.count("unsupported")),
            ]
        )
    return [f"{tried.traits.title}: share {tried.traits.recovered}", "", *_table(heads, lines), ""]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *([_plain(text) for text in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _plain(text: str) -> str:
    """Text that Markdown takes as it stands, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text.replace("\n", " "))
