"""Rows and figures in plain words: one wording for the report as a page and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from fl_runtime.evaluation.matrix.cells import Cell
from fl_runtime.evaluation.matrix.settings import NONE
from fl_runtime.evaluation.rows import Figure, Row, Verdict

NBSP, NO_UPDATE = "\u00a0", "no update"
METRICS = {
    "psnr_db": "PSNR, dB",
    "psnr_db_median": "PSNR, median",
    "psnr_db_p90": "PSNR, 90th percentile",
    "psnr_db_worst": "PSNR, clearest",
    "guess_db": "PSNR without an update",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "mse": "mean squared error",
    "rdlv": "RDLV beyond the prior",
    "matching_loss": "matching loss",
    "identified": "identified in a gallery",
    "reconstructed": "reconstructed",
    "same_diagnosis": "same diagnosis",
    "converged": "attack holds it converged",
    "labels_found": "labels found",
    "hit": "images recovered",
    "isolated": "updates isolated",
    "label": "labels found",
    "found": "members found",
    "false_alarms": "non-members accused",
}
VERDICTS: Mapping[Verdict, str] = {
    "leaks": "attack succeeds",
    "partly": "attack above chance",
    "not shown": "attack fails here",
    "nothing": "reads no update",
    "inconclusive": "inconclusive",
    "unsupported": "could not be run",
}


def percent(value: float) -> str:
    """`97 %`, with a decimal where it matters."""
    scaled = 100 * value
    digits = 1 if 0 < scaled < 10 or 99 < scaled < 100 else 0
    return f"{scaled:.{digits}f}{NBSP}%"


def is_share(metric: str, row: Row) -> bool:
    """Whether a metric of this row counts hits."""
    return any(metric in measured.shares for measured in row.measured)


def number(value: float) -> str:
    """Three significant digits, without an exponent where it can be avoided."""
    if value == 0 or 0.001 <= abs(value) < 10_000:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return f"{value:.2g}"


def figure(found: Figure | None, *, share: bool) -> str:
    """`97 % (83 to 100)` or `21.4 (20.1 to 22.9)`."""
    if found is None:
        return "–"
    write = percent if share else number
    if found.low is None or found.high is None:
        return write(found.value)
    low = write(found.low).removesuffix(f"{NBSP}%")
    high = write(found.high).removesuffix(f"{NBSP}%")
    return f"{write(found.value)} ({low} to {high})"


def size(count: float | None) -> str:
    """Bytes in the unit that reads best."""
    if count is None:
        return "–"
    for unit in ("B", "KiB", "MiB"):
        if count < 1024 or unit == "MiB":
            return f"{count:.3g}{NBSP}{unit}" if count < 1000 else f"{count:,.0f}{NBSP}{unit}"
        count /= 1024
    raise AssertionError("unreachable")


def protection(cell: Cell) -> str:
    """Backend and defence in a few words."""
    backend = cell.backend.label
    return backend if cell.defence.kind == NONE else f"{backend} + {cell.defence.label}"


def setting(cell: Cell) -> str:
    """The axes on which a row depends, briefly."""
    s, axes = cell.setting, cell.axes
    parts = [f"{s.model}, {s.stage}"]
    if "batch" in axes:
        parts.append(f"{s.batch} image{'s' * (s.batch > 1)} a client")
    if "local_epochs" in axes and (s.local_epochs > 1 or s.local_batch):
        parts.append(f"{s.local_epochs} local epochs" + (f" in batches of {s.local_batch}" if s.local_batch else ""))
    if "clients" in axes:
        parts.append(f"{s.clients} clients")
    if "labels" in axes:
        parts.append(f"labels {s.labels}")
    if "statistics" in axes and s.statistics != "none":
        parts.append(f"BatchNorm statistics {s.statistics}")
    if not s.adaptive:
        parts.append("attack unaware of the defence")
    return ", ".join(parts)


def threat_model(row: Row) -> str:
    """Who attacks, what it knows and can do, and what it read."""
    cell = row.cell
    axes, knows = cell.axes, list(row.first.needs)
    if "labels" in axes:
        knows += {"known": ["the labels"], "inferred": ["labels it infers itself"], "unknown": []}[cell.setting.labels]
    if axes.get("statistics") == "known":
        knows.append("the batch's BatchNorm statistics")
    if cell.defence.kind != NONE and axes.get("adaptive"):
        knows.append("the defence and its settings")
    read = "; ".join(row.first.sees) or NO_UPDATE
    return f"{cell.setting.adversary}; reads {read}; knows the model{', ' if knows else ''}{', '.join(knows)}"


def view(row: Row) -> str:
    """What is read, as far as sizes go: single updates, sums of so many, or a whole model."""
    cohort = max(measured.cohort for measured in row.measured)
    if row.verdict == "nothing":
        return NO_UPDATE
    if cohort > 1:
        return f"sums of {cohort}"
    return "single updates" if cohort else "; ".join(row.first.sees) or NO_UPDATE


def shown(row: Row) -> Mapping[str, Figure]:
    """The figures of a row that say something of an update: none where what was scored is a guess, for want of one."""
    return {} if all(measured.kind == "nothing" for measured in row.measured) else row.figures
