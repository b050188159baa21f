"""The signed chain: whatever is edited, dropped, repeated, moved or cut off is named by its place."""

from __future__ import annotations

import copy
import re
import resource
import signal
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from secagg.driver import Driver, Letter
from secagg.errors import Refused, SecaggError, VerificationFailed
from secagg.frames import HEADER_BYTES, Header
from secagg.identity import SERVER, Directory, Identity
from secagg.record import canonical_json, strict_json
from secagg.registry import build
from secagg.transcript import FORMAT, GENESIS, Transcript, verify_transcript
from tests.secagg.runs import NAMES, Run, body_of, chain, make_run, play, spec_of


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Five entries: open, three rounds, close. Tests change copies of its bytes, never the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECAGG_HOME", str(tmp_path_factory.mktemp("home")))
        return make_run(tmp_path_factory.mktemp("runs") / "run", rounds=3)


def joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def verify(run: Run, lines: list[bytes]) -> list[dict[str, Any]]:
    return verify_transcript(joined(lines), run.directory)


def test_an_honest_chain_verifies(original: Run) -> None:
    entries = verify(original, original.lines())
    assert [entry["kind"] for entry in entries] == ["open", "round", "round", "round", "close"]
    assert [entry["index"] for entry in entries] == [0, 1, 2, 3, 4]
    assert entries[0]["previous"] == GENESIS
    assert spec_of(entries[2]).digest == original.outcomes[1].spec.digest
    assert set(entries[2]["body"]["evidence"]) == set(NAMES)


def test_an_honest_chain_of_smpc_verifies(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", rounds=1, backend="smpc")
    assert len(verify(run, run.lines())) == 3


def test_evidence_is_addressed_to_the_party_that_the_spec_names(tmp_path: Path) -> None:
    """The holder, where it adds. What a client signed for somebody else under the same spec is no contribution."""
    run = make_run(tmp_path / "run", rounds=1, backend="ckks", verified=True)
    entries = run.entries()
    assert entries[1]["body"]["spec"]["uploads_to"] == "holder"
    assert len(verify(run, run.lines())) == 3
    server = run.driver.identities[SERVER]
    header = Header.from_bytes(bytes.fromhex(entries[1]["body"]["evidence"]["site-1"]))
    for other in (SERVER, "site-2"):
        signed = replace(header, recipient=run.directory[other].fingerprint)
        signed = signed.sign_with(run.driver.identities["site-1"].sign(signed.signed_bytes()))
        entries[1]["body"]["evidence"]["site-1"] = signed.to_bytes().hex()
        with pytest.raises(VerificationFailed, match="'site-1' is for another spec, sender or recipient"):
            verify(run, chain(entries, SERVER, server))
    known = Directory({name: run.directory[name] for name in (SERVER, *NAMES)})
    with pytest.raises(VerificationFailed, match="entry 1: 'holder', to whom contributions went, is not in the dir"):
        verify_transcript(joined(run.lines()), known)


def test_a_seed_is_no_evidence_of_a_vector(tmp_path: Path) -> None:
    """What a client of `smpc` signs for an aggregator, in the same round, before it uploads anything."""
    letters: list[Letter] = []

    def keep(letter: Letter) -> Iterable[Letter]:
        letters.append(letter)
        return (letter,)

    run = make_run(tmp_path / "run", rounds=1, backend="smpc", intercept=keep)
    entries = run.entries()
    seed = next(letter.frame for letter in letters if (letter.sender, letter.to) == ("site-1", "aggregator-1"))
    entries[1]["body"]["evidence"]["site-1"] = bytes(seed[:HEADER_BYTES]).hex()
    with pytest.raises(VerificationFailed, match="'site-1' is for another spec, sender or recipient"):
        verify(run, chain(entries, SERVER, run.driver.identities[SERVER]))


EDITS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "entry 0 is missing": lambda lines: lines[1:],
    "entry 1 is missing": lambda lines: lines[:1] + lines[2:],
    "entry 2 is missing": lambda lines: lines[:2] + lines[3:],
    "entry 3 is missing": lambda lines: lines[:3] + lines[4:],
    "entry 4 is missing": lambda lines: lines[:4],
    "entry 3 is missing: the run was cut off": lambda lines: lines[:3],
    "entry 1 is missing: the run was cut off": lambda lines: lines[:1],
    "entry 0 is missing: the transcript has no opening": lambda lines: [],
    "entry 1 stands twice or out of order": lambda lines: [*lines[:2], lines[1], *lines[2:]],
    "entry 0 stands twice or out of order": lambda lines: [lines[0], *lines],
    "entry 4 stands twice or out of order": lambda lines: [*lines, lines[4]],
    "entry 2 is missing: found entry 3 there": lambda lines: [*lines[:2], lines[3], lines[2], lines[4]],
    "entry 0 is missing: found entry 4 there": lambda lines: lines[::-1],
}


