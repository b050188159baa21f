"""The picture of a run: accuracy and loss over its rounds, with the spread of the clients behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fl_runtime.metrics import Evaluation


def draw_curve(runs: Mapping[str, Sequence[Evaluation]], path: Path, *, title: str) -> None:
    """Draw one line a run, round 0 first, to `path` (SVG or PNG). Needs matplotlib (the extra `report`)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2)
    for place, (label, evaluations) in enumerate(runs.items()):
        # The colours of Okabe and Ito, told apart by colour-blind readers too; dashes tell them apart in print.
        colour = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")[place % 6]
        style = ("-", "--", "-.", ":")[place % 4]
        rounds = range(len(evaluations))
        for axis, figure_name in zip(axes, ("accuracy", "loss"), strict=True):
            values = [_number(getattr(evaluation.overall, figure_name)) for evaluation in evaluations]
            axis.plot(rounds, values, style, color=colour, label=label, linewidth=1.8)
        if len(runs) == 1:
            spread = [_spread(evaluation) for evaluation in evaluations]
            axes[0].fill_between(
                rounds, *zip(*spread, strict=True), color=colour, alpha=0.15, linewidth=0, label="clients"
            )
    for axis, figure_name in zip(axes, ("accuracy", "loss"), strict=True):
        axis.set_xlabel("round")
        axis.set_ylabel(figure_name)
        axis.grid(alpha=0.3)
    axes[0].set_ylim(0, 1)
    axes[0].legend(frameon=False)
    figure.suptitle(title)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _spread(evaluation: Evaluation) -> tuple[float, float]:
    defined = [scores.accuracy for scores in evaluation.clients.values() if scores.accuracy is not None]
    return (min(defined), max(defined)) if defined else (float("nan"), float("nan"))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
