"""The ledger: no crash refunds, no charge exceeds the budget, no edit goes unseen, two processes take turns."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dp.ledger
from dp.accountant import Charge, composed_epsilon, epsilon, solve_noise_multiplier
from dp.book import Budget, Head
from dp.ledger import Ledger, read_book
from secagg.errors import Aborted, Refused, VerificationFailed

BUDGET = Budget(population="heart", epsilon=8.0, delta=1e-5)
CHARGE = Charge(5.0)
RUN = "ab" * 16


def spend(ledger: Ledger, charge: Charge = CHARGE, budget: Budget = BUDGET, number: int = 1) -> Head:
    return ledger.spend(charge, budget=budget, run=RUN, round_number=number)


def charged(path: Path, budget: Budget = BUDGET) -> float:
    return read_book(path).epsilon(budget)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "site-0.ledger"


def test_d6_an_exhausted_budget_refuses_to_take_part(path: Path) -> None:
    """A run that was planned for 20 rounds gets 20, and not one more."""
    charge = Charge(solve_noise_multiplier(8.0, 1e-5, rounds=20))
    ledger = Ledger(path, "site-0")
    for number in range(20):
        spend(ledger, charge, number=number)
    before = path.read_bytes()
    message = r"the privacy budget of 'heart' is exhausted: this round would make it epsilon 8\.\d+ .* of 8; 7\.9\d+ is"
    for again in (ledger, Ledger(path, "site-0")):
        with pytest.raises(Aborted, match=message):
            spend(again, charge)
    assert path.read_bytes() == before
    assert 7.9 < charged(path) <= 8.0


def test_d6_charges_of_any_kind_and_run_share_one_budget(path: Path) -> None:
    ledger = Ledger(path, "site-0")
    samples = Budget(population="chests", epsilon=3.0, delta=1e-6, unit="sample")
    ledger.spend(CHARGE, budget=BUDGET, run=RUN, round_number=1)
    ledger.spend(Charge(4.0), budget=BUDGET, run="cd" * 16, round_number=1)
    spend(ledger, Charge(1.2, 100, 0.01), samples)
    spend(ledger, CHARGE, Budget(population="lungs", epsilon=8.0, delta=1e-5))
    book = read_book(path)
    assert book.epsilon(BUDGET) == composed_epsilon([CHARGE, Charge(4.0)], delta=1e-5) == ledger.epsilon(BUDGET)
    finest = composed_epsilon([Charge(1.2, 100, 0.01)], delta=1e-6)
    assert finest <= book.epsilon(samples) <= finest * 1.001
    assert {key: len(account.charges) for key, account in book.accounts.items()} == {
        ("heart", "client"): 2,
        ("chests", "sample"): 1,
        ("lungs", "client"): 1,
    }


@pytest.mark.parametrize(("first", "second"), [("client", "sample"), ("sample", "client")])
def test_d6_a_population_has_one_unit(path: Path, first: Any, second: Any) -> None:
    ledger = Ledger(path, "site-0")
    spend(ledger, CHARGE, BUDGET.model_copy(update={"unit": first}))
    with pytest.raises(Refused, match=f"is charged for each {first}, got a charge for each {second}"):
        spend(ledger, CHARGE, BUDGET.model_copy(update={"unit": second}))


def test_a_budget_is_granted_once(path: Path) -> None:
    ledger = Ledger(path, "site-0")
    spend(ledger)
    for other in (BUDGET.model_copy(update={"epsilon": 80.0}), BUDGET.model_copy(update={"delta": 1e-3})):
        with pytest.raises(Refused, match=r"'heart' has the budget epsilon 8 at delta 1e-05, got .* granted once"):
            spend(ledger, budget=other)


def start(work: Callable[[Callable[[], None]], None]) -> Callable[[], tuple[int, int]]:
    """Start `work(left)` in a child; what is returned waits for it: how it ended, and how many updates left."""
    reading, writing = os.pipe()
    if not (process := os.fork()):
        try:
            work(lambda: os.write(writing, b"L") and None)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)

    def wait() -> tuple[int, int]:
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        with os.fdopen(reading, "rb") as updates:
            return code, len(updates.read())

    return wait


class Dying:
    """`os` as the ledger sees it, in a process that kills itself at the system call number `point`."""

    def __init__(self, point: int, where: str) -> None:
        self.calls, self.point, self.where = 0, point, where

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return functools.partial(self.call, real) if name in ("open", "write", "fsync", "close") else real

    def call(self, real: Callable[..., Any], *arguments: Any) -> Any:
        self.calls += 1
        if self.calls == self.point:
            if self.where == "after":
                real(*arguments)
            if self.where == "midway" and real is os.write:
                file, line = arguments
                real(file, line[: len(line) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)


def child(path: Path, point: int, where: str) -> tuple[int, int]:
    """A site that takes part in two rounds, killed at a point."""

    def work(left: Callable[[], None]) -> None:
        dp.ledger.os = Dying(point, where)  # type: ignore[assignment]
        ledger = Ledger(path, "site-0")
        for number in (1, 2):
            spend(ledger, number=number)
            left()

    return start(work)()


def spent_entries(path: Path) -> int:
    """Charges on disk, torn lines included: each may have been one."""
    book = read_book(path)
    account = book.accounts.get(("heart", "client"))
    return (len(account.charges) if account else 0) + book.torn


@pytest.mark.parametrize("where", ["before", "midway", "after"])
def test_d5_a_kill_at_any_write_point_refunds_nothing(path: Path, where: str) -> None:
    point = 0
    while True:
        point += 1
        path.unlink(missing_ok=True)
        code, left = child(path, point, where)
        if code == 0:
            break
        # The ledger opens again whatever was left of it, and everything that may have left is charged.
        ledger = Ledger(path, "site-0")
        before = ledger.epsilon(BUDGET)
        assert before >= (composed_epsilon([CHARGE] * left, delta=1e-5) if left else 0)
        assert spent_entries(path) >= left
        spend(ledger)
        assert ledger.epsilon(BUDGET) >= epsilon(5.0, left + 1, delta=1e-5)
        assert charged(path) == Ledger(path, "site-0").epsilon(BUDGET) == ledger.epsilon(BUDGET)
    assert left == 2
    assert point > 12


@pytest.mark.parametrize("percent", [1, 30, 99, 100])
def test_d5_a_torn_line_counts_as_spent_and_is_never_taken_out(path: Path, percent: int) -> None:
    ledger = Ledger(path, "site-0")
    spend(ledger)
    whole = path.read_bytes()
    spend(ledger, Charge(3.0))
    line = path.read_bytes()[len(whole) :].removesuffix(b"\n")
    torn = whole + line[: max(1, len(line) * percent // 100)]
    path.write_bytes(torn)
    again = Ledger(path, "site-0")
    # Nobody knows what it was to charge: as much as the costliest charge that is known. If it is whole, it is itself.
    expected = [CHARGE, Charge(3.0)] if percent == 100 else [CHARGE, CHARGE]
    assert again.epsilon(BUDGET) == composed_epsilon(expected, delta=1e-5)
    spend(again, Charge(2.5))
    assert path.read_bytes().startswith(torn + b"\n")
    expected = [*expected[: 2 if percent == 100 else 1], Charge(2.5)] + ([] if percent == 100 else [Charge(2.5)])
    assert again.epsilon(BUDGET) == composed_epsilon(expected, delta=1e-5) == charged(path)
    spend(again)
    if percent < 100:
        lines = path.read_bytes().split(b"\n")
        path.write_bytes(b"\n".join(lines[:3] + lines[4:]))
        with pytest.raises(VerificationFailed, match="entry 3: the lines before it are not those that it followed"):
            Ledger(path, "site-0")


def test_d5_a_torn_line_alone_can_exhaust_a_budget(path: Path) -> None:
    tight = Budget(population="heart", epsilon=epsilon(5.0, 2, delta=1e-5) * 1.01, delta=1e-5)
    spend(Ledger(path, "site-0"), budget=tight)
    with open(path, "ab") as file:
        file.write(b'{"body":{"noise')
    with pytest.raises(Aborted, match="exhausted"):
        spend(Ledger(path, "site-0"), budget=tight)


def test_what_cannot_be_written_may_not_leave(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(path, "site-0")
    spend(ledger)
    real = os.write
    monkeypatch.setattr("dp.ledger.os.write", lambda file, line: real(file, line[:20]))
    with pytest.raises(Refused, match=r"cannot write to the ledger: No space left on device; nothing may leave"):
        spend(ledger)
    monkeypatch.undo()
    assert Ledger(path, "site-0").epsilon(BUDGET) == epsilon(5.0, 2, delta=1e-5)


def test_what_is_not_on_disk_may_not_leave(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(path, "site-0")
    synced: list[int] = []

    def failing(file: int) -> None:
        synced.append(file)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("dp.ledger.os.fsync", failing)
    with pytest.raises(Refused, match="cannot write to the ledger: Input/output error"):
        spend(ledger)
    assert len(synced) == 1


@pytest.mark.parametrize("kind", ["edit", "drop", "swap", "repeat", "graft"])
def test_d5_an_edit_anywhere_before_the_end_is_found(path: Path, tmp_path: Path, kind: str) -> None:
    ledger = Ledger(path, "site-0")
    for number in range(4):
        spend(ledger, number=number)
    other = tmp_path / "other"
    twin = Ledger(other, "site-0")
    for number in range(4):
        spend(twin, number=number)
    lines = path.read_bytes().splitlines()
    for place in range(len(lines) - 1):
        changed = list(lines)
        if kind == "edit":
            changed[place] = changed[place].replace(b'"index":', b'"index": ', 1).replace(b"5.0", b"500.0")
            changed[place] = (
                changed[place][:-3] + b"0" + changed[place][-2:] if b"5.0" not in lines[place] else changed[place]
            )
        elif kind == "drop":
            del changed[place]
        elif kind == "swap":
            changed[place], changed[place + 1] = changed[place + 1], changed[place]
        elif kind == "repeat":
            changed.insert(place, changed[place])
        else:
            changed[place] = other.read_bytes().splitlines()[place]
        if changed == lines:
            continue
        path.write_bytes(b"\n".join(changed) + b"\n")
        with pytest.raises(VerificationFailed, match="entry"):
            read_book(path)


def test_d5_a_file_that_shrinks_or_is_replaced_in_use_is_noticed(path: Path) -> None:
    ledger = Ledger(path, "site-0")
    spend(ledger)
    earlier = path.read_bytes()
    spend(ledger)
    later = path.read_bytes()
    path.write_bytes(earlier)
    with pytest.raises(VerificationFailed, match="replaced or cut while it was in use"):
        spend(ledger)
    copy = path.with_suffix(".copy")
    copy.write_bytes(later)
    copy.replace(path)
    with pytest.raises(VerificationFailed, match="replaced or cut while it was in use"):
        spend(ledger)


def test_two_processes_take_turns(path: Path) -> None:
    """Six at once: every charge is in the chain, and together they stop at the budget."""

    def work(left: Callable[[], None]) -> None:
        ledger = Ledger(path, "site-0")
        with contextlib.suppress(Aborted):
            for number in range(20):
                spend(ledger, number=number)
                left()

    spend(Ledger(path, "site-0"))
    ends = [wait() for wait in [start(work) for _ in range(6)]]
    assert {code for code, _ in ends} == {0}
    left = 1 + sum(count for _, count in ends)
    book = read_book(path)
    assert left == len(book.accounts["heart", "client"].charges)
    assert book.epsilon(BUDGET) <= 8.0 < epsilon(5.0, left + 1, delta=1e-5)


def test_another_process_is_seen_before_each_charge(path: Path) -> None:
    tight = Budget(population="heart", epsilon=epsilon(5.0, 2, delta=1e-5) * 1.01, delta=1e-5)
    first, second = Ledger(path, "site-0"), Ledger(path, "site-0")
    spend(first, budget=tight)
    spend(second, budget=tight)
    with pytest.raises(Aborted, match="exhausted"):
        spend(first, budget=tight)


def test_a_ledger_is_one_sites_and_its_own_to_read(path: Path, tmp_path: Path) -> None:
    Ledger(path, "site-0")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Refused, match="the ledger of 'site-0', expected that of 'site-1'"):
        Ledger(path, "site-1")
    with pytest.raises(Refused, match="cannot open the ledger"):
        Ledger(tmp_path / "nowhere" / "site-0.ledger", "site-0")
    with pytest.raises(Refused, match="cannot read the ledger"):
        read_book(tmp_path / "none")


@pytest.mark.parametrize("content", [b"notes\n", b"{}\n", bytes(4096), b'{"body":{"format":"other"'])
def test_another_file_is_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(Refused, match="not a ledger: it has no opening entry; nothing was changed"):
        Ledger(path, "site-0")
    assert path.read_bytes() == content
    with pytest.raises(Refused, match="not a ledger"):
        read_book(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"population": "a b"},
        {"epsilon": 0.0},
        {"epsilon": float("inf")},
        {"delta": 0.0},
        {"delta": 1.0},
        {"unit": "patient"},
    ],
)
def test_a_budget_out_of_range_is_refused_by_field(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        Budget(**{"population": "heart", "epsilon": 8.0, "delta": 1e-5, **fields})
