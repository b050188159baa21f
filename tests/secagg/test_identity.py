"""Identities: key files that only their owner reads, secrets that no low-order point weakens, a strict directory."""

from __future__ import annotations

import os
import stat
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.errors import Refused
from secagg.identity import Directory, Identity, PublicIdentity, check_party_id
from secagg.record import canonical_json, strict_json

P = 2**255 - 19
# The points whose order divides 8, canonical and not, on the curve and its twist (Wycheproof).
LOW_ORDER = {
    "0": 0,
    "1": 1,
    "order 8": 0x00B8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0,
    "order 8, the other": 0x57119FD0DD4E22D8868E1C58C45C44045BEF839C55B1D0B1248C50A3BC959C5F,
    "p - 1": P - 1,
    "p": P,
    "p + 1": P + 1,
}


@pytest.mark.parametrize("high_bit", [0, 1])
@pytest.mark.parametrize("point", LOW_ORDER.values(), ids=LOW_ORDER.keys())
def test_m12_points_of_low_order_are_refused(point: int, high_bit: int) -> None:
    bad = (point | high_bit << 255).to_bytes(32, "little")
    identity = Identity.generate()
    with pytest.raises(Refused, match="low order"):
        identity.agree(PublicIdentity(identity.public.signing, bad))


def test_two_parties_agree_and_a_third_does_not() -> None:
    a, b, c = (Identity.generate() for _ in range(3))
    assert a.agree(b.public) == b.agree(a.public)
    assert a.agree(b.public) != a.agree(c.public)


def test_a_signature_is_of_one_key_and_one_message() -> None:
    a, b = Identity.generate(), Identity.generate()
    signature = a.sign(b"message")
    assert len(signature) == 64
    assert a.public.verify(signature, b"message")
    assert not a.public.verify(signature, b"massage")
    assert not b.public.verify(signature, b"message")


@given(st.binary(max_size=80), st.binary(min_size=32, max_size=32))
def test_verifying_never_raises_whatever_the_bytes(signature: bytes, signing: bytes) -> None:
    assert not PublicIdentity(signing, bytes([9]) + bytes(31)).verify(signature, b"message")


def test_the_fingerprint_depends_on_both_keys() -> None:
    a, b = Identity.generate().public, Identity.generate().public
    marks = {
        PublicIdentity(s.signing, g.agreement).fingerprint
        for s, g in [(a, a), (a, b), (b, a), (b, b)]
    }  # fmt: skip
    assert {len(mark) for mark in marks} == {32}
    assert len(marks) == 4


@pytest.mark.parametrize(("signing", "agreement"), [(31, 32), (33, 32), (32, 31), (32, 0)])
def test_keys_have_32_bytes(signing: int, agreement: int) -> None:
    with pytest.raises(Refused, match="32 bytes each"):
        PublicIdentity(bytes(signing), bytes(agreement))


@pytest.mark.parametrize(
    "given_fields",
    [
        {},
        [],
        None,
        {"signing": "00" * 32},
        {"signing": "00" * 32, "agreement": "zz" * 32},
        {"signing": "00" * 31, "agreement": "00" * 32},
        {"signing": 1, "agreement": "00" * 32},
    ],
)
def test_a_public_identity_from_outside_is_checked(given_fields: object) -> None:
    with pytest.raises(Refused, match="public identity"):
        PublicIdentity.from_json(given_fields)


def test_private_keys_are_not_printed() -> None:
    identity = Identity.generate()
    assert [field.name for field in fields(identity) if field.repr] == ["public"]
    assert "signing_key" not in repr(identity)


