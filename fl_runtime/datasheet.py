"""The privacy data sheet that a run leaves behind: evidence in plain words, as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from secagg.guarantees import Guarantees
from secagg.identity import Directory

_UNAUDITED = "no audit was run"
_LIBRARIES = ("secagg", "numpy", "cryptography", "tenseal", "dp-accounting", "opacus", "torch")


@dataclass(frozen=True)
class RoundFacts:
    """What the sheet needs of one round."""

    number: int
    cohort: int
    contributors: int
    rejected: int


def make_datasheet(
    *,
    run: str,
    backend: str,
    parameters: Mapping[str, Any],
    guarantees: Guarantees,
    minimum_cohort: int,
    planned: int,
    rounds: Sequence[RoundFacts],
    aborted: Sequence[str],
    directory: Directory,
    spent: Mapping[str, Any] | None,
    ledger: Mapping[str, Any] | None,
    audit: Mapping[str, Any] | None,
    transcript: str,
) -> dict[str, Any]:
    """The sheet as plain values. `transcript` is the hash of the newest entry before the closing one."""
    return {
        "schema": "secagg.datasheet/1",
        "run": run,
        "backend": backend,
        "parameters": dict(parameters),
        "guarantees": guarantees.to_json(),
        "cohort": {
            "minimum": minimum_cohort,
            "planned_rounds": planned,
            "smallest": min((facts.contributors for facts in rounds), default=0),
            "rounds": [vars(facts) for facts in rounds],
            "aborted": list(aborted),
        },
        "identities": {name: identity.fingerprint.hex() for name, identity in directory.items()},
        "differential_privacy": dict(spent) if spent is not None else None,
        "ledger": dict(ledger) if ledger is not None else None,
        "empirical_lower_bound": dict(audit) if audit is not None else None,
        "engine": "local: all parties were simulated in one process, which protects nobody",
        "transcript": transcript,
        "versions": {name: found for name in _LIBRARIES if (found := _version(name)) is not None},
    }


def to_markdown(sheet: Mapping[str, Any]) -> str:
    """The sheet for a reader: what was promised, what was seen, what is left."""
    claims, cohort, privacy = sheet["guarantees"], sheet["cohort"], sheet["differential_privacy"]
    dropped = sum(facts["cohort"] - facts["contributors"] for facts in cohort["rounds"])
    rejected = sum(facts["rejected"] for facts in cohort["rounds"])
    lines = [
        f"# Privacy data sheet of run {sheet['run']}",
        "",
        f"- **Backend**: `{sheet['backend']}`, parameters {_inline(sheet['parameters']) or 'none'}",
        f"- **Protection**: {claims['protection']}",
        f"- **Adversary**: {claims['adversary']}; {claims['collusion']}",
        f"- **Who holds keys**: {claims['key_holder']}",
        *(f"- **Seen by {party}**: {'; '.join(things)}" for party, things in claims["sees"].items()),
        f"- **Cohort**: minimum {cohort['minimum']}, smallest sum of {cohort['smallest'] or 'no'} clients, "
        f"{len(cohort['rounds'])} of {cohort['planned_rounds']} rounds, {dropped} dropouts, "
        f"{rejected} rejected messages, "
        + (f"ended early: {'; '.join(cohort['aborted'])}" if cohort["aborted"] else "not ended early"),
        f"- **Exactness**: {claims['exactness']}",
        f"- **A server with two specs**: {claims['two_specs']}",
        f"- **Differential privacy**: {_privacy(privacy) if privacy else 'none is claimed'}",
        f"- **Ledger**: {_ledger(sheet['ledger']) if sheet['ledger'] else 'none is kept'}",
        f"- **Empirical lower bound**: {_audit(audit) if (audit := sheet['empirical_lower_bound']) else _UNAUDITED}",
        f"- **Engine**: {sheet['engine']}",
        f"- **Transcript**: `{sheet['transcript']}`",
        f"- **Versions**: {_inline(sheet['versions'])}",
        "",
        "## Not protected",
        "",
        *(f"- {text}" for text in claims["limitations"]),
        *(f"- the epsilon rests on this: {text}" for text in (privacy or {}).get("assumptions", ())),
        *(f"- the epsilon, with a warning: {text}" for text in (privacy or {}).get("warnings", ())),
        *(f"- {text}" for text in _unwitnessed(sheet)),
        "- the sum itself: what it says of single rows is not measured here",
    ]
    if claims["experimental"]:
        lines[2:2] = [f"> Experimental: {claims['experimental']}", ""]
    lines += ["", "## Identities", "", *(f"- {name}: `{mark}`" for name, mark in sheet["identities"].items())]
    return "\n".join(lines) + "\n"


def _privacy(spent: Mapping[str, Any]) -> str:
    parts = [
        f"epsilon {spent['epsilon']:.3f} at delta {spent['delta']:g} for one {spent['unit']} ({spent['adjacency']})",
        f"noise multiplier {spent['noise_multiplier']:g} ({spent['noise']}), by {spent['accountant']}",
    ]
    if "sampler" in spent:
        parts += [
            f"after {spent['steps']} steps of the client that spent most, clip {spent['clip_l2']:g}",
            f"sampler: {spent['sampler']}, rate {spent['sampling_rate']:.4g}",
            f"noise source: {spent['noise_source']}",
        ]
    else:
        parts.append(f"after {spent['rounds']} rounds, every participation counted in full")
    return "; ".join(parts)


def _audit(found: Mapping[str, Any]) -> str:
    return (
        f"epsilon {found['epsilon']:.3f} at delta {found['delta']:g}, with confidence {found['confidence']:g}: "
        f"{found['verdict']} (epsilon {found['claim']:.3f}). {found['right']} of {found['guesses']} guesses about "
        f"{found['canaries']} canaries were right. It is of {found['of']}"
    )


def _ledger(facts: Mapping[str, Any]) -> str:
    return (
        f"each site keeps its own, of {facts['sites']}; at most epsilon {facts['spent']:.3f} of "
        f"{facts['epsilon']:g} at delta {facts['delta']:g} is spent for one {facts['unit']} of population "
        f"{facts['population']!r}, over all runs; a rolled-back disk: {facts['rolled_back_disk']}"
    )


def _unwitnessed(sheet: Mapping[str, Any]) -> list[str]:
    if sheet["ledger"] is None:
        return ["what other runs on the same data spent: no ledger adds it up"] if sheet["differential_privacy"] else []
    return (
        [] if sheet["ledger"]["witness"] else ["a ledger whose disk is put back to an older copy: there is no witness"]
    )


def _inline(values: Mapping[str, Any]) -> str:
    # A mask of a million coordinates is one value; the JSON beside has it whole.
    return ", ".join(
        f"{key} {text if len(text := str(value)) <= 80 else text[:77] + '...'}" for key, value in values.items()
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
