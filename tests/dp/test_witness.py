"""The witness: a ledger that was rolled back, made anew or rewritten is noticed, and only by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dp.accountant import Charge
from dp.book import Budget, Head
from dp.ledger import Ledger
from dp.witness import Witness, open_head
from secagg.errors import Aborted, Refused, Rejected
from secagg.identity import Identity
from secagg.record import canonical_json

BUDGET = Budget(population="heart", epsilon=8.0, delta=1e-5)
RUN = "ab" * 16
SERVER = Identity.generate()


class Site:
    """What a site does in a round: heed the witness, spend, hand in the head; then its update may leave."""

    def __init__(self, folder: Path, witness: Witness, name: str = "site-0") -> None:
        self.path, self.witness, self.name = folder / f"{name}.ledger", witness, name
        self.round = 0

    def take_part(self) -> Head:
        self.round += 1
        ledger = Ledger(self.path, self.name)
        shown = self.witness.show(self.name, run=RUN, round_number=self.round)
        ledger.heed(open_head(shown, SERVER.public, site=self.name, run=RUN, round_number=self.round))
        head = ledger.spend(Charge(5.0), budget=BUDGET, run=RUN, round_number=self.round)
        self.witness.note(self.name, head)
        return head


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    (tmp_path / "elsewhere").mkdir()
    return Witness(tmp_path / "elsewhere" / "heads.json", SERVER)


@pytest.fixture
def site(tmp_path: Path, witness: Witness) -> Site:
    return Site(tmp_path, witness)


def test_d5_a_rolled_back_ledger_is_refused_by_what_the_witness_remembers(site: Site) -> None:
    site.take_part()
    earlier = site.path.read_bytes()
    site.take_part()
    site.path.write_bytes(earlier)
    with pytest.raises(Aborted, match=r"rolled back or replaced: a witness has seen entry 3 .* it ends with entry 2"):
        site.take_part()
    assert site.path.read_bytes() == earlier


def test_d5_a_deleted_ledger_is_refused(site: Site) -> None:
    site.take_part()
    site.path.unlink()
    with pytest.raises(Aborted, match="rolled back or replaced"):
        site.take_part()


def test_d5_another_history_of_the_same_length_is_refused(site: Site, tmp_path: Path) -> None:
    """Rolled back, and used without the witness since."""
    site.take_part()
    earlier = site.path.read_bytes()
    site.take_part()
    site.path.write_bytes(earlier)
    Ledger(site.path, "site-0").spend(Charge(50.0), budget=BUDGET, run=RUN, round_number=9)
    with pytest.raises(Aborted, match="rolled back or replaced"):
        site.take_part()


def test_d5_without_a_witness_a_rollback_is_not_noticed(site: Site) -> None:
    """What the data sheet says then: not protected."""
    ledger = Ledger(site.path, "site-0")
    ledger.spend(Charge(5.0), budget=BUDGET, run=RUN, round_number=1)
    earlier = site.path.read_bytes()
    ledger.spend(Charge(5.0), budget=BUDGET, run=RUN, round_number=2)
    site.path.write_bytes(earlier)
    assert Ledger(site.path, "site-0").head.entries == 3


def test_a_head_that_was_lost_on_its_way_does_no_harm(site: Site, witness: Witness) -> None:
    """The site died between spending and handing in: its ledger is longer than the witness knows."""
    site.take_part()
    Ledger(site.path, "site-0").spend(Charge(5.0), budget=BUDGET, run=RUN, round_number=2)
    assert site.take_part().entries == 5


def test_the_witness_remembers_in_another_process_and_each_site_by_itself(tmp_path: Path, site: Site) -> None:
    head = site.take_part()
    again = Witness(tmp_path / "elsewhere" / "heads.json", SERVER)
    Site(tmp_path, again, "site-1").take_part()
    shown = again.show("site-0", run=RUN, round_number=7)
    assert open_head(shown, SERVER.public, site="site-0", run=RUN, round_number=7) == head


def test_the_witness_takes_no_older_head(site: Site, witness: Witness) -> None:
    first = site.take_part()
    second = site.take_part()
    for head in (first, Head(second.entries, "0" * 64)):
        with pytest.raises(Rejected, match="'site-0' rejected: its ledger has"):
            witness.note("site-0", head)
    witness.note("site-0", second)


def test_a_head_is_for_one_site_run_and_round_and_signed_by_the_known_witness(site: Site, witness: Witness) -> None:
    site.take_part()
    stale = witness.show("site-0", run=RUN, round_number=1)
    for expected in (
        {"site": "site-1", "run": RUN, "round_number": 1},
        {"site": "site-0", "run": "cd" * 16, "round_number": 1},
        {"site": "site-0", "run": RUN, "round_number": 2},
    ):
        with pytest.raises(Aborted, match="another site's ledger, or one signed for another round"):
            open_head(stale, SERVER.public, **expected)  # type: ignore[arg-type]
    for shown in (stale[:-1] + b" ", b"", stale[:64], bytes(64) + stale[64:]):
        with pytest.raises(Aborted, match="not signed by the witness"):
            open_head(shown, SERVER.public, site="site-0", run=RUN, round_number=1)
    with pytest.raises(Aborted, match="not signed by the witness"):
        open_head(stale, Identity.generate().public, site="site-0", run=RUN, round_number=1)


@pytest.mark.parametrize("entries", ["3", None, [], 1.5, True])
def test_a_witness_that_signs_nonsense_is_refused(entries: object) -> None:
    body = canonical_json({"entries": entries, "hash": "0" * 64, "site": "site-0", "run": RUN, "round": 1})
    shown = SERVER.sign(b"dp/v1/witness" + body) + body
    with pytest.raises(Aborted, match="is not readable"):
        open_head(shown, SERVER.public, site="site-0", run=RUN, round_number=1)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"site-0": 3}', b'{"site-0": ["a", "b"]}', b"\xff"])
def test_a_spoilt_file_is_refused_and_not_begun_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "heads.json"
    path.write_bytes(content)
    with pytest.raises(Refused, match="cannot read the heads of ledgers"):
        Witness(path, SERVER)
