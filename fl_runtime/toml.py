"""Settings back into TOML: sections of strings, numbers, booleans and lists of numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def to_toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """The TOML text of two-level settings. JSON's strings, numbers, booleans and lists are TOML's too."""
    lines: list[str] = []
    for section, values in sections.items():
        lines += [
            f"[{section}]",
            *(f"{key} = {json.dumps(value, allow_nan=False)}" for key, value in values.items()),
            "",
        ]
    return "\n".join(lines)
