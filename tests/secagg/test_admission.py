"""Admission: the server proposes, the site's own policy decides. T1, T2, T7, T8, T9, T11."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from secagg.admission import Policy, admit, open_proposal, propose
from secagg.driver import Driver
from secagg.errors import Aborted, Refused
from secagg.fixedpoint import FixedPoint
from secagg.identity import SERVER, Directory, Identity
from secagg.record import canonical_json
from secagg.registry import build
from secagg.spec import RoundSpec, task_digest
from secagg.vectors import Layout

NAMES = [f"site-{number}" for number in range(10)]
TASK = task_digest(b"model", b"lr = 0.1")
DRIVER = Driver(build("smpc").backend, NAMES, minimum_cohort=5)
SERVER_KEY = DRIVER.identities[SERVER]
SPEC = DRIVER.spec(1, layout=Layout.flat(100), encoding=FixedPoint.fit(clients=10, value_bound=1.0), task=TASK)


def changed(**fields: Any) -> RoundSpec:
    return RoundSpec.model_validate(SPEC.model_dump() | fields)


def knows(*names: str) -> Directory:
    return Directory({name: DRIVER.directory[name] for name in names})


def admitted(spec: RoundSpec = SPEC, directory: Directory = DRIVER.directory, **policy: Any) -> RoundSpec:
    return admit(spec, Policy(**policy), directory, task=TASK, backend=DRIVER.backend)


def test_a_proposal_arrives_as_it_was_made() -> None:
    spec = open_proposal(propose(SPEC, SERVER_KEY), DRIVER.directory)
    assert spec.digest == SPEC.digest
    assert admitted(spec) is spec


def test_t1_a_proposal_that_the_known_server_did_not_sign_aborts() -> None:
    for forger in (Identity.generate(), DRIVER.identities["site-0"]):
        with pytest.raises(Aborted, match="not signed by the server that this site knows"):
            open_proposal(propose(SPEC, forger), DRIVER.directory)
    with pytest.raises(Aborted, match="not signed"):
        open_proposal(bytes(64) + SPEC.to_bytes(), DRIVER.directory)
    with pytest.raises(Refused, match="'server' is not in the directory"):
        open_proposal(propose(SPEC, SERVER_KEY), knows("site-0"))


def test_t14_every_cut_or_flipped_proposal_is_turned_away() -> None:
    proposal = propose(SPEC, SERVER_KEY)
    for place in range(0, len(proposal), 7):
        flipped = proposal[:place] + bytes([proposal[place] ^ 1]) + proposal[place + 1 :]
        with pytest.raises(Aborted, match="not signed"):
            open_proposal(flipped, DRIVER.directory)
        with pytest.raises((Aborted, Refused)):
            open_proposal(proposal[:place], DRIVER.directory)
    with pytest.raises(Aborted, match="not signed"):
        open_proposal(proposal + b" ", DRIVER.directory)


def test_a_signature_for_something_else_is_none_for_a_proposal() -> None:
    body = SPEC.to_bytes()
    with pytest.raises(Aborted, match="not signed"):
        open_proposal(SERVER_KEY.sign(body) + body, DRIVER.directory)


def test_a_signed_proposal_is_still_parsed_strictly() -> None:
    body = canonical_json(SPEC.model_dump(mode="json") | {"minimum_cohort": 2})
    with pytest.raises(Refused, match="expected 3 at least"):
        open_proposal(SERVER_KEY.sign(b"secagg/v1/proposal" + body) + body, DRIVER.directory)


def test_t8_contributions_signed_for_another_party_than_the_backend_says_abort() -> None:
    """As evidence, a seed that a client signed for an aggregator would pass for its vector."""
    with pytest.raises(Aborted, match="uploads_to is 'aggregator-1', with 'smpc' it is 'server'"):
        admitted(changed(uploads_to="aggregator-1"))


def test_t2_a_swapped_key_aborts_and_names_the_party() -> None:
    stranger = Identity.generate().public.fingerprint.hex()
    roster = SPEC.roster.model_dump()
    for name, swapped in {
        "site-3": roster | {"clients": roster["clients"] | {"site-3": stranger}},
        "aggregator-1": roster | {"helpers": roster["helpers"] | {"aggregator-1": stranger}},
        SERVER: roster | {"server": stranger},
    }.items():
        # Tolerating strangers must not make a swapped key of an acquaintance tolerable.
        with pytest.raises(Aborted, match=f"gives '{name}' another identity than this site knows"):
            admitted(changed(roster=swapped), max_unknown_share=0.9)


def test_t1_an_unknown_helper_or_server_aborts_whatever_the_policy() -> None:
    everybody = list(DRIVER.directory)
    for missing in ("aggregator-2", SERVER):
        directory = knows(*(name for name in everybody if name != missing))
        with pytest.raises(Aborted, match=f"'{missing}' is not in this site's directory"):
            admitted(directory=directory, max_unknown_share=0.9)


@pytest.mark.parametrize(
    "task", [task_digest(b"model", b"lr = 0.2"), task_digest(b"model"), task_digest(b"modellr = 0.1"), "", TASK.upper()]
)
def test_t7_a_spec_for_another_model_or_other_settings_aborts(task: str) -> None:
    with pytest.raises(Aborted, match="another model or other settings than this site received"):
        admit(SPEC, Policy(), DRIVER.directory, task=task, backend=DRIVER.backend)


def test_t7_two_specs_have_two_digests_so_their_frames_never_meet() -> None:
    assert changed(task=task_digest(b"model", b"lr = 0.2")).digest != SPEC.digest


@pytest.mark.parametrize(("spec_says", "site_says", "fine"), [(5, 3, True), (5, 5, True), (5, 6, False), (3, 4, False)])
def test_t8_the_server_may_ask_for_more_and_never_for_less(spec_says: int, site_says: int, fine: bool) -> None:
    spec = changed(minimum_cohort=spec_says)
    if fine:
        assert admitted(spec, minimum_cohort=site_says) is spec
    else:
        with pytest.raises(Aborted, match=f"minimum_cohort is {spec_says}, this site insists on {site_says}"):
            admitted(spec, minimum_cohort=site_says)


def test_t8_fewer_aggregators_than_the_sites_own_backend_asks_for_abort() -> None:
    """The sites run `smpc` with 3 aggregators (any 2 may collude); the server proposes 2, one of them itself."""
    names = NAMES[:4]
    driver = Driver(build("smpc", {"aggregators": 3}).backend, names)
    honest = driver.spec(1, layout=Layout.flat(9), encoding=FixedPoint.fit(clients=4, value_bound=1.0), task=TASK)
    fields = honest.model_dump()
    fields["parameters"]["aggregators"] = 2
    del fields["roster"]["helpers"]["aggregator-2"]
    weaker = RoundSpec.model_validate(fields)
    with pytest.raises((Aborted, Refused)):
        driver.round(weaker, lambda name: (np.full(9, 0.5, np.float32), 1))


@pytest.mark.parametrize(("colluders", "fine"), [(0, True), (3, True), (4, False), (8, False)])
def test_t9_the_cohort_is_two_more_than_may_collude(colluders: int, fine: bool) -> None:
    """Participants see the sum too: with minimum cohort 5, four colluders would read the fifth's update."""
    if fine:
        assert admitted(max_colluders=colluders) is SPEC
    else:
        with pytest.raises(Aborted, match=f"minimum_cohort is 5, this site insists on {colluders + 2}"):
            admitted(max_colluders=colluders)