@pytest.mark.parametrize("says", EDITS)
def test_dropped_repeated_and_moved_entries_are_named(original: Run, says: str) -> None:
    with pytest.raises(VerificationFailed, match=re.escape(says)):
        verify(original, EDITS[says](original.lines()))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [leaf for key, inner in items for leaf in leaves(inner, (*path, key))]
    return [path]


def altered(value: Any) -> Any:
    match value:
        case bool() | None:
            return 1
        case int() | float():
            return value + 1
        case str():
            return ("0" if value[:1] != "0" else "1") + value[1:]
    return [0]


@pytest.mark.parametrize("place", range(5))
def test_every_single_value_of_every_entry_is_bound(original: Run, place: int) -> None:
    lines = original.lines()
    paths = leaves(original.entries()[place])
    assert len(paths) >= 6
    for path in paths:
        entry = strict_json(lines[place])
        inner = entry
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = altered(inner[path[-1]])
        with pytest.raises(VerificationFailed, match="entry"):
            verify(original, [*lines[:place], canonical_json(entry), *lines[place + 1 :]])


def test_an_added_or_removed_field_is_named(original: Run) -> None:
    lines = original.lines()
    entry = strict_json(lines[1])
    for changed in [entry | {"note": 1}, {key: entry[key] for key in entry if key != "body"}]:
        with pytest.raises(VerificationFailed, match="entry 1: not a transcript entry"):
            verify(original, [lines[0], canonical_json(changed), *lines[2:]])
    entry["body"]["note"] = 1
    with pytest.raises(VerificationFailed, match="entry 1 was altered"):
        verify(original, [lines[0], canonical_json(entry), *lines[2:]])


def test_every_flipped_byte_is_caught(original: Run) -> None:
    """Each byte at a stride that is no power of two, with each bit in turn, and every line end."""
    whole = joined(original.lines())
    places = set(range(0, len(whole), 61)) | {place for place, byte in enumerate(whole) if byte == ord("\n")}
    missed = []
    for place in sorted(places):
        for bit in range(8) if whole[place] == ord("\n") else [place % 8]:
            changed = whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]
            try:
                verify_transcript(changed, original.directory)
            except VerificationFailed:
                continue
            missed.append((place, bit))
    assert not missed


@pytest.mark.parametrize("change", [b" ", b"\t", b"\r"])
def test_an_entry_in_another_form_is_not_the_entry_that_was_written(original: Run, change: bytes) -> None:
    lines = original.lines()
    with pytest.raises(VerificationFailed, match="entry 2"):
        verify(original, [*lines[:2], lines[2] + change, *lines[3:]])


@pytest.mark.parametrize("cut", [1, 10, 200, 1000])
def test_a_cut_off_file_is_caught(original: Run, cut: int) -> None:
    whole = joined(original.lines()).rstrip(b"\n")
    with pytest.raises(VerificationFailed, match="entry"):
        verify_transcript(whole[:-cut], original.directory)


@pytest.mark.parametrize(
    "body",
    [b'{"x":1e999}', b'{"x":' + b"9" * 5000 + b"}", b'{"x":' + b"[" * 970 + b"]" * 970 + b"}", b'{"x":1,"x":2}'],
    ids=["1e999", "5000 digits", "deep", "duplicate key"],
)
def test_hostile_json_is_a_failed_verification_and_no_crash(original: Run, body: bytes) -> None:
    lines = original.lines()
    hostile = re.sub(rb'"body":.*,"index"', lambda _: b'"body":' + body + b',"index"', lines[1])
    assert hostile != lines[1]
    with pytest.raises(VerificationFailed, match="entry 1"):
        verify(original, [lines[0], hostile, *lines[2:]])


