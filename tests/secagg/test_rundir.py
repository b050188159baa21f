"""Run directories: whatever was changed, added, removed or rebuilt since the run is found and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from secagg import rundir
from secagg.driver import Driver
from secagg.errors import Refused, SecaggError, VerificationFailed
from secagg.identity import SERVER, Directory, Identity
from secagg.pins import pin, pinned
from secagg.registry import build
from secagg.rundir import DIRECTORY, RunDirectory, verify_run
from tests.secagg.runs import NAMES, Run, body_of, make_run, play


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run")


def test_an_honest_run_is_verified_against_its_pin(run: Run) -> None:
    verified = verify_run(run.path)
    assert verified == rundir.Verified(
        run=run.driver.run,
        rounds=2,
        planned=None,
        aborted="",
        entries=4,
        server_fingerprint=run.directory[SERVER].fingerprint.hex(),
    )


def test_without_a_pin_it_says_that_the_key_is_not_known(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECAGG_HOME", str(tmp_path / "another account"))
    with pytest.raises(VerificationFailed, match="does not know its server key"):
        verify_run(run.path)
    mark = run.directory[SERVER].fingerprint.hex()
    assert verify_run(run.path, fingerprint=mark).server_fingerprint == mark
    assert verify_run(run.path, fingerprint=mark.upper()).server_fingerprint == mark
    with pytest.raises(VerificationFailed, match="not by the known key 0000000000000000"):
        verify_run(run.path, fingerprint="0" * 64)


@pytest.mark.parametrize("fingerprint", ["", "xyz", "00", "0" * 63, "0" * 65, "g" * 64])
def test_what_is_no_fingerprint_is_refused_and_does_not_accuse_anybody(run: Run, fingerprint: str) -> None:
    with pytest.raises(Refused):
        verify_run(run.path, fingerprint=fingerprint)


CHANGES: dict[str, Callable[[Path], object]] = {
    "config.toml was changed": lambda path: (path / "config.toml").write_text("[experiment]\nname = 'big'\n"),
    "model/weights.bin was changed": lambda path: (path / "model" / "weights.bin").write_bytes(bytes(64)),
    "model/weights.bin was changed after": lambda path: (path / "model" / "weights.bin").write_bytes(b""),
    "config.toml is missing": lambda path: (path / "config.toml").unlink(),
    "model/weights.bin is missing": lambda path: shutil.rmtree(path / "model"),
    "extra.txt was added": lambda path: (path / "extra.txt").write_text(""),
    "model/extra.txt was added": lambda path: (path / "model" / "extra.txt").write_text(""),
    ".hidden was added": lambda path: (path / ".hidden").write_text(""),
    "model/transcript.jsonl was added": lambda path: (path / "model" / "transcript.jsonl").write_text(""),
    "is missing": lambda path: (path / "config.toml").rename(path / "config2.toml"),
}


@pytest.mark.parametrize("says", CHANGES)
def test_a_changed_added_or_removed_file_is_named(run: Run, says: str) -> None:
    CHANGES[says](run.path)
    with pytest.raises(VerificationFailed, match=says):
        verify_run(run.path)


LINKS: dict[str, Callable[[Path, Path], object]] = {
    "a dangling link": lambda path, elsewhere: (path / "extra").symlink_to(elsewhere / "none"),
    "a link to a folder": lambda path, elsewhere: (path / "extra").symlink_to(elsewhere),
    "a file swapped for a link to its copy": lambda path, elsewhere: (
        shutil.move(path / "config.toml", elsewhere / "config.toml"),
        (path / "config.toml").symlink_to(elsewhere / "config.toml"),
    ),
}


@pytest.mark.parametrize("kind", LINKS)
def test_links_that_lead_out_of_the_directory_are_changes(run: Run, tmp_path: Path, kind: str) -> None:
    """What a link shows can change tomorrow without the directory being touched."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "payload.bin").write_bytes(b"x")
    LINKS[kind](run.path, elsewhere)
    with pytest.raises(VerificationFailed):
        verify_run(run.path)


def test_edits_of_the_chain_reach_the_caller(run: Run) -> None:
    lines = run.lines()
    run.write([lines[0], lines[2], lines[3]])
    with pytest.raises(VerificationFailed, match="entry 1 is missing"):
        verify_run(run.path)
    run.write(lines[:-1])
    with pytest.raises(VerificationFailed, match="cut off"):
        verify_run(run.path)
    run.write(lines)
    assert verify_run(run.path).rounds == 2


