"""The tables of `reference/guarantees.md`, made from the record that the code itself reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from secagg.guarantees import Guarantees
from secagg.registry import build

SHARED = {"key_mode": "shared", "acknowledge_shared_key": True}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "`plain`": ("plain", {}),
    "`smpc`": ("smpc", {}),
    "`smpc`, 2 of 3": ("smpc", {"aggregators": 3, "threshold": 2}),
    "`smpc`, 4 of 5": ("smpc", {"aggregators": 5, "threshold": 4}),
    "`secaggplus`": ("secaggplus", {}),
    "`secaggplus`, passive server": ("secaggplus", {"threat": "passive"}),
    "`ckks`": ("ckks", {}),
    "`ckks`, verified": ("ckks", {"verified": True}),
    "`ckks`, shared key": ("ckks", SHARED),
    "`bfv`": ("bfv", {}),
    "`bfv`, verified": ("bfv", {"verified": True}),
    "`bfv`, shared key": ("bfv", SHARED),
    "`selective`": ("selective", {"fraction": 0.1}),
    "`dp`": ("dp", {}),
    "`dp-sgd`": ("dp-sgd", {}),
}


def sections(record: Guarantees) -> dict[str, str]:
    """One cell for each table."""
    seen = ". ".join(f"{party}: {', '.join(things)}" for party, things in record.sees.items())
    experimental = f" Experimental: {record.experimental}" if record.experimental else ""
    privacy = ", ".join(f"{key} {value}" for key, value in (record.privacy or {"none": "claimed"}).items())
    return {
        "What hides a single update": record.protection,
        "Adversary and collusion": f"{record.adversary}; {record.collusion}",
        "Who holds keys": record.key_holder,
        "Who sees what": seen,
        "Where the sum appears, and how exact it is": f"at the {record.result_at}; {record.exactness}",
        "When somebody is silent": record.dropouts,
        "A server with two specs": record.two_specs,
        "Not protected": "; ".join(record.limitations) + experimental,
        "For programs": f"`alpha` {record.alpha}, `sum_only` {record.sum_only}, "
        f"`uniform_weights` {record.uniform_weights}, `privacy` {privacy}",
    }


def write(path: Path) -> None:
    """Write all tables as Markdown."""
    rows = {label: sections(build(name, parameters).guarantees) for label, (name, parameters) in VARIANTS.items()}
    lines: list[str] = []
    for title in next(iter(rows.values())):
        lines += [f"## {title}", "", "| backend | |", "|---|---|"]
        lines += [f"| {label} | {cells[title]} |" for label, cells in rows.items()]
        lines.append("")
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
