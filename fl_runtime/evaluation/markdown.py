"""`report.md`: the summary, the verdicts and the matrix, for papers and pull requests."""

from __future__ import annotations

from typing import Any

from fl_runtime.evaluation import words
from fl_runtime.evaluation.evaluate import Finished
from fl_runtime.evaluation.findings import sentences, verdicts


def to_markdown(finished: Finished, report: dict[str, Any]) -> str:
    """The report as Markdown, without drawings."""
    terms = finished.evaluation.evaluation
    lines = [
        f"# {terms.title}",
        "",
        f"{terms.repeats} repeats with {terms.images} images each or more; 95 % intervals in brackets.",
        "",
        "## In short",
        "",
        *(f"- {sentence}" for sentence in sentences(finished)),
        "",
        "## Verdicts",
        "",
        f"| protection | verdict | worst row | share recovered | utility ({terms.utility}) | upload a round |",
        "|---|---|---|---:|---:|---:|",
    ]
    for verdict in verdicts(finished):
        worst = verdict.worst
        lines.append(
            f"| {verdict.protection} | {words.VERDICTS[verdict.verdict]} | {worst.cell.attack.label}; "
            f"{worst.cell.setting.adversary} | {words.figure(verdict.leak, share=True)} | "
            f"{words.figure(worst.utility, share=True)} | {words.size(worst.upload_bytes)} |"
        )
    lines += ["", "## Who sees what", "", "| backend | party | colluding with | reads |", "|---|---|---|---|"]
    for label, found in report["sees"].items():
        for entry in found["coalitions"]:
            colluders = ", ".join(entry["colluders"]) or "nobody"
            lines.append(f"| {label} | {entry['party']} | {colluders} | {'; '.join(entry['sees'])} |")
    lines += ["", "## All rows", "", "| protection | attack | setting | adversary reads | verdict | recovered | PSNR |",
              "|---|---|---|---|---|---:|---:|"]  # fmt: skip
    for row in finished.rows:
        verdict_words = words.VERDICTS[words.verdict(row, threshold=terms.control)]
        lines.append(
            f"| {words.protection(row.cell)} | {row.cell.attack.label} | {words.setting(row.cell)} | "
            f"{row.cell.setting.adversary}: {'; '.join(row.first.sees) or 'no update'} | "
            f"{verdict_words} | {words.figure(row.success, share=True)} | "
            f"{words.figure(row.figures.get('psnr_db'), share=False)} |"
        )
    lines += [
        "",
        "## Reproduce",
        "",
        f"    {report['command']}",
        "",
        f"Settings `{report['config_digest']}`; versions "
        + ", ".join(f"{name} {version}" for name, version in report["versions"].items())
        + ".",
    ]
    return "\n".join(lines) + "\n"