@pytest.mark.parametrize("cohort", [-1, 0, 1, 2])
def test_t9_no_policy_goes_below_3(cohort: int) -> None:
    with pytest.raises(ValidationError):
        Policy(minimum_cohort=cohort)
    assert Policy().minimum_cohort == 3


def test_t11_a_majority_of_strangers_aborts_above_the_sites_limit() -> None:
    helpers = list(SPEC.roster.helpers)
    six_strangers = knows(SERVER, *helpers, *NAMES[:4])
    with pytest.raises(Aborted, match=r"6 of 10 clients are unknown to this site, which accepts a share of 0\.5"):
        admitted(directory=six_strangers, max_unknown_share=0.5)
    assert admitted(directory=six_strangers, max_unknown_share=0.6) is SPEC
    with pytest.raises(Aborted, match=r"1 of 10 clients are unknown to this site, which accepts a share of 0$"):
        admitted(directory=knows(SERVER, *helpers, *NAMES[:9]))


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan")])
def test_t11_a_policy_never_accepts_strangers_only(share: float) -> None:
    with pytest.raises(ValidationError):
        Policy(max_unknown_share=share)


def test_a_site_accepts_only_the_backends_and_sizes_it_lists() -> None:
    assert admitted(backends=frozenset({"smpc", "ckks"})) is SPEC
    with pytest.raises(Aborted, match="backend 'smpc' is not among those this site accepts"):
        admitted(backends=frozenset({"ckks"}))
    assert admitted(max_parameters=100) is SPEC
    with pytest.raises(Aborted, match="100 parameters, this site allows 99"):
        admitted(max_parameters=99)


@pytest.mark.parametrize("fields", [{"minimum_kohort": 3}, {"max_colluders": -1}, {"max_parameters": 0}])
def test_a_policy_is_read_strictly_and_frozen(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Policy(**fields)
    with pytest.raises(ValidationError):
        Policy().minimum_cohort = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": {"aggregators": 3, "suite": "aes128ctr"}},
        {"parameters": {"aggregators": 3}},
        {"parameters": {}},
        {"backend": "plain"},
        {"backend": "dp+smpc"},
    ],
)
def test_t8_a_spec_for_another_backend_or_other_parameters_aborts(change: dict[str, Any]) -> None:
    with pytest.raises(Aborted, match="another backend, or other parameters, than this site's 'smpc'"):
        admitted(changed(**change))