def test_the_directory_of_keys_is_bound(run: Run) -> None:
    """One more harmless member, a member less, and the same members in another form."""
    members = dict(run.directory)
    changed = [
        Directory(members | {"site-9": Identity.generate().public}).to_bytes(),
        Directory({name: members[name] for name in members if name != "site-3"}).to_bytes(),
        json.dumps(json.loads(run.directory.to_bytes()), indent=1).encode(),
    ]
    for content in changed:
        (run.path / DIRECTORY).write_bytes(content)
        with pytest.raises(VerificationFailed):
            verify_run(run.path)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format": "secagg.directory/1"', b"\xff"])
def test_a_damaged_directory_of_keys_is_failed_evidence(run: Run, content: bytes) -> None:
    """Not a usage error: the run directory is one, and something in it was altered (exit code 1, not 2)."""
    (run.path / DIRECTORY).write_bytes(content)
    with pytest.raises(VerificationFailed, match=r"directory\.json"):
        verify_run(run.path)


def test_a_directory_without_a_server_is_failed_evidence(run: Run) -> None:
    (run.path / DIRECTORY).write_bytes(Directory({"site-0": run.directory["site-0"]}).to_bytes())
    with pytest.raises(VerificationFailed, match="it has no server"):
        verify_run(run.path)


def test_a_chain_rebuilt_under_the_old_directory_fails(run: Run) -> None:
    run.rebuild(run.entries(), SERVER, Identity.generate())
    with pytest.raises(VerificationFailed, match="entry 0 was altered, or not signed by the known key"):
        verify_run(run.path)


def forged(path: Path, of: Run) -> Run:
    """A wholly consistent run under fresh keys that claims to be the run `of`: only the pin can tell."""
    driver = Driver(build("plain").backend, NAMES)
    driver.run = of.driver.run
    fake = Run(path, driver)
    shutil.copytree(of.path, path)
    (path / DIRECTORY).write_bytes(driver.directory.to_bytes())
    fake.outcomes = [play(driver, number) for number in (1, 2)]
    entries = of.entries()
    hashes = rundir._hashes(path)
    entries[0]["body"]["directory"] = hashes[DIRECTORY]
    for place, outcome in enumerate(fake.outcomes, start=1):
        entries[place]["body"] = body_of(outcome, loss=0.1)
    entries[-1]["body"]["files"] = hashes
    fake.rebuild(entries, SERVER, driver.identities[SERVER])
    return fake


def test_a_run_rebuilt_with_other_keys_and_another_directory_is_caught_by_the_pin(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = forged(tmp_path / "fake", run)
    with pytest.raises(VerificationFailed, match=r"the chain is signed by server key .*, not by the known key"):
        verify_run(fake.path)
    with pytest.raises(VerificationFailed, match="not by the known key"):
        verify_run(fake.path, fingerprint=run.directory[SERVER].fingerprint.hex())
    # It is the pin and nothing else: where nobody remembers the run, the forgery holds together, unpinned.
    monkeypatch.setenv("SECAGG_HOME", str(tmp_path / "another account"))
    with pytest.raises(VerificationFailed, match="does not know its server key"):
        verify_run(fake.path)


def test_clients_keys_swapped_under_the_servers_own_key_are_bound_by_the_directory(run: Run) -> None:
    """A malicious server invents its clients but keeps its pinned key: entry 0 names another directory."""
    members = dict(run.directory) | {"site-0": Identity.generate().public}
    (run.path / DIRECTORY).write_bytes(Directory(members).to_bytes())
    with pytest.raises(VerificationFailed, match=r"directory\.json was changed|not signed|another spec, sender"):
        verify_run(run.path)


def test_a_run_rewritten_by_one_of_its_clients_is_caught_though_the_server_key_is_pinned(run: Run) -> None:
    """The whole history goes, a new one is signed by site-0, the directory stays: it must not verify as pinned."""
    entries = run.entries()
    (run.path / "config.toml").write_text("lr = 9\n", encoding="utf-8")
    entries[-1]["body"]["files"] = rundir._hashes(run.path)
    run.rebuild([entries[0], entries[-1]], "site-0", run.driver.identities["site-0"])
    with pytest.raises(VerificationFailed):
        verify_run(run.path)


def test_r8_a_transcript_of_another_format_is_not_read_as_this_one(run: Run) -> None:
    entries = run.entries()
    entries[0]["body"]["format"] = "secagg.transcript/2"
    run.rebuild(entries, SERVER, run.driver.identities[SERVER])
    with pytest.raises(SecaggError, match=r"secagg\.transcript/"):
        verify_run(run.path)


@pytest.mark.parametrize("files", [None, [], "all", 7])
def test_a_closing_entry_without_files_fails(run: Run, files: object) -> None:
    entries = run.entries()
    entries[-1]["body"]["files"] = files
    run.rebuild(entries, SERVER, run.driver.identities[SERVER])
    with pytest.raises(VerificationFailed, match="closing entry names no files"):
        verify_run(run.path)


@pytest.mark.parametrize("kind", ["none", "a file", "an empty folder", "no transcript", "no directory", "folders"])
def test_what_is_not_a_run_directory_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run"
    if kind == "a file":
        path.write_text("")
    elif kind == "folders":
        (path / "transcript.jsonl").mkdir(parents=True)
        (path / DIRECTORY).mkdir()
    elif kind == "no transcript":
        path.mkdir()
        (path / DIRECTORY).write_text("{}")
    elif kind == "no directory":
        path.mkdir()
        (path / "transcript.jsonl").write_text("")
    elif kind == "an empty folder":
        path.mkdir()
    with pytest.raises(Refused, match=r"not a run directory \(expected transcript.jsonl and directory.json in it\)"):
        verify_run(path)


def test_an_existing_directory_is_refused_and_left_alone(run: Run, tmp_path: Path) -> None:
    before = rundir._hashes(run.path)
    with pytest.raises(Refused, match="exists already; name another --output, nothing was changed"):
        RunDirectory(run.path, *party())
    assert rundir._hashes(run.path) == before
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="cannot create the run directory"):
        RunDirectory(tmp_path / "file" / "run", *party())