@pytest.mark.parametrize("line", [b"", b"null", b"[]", b"7", b"\xff\xfe", b"{", b'{"index":0}'])
def test_a_line_that_is_no_entry_is_named(original: Run, line: bytes) -> None:
    lines = original.lines()
    with pytest.raises(VerificationFailed, match="entry 2"):
        verify(original, [*lines[:2], line, *lines[3:]])


def test_a_chain_rebuilt_with_a_strangers_key_fails_at_entry_0(original: Run) -> None:
    with pytest.raises(VerificationFailed, match="entry 0 was altered, or not signed by the known key of 'server'"):
        verify(original, chain(original.entries(), SERVER, Identity.generate()))
    with pytest.raises(VerificationFailed, match="entry 0: its author is 'mallory', expected the run's server"):
        verify(original, chain(original.entries(), "mallory", Identity.generate()))


def test_a_chain_rebuilt_by_a_participant_is_not_the_servers(original: Run) -> None:
    """A client's key is in the directory too. It must not do to write the history of the run."""
    entries = original.entries()
    del entries[1:4]
    with pytest.raises(VerificationFailed):
        verify(original, chain(entries, "site-0", original.driver.identities["site-0"]))


def test_a_round_without_its_clients_signatures_fails_even_with_the_servers_key(original: Run) -> None:
    server = original.driver.identities[SERVER]
    stranger = Identity.generate()

    def rebuilt(change: Callable[[dict[str, Any]], object]) -> list[bytes]:
        entries = copy.deepcopy(original.entries())
        change(entries[2]["body"])
        return chain(entries, SERVER, server)

    def forge(body: dict[str, Any]) -> None:
        header = bytes.fromhex(body["evidence"]["site-1"])
        body["evidence"]["site-1"] = (header[:-64] + stranger.sign(header[:-64])).hex()

    def swap(body: dict[str, Any]) -> None:
        body["evidence"]["site-1"] = body["evidence"]["site-2"]

    def other_round(body: dict[str, Any]) -> None:
        body["evidence"] = original.entries()[1]["body"]["evidence"]

    def fewer(body: dict[str, Any]) -> None:
        body["evidence"] = dict(list(body["evidence"].items())[:2])

    def invent(body: dict[str, Any]) -> None:
        body["evidence"]["site-9"] = body["evidence"]["site-1"]

    def cut(body: dict[str, Any]) -> None:
        body["evidence"]["site-1"] = body["evidence"]["site-1"][:100]

    def other_task(body: dict[str, Any]) -> None:
        body["spec"]["task"] = "f" * 64

    def other_task_and_digest(body: dict[str, Any]) -> None:
        body["spec"]["task"] = "f" * 64
        body["spec_digest"] = spec_of({"body": body}).digest.hex()

    for change, says in [
        (forge, "evidence of 'site-1' is not signed by it"),
        (swap, "evidence of 'site-1' is for another spec, sender or recipient"),
        (other_round, "is for another spec, sender or recipient"),
        (fewer, "2 signed contributions, the minimum cohort is 3"),
        (invent, "contributor 'site-9' is not in the roster and the directory"),
        (cut, "evidence of 'site-1': truncated"),
        (other_task, "its spec and its spec digest differ"),
        (other_task_and_digest, "is for another spec, sender or recipient"),
        (lambda body: body.pop("spec"), "not the record of a round"),
        (lambda body: body.pop("evidence"), "not the record of a round"),
        (lambda body: body.pop("spec_digest"), "not the record of a round"),
        (lambda body: body.update(evidence=[]), "not the record of a round"),
        (lambda body: body.update(evidence={"site-1": 7}), "not the record of a round"),
        (lambda body: body.update(evidence={"site-1": "zz"}), "not the record of a round"),
        (lambda body: body["spec"].update(minimum_cohort=2), "not the record of a round"),
    ]:
        with pytest.raises(VerificationFailed, match=f"entry 2: .*{says}"):
            verify(original, rebuilt(change))


def test_t3_a_round_cannot_be_counted_twice(original: Run) -> None:
    """The server has its own key, and old evidence: the same contributions must not stand for two rounds."""
    entries = original.entries()
    entries.insert(2, entries[1])
    with pytest.raises(VerificationFailed):
        verify(original, chain(entries, SERVER, original.driver.identities[SERVER]))