def test_a_key_file_is_read_back_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    identity, path = Identity.generate(), tmp_path / "site.key"
    before = os.umask(0)
    try:
        identity.save(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = Identity.load(path)
    assert loaded.public == identity.public
    assert identity.public.verify(loaded.sign(b"m"), b"m")
    peer = Identity.generate().public
    assert loaded.agree(peer) == identity.agree(peer)


@pytest.mark.parametrize("bit", [0o040, 0o020, 0o010, 0o004, 0o002, 0o001])
def test_t21_a_key_file_that_others_can_touch_is_refused(tmp_path: Path, bit: int) -> None:
    path = tmp_path / "site.key"
    Identity.generate().save(path)
    path.chmod(0o600 | bit)
    with pytest.raises(Refused, match=f"has mode {0o600 | bit:04o}, expected 0600; chmod 600 it"):
        Identity.load(path)
    path.chmod(0o400)
    Identity.load(path)


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "site.key"
    first = Identity.generate()
    first.save(path)
    with pytest.raises(Refused, match="not overwritten"):
        Identity.generate().save(path)
    assert Identity.load(path).public == first.public


def test_a_dangling_link_is_not_followed_when_a_key_is_written(tmp_path: Path) -> None:
    (tmp_path / "site.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused):
        Identity.generate().save(tmp_path / "site.key")
    assert not (tmp_path / "elsewhere").exists()


def test_files_that_cannot_be_opened_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cannot read the key file: No such file"):
        Identity.load(tmp_path / "none.key")
    with pytest.raises(Refused, match="cannot read the key file"):
        Identity.load(tmp_path)
    with pytest.raises(Refused, match="cannot write the key file"):
        Identity.generate().save(tmp_path / "none" / "site.key")


@pytest.mark.parametrize("change", ["format", "signing", "agreement", "json", "empty", "cut", "number"])
def test_a_damaged_key_file_is_refused_and_not_quoted(tmp_path: Path, change: str) -> None:
    path = tmp_path / "site.key"
    Identity.generate().save(path)
    keys = strict_json(path.read_bytes())
    secrets = (keys["signing"], keys["agreement"])
    content = {
        "format": lambda: canonical_json(keys | {"format": "secagg.identity/2"}),
        "signing": lambda: canonical_json(keys | {"signing": secrets[0][:-2]}),
        "agreement": lambda: canonical_json(keys | {"agreement": "g" * 64}),
        "json": lambda: b"{" + path.read_bytes(),
        "empty": lambda: b"",
        "cut": lambda: path.read_bytes()[:-3],
        "number": lambda: canonical_json(keys | {"signing": 7}),
    }[change]()
    path.write_bytes(content)
    with pytest.raises(Refused, match=r"not a key file of format secagg\.identity/1") as refused:
        Identity.load(path)
    assert not any(secret[:16] in str(refused.value) for secret in secrets)


@pytest.mark.parametrize("name", ["a", "site-1", "A.b_c-9", "0", "x" * 64])
def test_party_names(name: str) -> None:
    assert check_party_id(name) == name


@pytest.mark.parametrize("name", ["", "-a", ".", "..", "a/b", "a b", "a\n", "\u00e9", "x" * 65, "$a", "a\0"])
def test_names_that_could_be_paths_or_tricks_are_refused(name: str) -> None:
    with pytest.raises(Refused, match="party name"):
        check_party_id(name)
    with pytest.raises(Refused, match="party name"):
        Directory({name: Identity.generate().public})


def test_t1_an_unknown_party_is_refused_by_name() -> None:
    directory = Directory({"site-1": Identity.generate().public})
    with pytest.raises(Refused, match="party 'site-2' is not in the directory of known identities"):
        directory["site-2"]
    assert "site-2" not in directory
    assert "site-1" in directory


def test_get_of_an_unknown_party_gives_the_default_like_any_mapping() -> None:
    assert Directory({}).get("site-2") is None


def test_a_directory_is_read_back_and_does_not_depend_on_order() -> None:
    members = {name: Identity.generate().public for name in ("b", "server", "a")}
    directory = Directory(members)
    assert list(directory) == ["a", "b", "server"]
    assert len(directory) == 3
    assert Directory.from_bytes(directory.to_bytes()) == directory
    assert Directory(dict(reversed(members.items()))).to_bytes() == directory.to_bytes()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format":"secagg.directory/2","members":{}}',
        b'{"format":"secagg.directory/1","members":[]}',
        b'{"format":"secagg.directory/1","members":{"a":{}}}',
        b'{"format":"secagg.directory/1","members":{"a/b":{"signing":"' + b"00" * 32 + b'","agreement":"' + b"00" * 32
        + b'"}}}',
        b'{"format":"secagg.directory/1","members":{},"members":{}}',
    ],
)  # fmt: skip
def test_a_directory_from_outside_is_checked(content: bytes) -> None:
    with pytest.raises(Refused):
        Directory.from_bytes(content)


@pytest.mark.parametrize("point", LOW_ORDER)
def test_m12_an_identity_with_a_low_order_agreement_key_cannot_be_made(point: str) -> None:
    """One such member would otherwise make every message to it impossible, and so end everybody's rounds."""
    signing = Identity.generate().public.signing
    with pytest.raises(Refused, match="low order"):
        PublicIdentity(signing, LOW_ORDER[point].to_bytes(32, "little"))