def test_a_run_that_never_began_does_not_verify(tmp_path: Path) -> None:
    RunDirectory(tmp_path / "run", *party()).seal()
    with pytest.raises(VerificationFailed, match="entry 0 is missing"):
        verify_run(tmp_path / "run")


def test_where_the_key_cannot_be_pinned_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECAGG_HOME", "/proc/nowhere")
    with pytest.raises(Refused, match="cannot remember the run's key"):
        RunDirectory(tmp_path / "run", *party())
    assert not (tmp_path / "run").exists()


def test_a_run_that_was_not_sealed_does_not_verify(tmp_path: Path) -> None:
    driver = Driver(build("plain").backend, NAMES)
    folder = RunDirectory(tmp_path / "run", driver.run, driver.directory, driver.identities[SERVER])
    transcript = folder.open_transcript({})
    transcript.append("round", body_of(play(driver, 1)))
    with pytest.raises(VerificationFailed, match="entry 2 is missing: the run was cut off"):
        verify_run(folder.path)


def test_what_a_caller_says_about_a_run_cannot_replace_what_the_run_is(tmp_path: Path) -> None:
    """Pinned under one name and opened under another, the pin would never be looked up."""
    folder = RunDirectory(tmp_path / "run", *party("a" * 32))
    folder.open_transcript({"run": "b" * 32})
    folder.seal()
    assert verify_run(folder.path).run == "a" * 32


def test_the_pin_is_written_before_the_first_round(tmp_path: Path) -> None:
    run, directory, identity = party("c" * 32)
    assert pinned(run) is None
    RunDirectory(tmp_path / "run", run, directory, identity)
    assert pinned(run) == identity.public.fingerprint
    pin("d" * 32, bytes(32), tmp_path / "other")
    assert pinned(run) == identity.public.fingerprint


@pytest.mark.parametrize("where", ["the directory", "its parent"])
def test_a_forged_run_behind_a_link_is_caught(where: str, tmp_path: Path) -> None:
    """Other keys, another run id, and a link where the real directory was: the place itself is remembered."""
    (tmp_path / "real").mkdir()
    (tmp_path / "other").mkdir()
    make_run(tmp_path / "real" / "run")
    make_run(tmp_path / "other" / "run")
    if where == "the directory":
        shutil.rmtree(tmp_path / "real" / "run")
        (tmp_path / "real" / "run").symlink_to(tmp_path / "other" / "run")
    else:
        shutil.rmtree(tmp_path / "real")
        (tmp_path / "real").symlink_to(tmp_path / "other")
    with pytest.raises(VerificationFailed, match=r"is a link|this directory was made by run"):
        verify_run(tmp_path / "real" / "run")


def party(run: str = "e" * 32) -> tuple[str, Directory, Identity]:
    """A run's id, a directory with its server alone, and that server's keys."""
    identity = Identity.generate()
    return run, Directory({SERVER: identity.public}), identity