def test_t3_a_round_of_another_run_does_not_belong_here(original: Run) -> None:
    driver = Driver(build("plain").backend, NAMES)
    driver.identities, driver.directory = original.driver.identities, original.driver.directory
    foreign = play(driver, 9)
    assert foreign.spec.run != original.driver.run
    entries = original.entries()
    entries.insert(4, {"kind": "round", "body": body_of(foreign)})
    with pytest.raises(VerificationFailed, match="entry 4"):
        verify(original, chain(entries, SERVER, original.driver.identities[SERVER]))


def test_an_entry_behind_the_closing_one_is_named(original: Run) -> None:
    entries = original.entries()
    with pytest.raises(VerificationFailed, match="entry 5 stands behind the closing entry"):
        verify(original, chain([*entries, entries[1]], SERVER, original.driver.identities[SERVER]))


def test_a_directory_without_a_server_verifies_nothing(original: Run) -> None:
    with pytest.raises(VerificationFailed, match="entry 0: its author is 'server', expected the run's server"):
        verify_transcript(joined(original.lines()), Directory({}))


def test_a_transcript_is_never_overwritten(tmp_path: Path) -> None:
    identity, path = Identity.generate(), tmp_path / "transcript.jsonl"
    Transcript(path, SERVER, identity).close({})
    before = path.read_bytes()
    with pytest.raises(Refused, match="exists here and is not overwritten"):
        Transcript(path, SERVER, identity)
    assert path.read_bytes() == before


def test_an_entry_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    identity, path = Identity.generate(), tmp_path / "transcript.jsonl"
    transcript = Transcript(path, SERVER, identity)
    for count in range(1, 4):
        transcript.append("open", {"count": count, "format": FORMAT})
        assert len(path.read_bytes().splitlines()) == count
    with pytest.raises(VerificationFailed, match="the run was cut off"):
        verify_transcript(path.read_bytes(), Directory({SERVER: identity.public}))


def test_a_body_that_json_cannot_hold_is_a_named_error_and_leaves_the_chain_whole(tmp_path: Path) -> None:
    """A diverged run has a NaN loss. The round must not end in a bare ValueError."""
    identity, path = Identity.generate(), tmp_path / "transcript.jsonl"
    transcript = Transcript(path, SERVER, identity)
    transcript.append("open", {"format": FORMAT})
    with pytest.raises(SecaggError, match=r"nan|NaN|finite"):
        transcript.append("note", {"loss": float("nan")})
    transcript.close({})
    assert len(verify_transcript(path.read_bytes(), Directory({SERVER: identity.public}))) == 2


def test_a_transcript_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused):
        Transcript(tmp_path / "none" / "transcript.jsonl", SERVER, Identity.generate())


def test_an_entry_of_another_chain_by_the_same_server_does_not_fit_in(tmp_path: Path) -> None:
    """Same author, same index, same valid signature: only the hash of what came before tells them apart."""
    identity = Identity.generate()
    chains = []
    for name in ("first", "second"):
        path = tmp_path / name
        transcript = Transcript(path, SERVER, identity)
        transcript.append("open", {"format": FORMAT, "run": name})
        transcript.append("note", {"of": name})
        transcript.close({})
        chains.append(path.read_bytes().splitlines(keepends=True))
    first, second = chains
    directory = Directory({SERVER: identity.public})
    assert len(verify_transcript(b"".join(first), directory)) == 3
    with pytest.raises(VerificationFailed, match="entry 1 does not follow entry 0: the chain is broken"):
        verify_transcript(first[0] + second[1] + first[2], directory)


def test_an_entry_that_does_not_fit_on_the_disk_leaves_a_chain_without_it(tmp_path: Path) -> None:
    """A full disk, and room again before the run closes: the record must not look forged."""
    identity, path = Identity.generate(), tmp_path / "transcript.jsonl"
    transcript = Transcript(path, SERVER, identity)
    transcript.append("open", {"format": FORMAT})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, before[1]))
        with pytest.raises(Refused, match=r"transcript.jsonl: cannot write"):
            transcript.append("note", {"text": "x" * 1000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    transcript.append("note", {"text": "short"})
    transcript.close({})
    assert len(verify_transcript(path.read_bytes(), Directory({SERVER: identity.public}))) == 3
