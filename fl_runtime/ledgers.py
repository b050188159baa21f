"""The sites' ledgers, as the local engine simulates them: a file for each site, and one for the witness.

Each site pays from its own ledger before it trains, in every round, and leaves the round where its budget does not
allow it (`dp.ledger`). The server is the witness, if it is given a file (`dp.witness`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dp.accountant import ACCOUNTANT, Charge
from dp.book import Budget, Head
from dp.ledger import Ledger
from dp.witness import Witness, open_head
from fl_runtime.engines.local import LocalEngine
from fl_runtime.experiment import Experiment
from secagg.errors import Aborted, Refused, Rejected, VerificationFailed
from secagg.identity import PartyId, PublicIdentity
from secagg.protocol import Training
from secagg.registry import Composition


class Ledgers:
    """One ledger a site, and what each round costs.

    Args:
        ledgers: by site.
        budget: what the site grants its population.
        charges: what one round costs each unit of it, by site.
        run: the run's identifier, hex.
        witness: with the identity under which the sites know it, or None.
    """

    def __init__(
        self,
        ledgers: Mapping[PartyId, Ledger],
        *,
        budget: Budget,
        charges: Mapping[PartyId, Charge],
        run: str,
        witness: tuple[Witness, PublicIdentity] | None,
    ) -> None:
        self._ledgers, self._budget, self._charges, self._run = ledgers, budget, charges, run
        self._witness = witness

    def spend(self, site: PartyId, round_number: int) -> None:
        """Pay for a round from the ledger of `site`. When this returns, its update may be made, and leave.

        Raises:
            Aborted: the budget does not allow it, or the ledger was rolled back, spoilt, or cannot be written. The
                site leaves the round.
        """
        try:
            if self._witness is None:
                self._charge_round(site, round_number)
                return
            witness, known = self._witness
            shown = witness.show(site, run=self._run, round_number=round_number)
            self._ledgers[site].heed(open_head(shown, known, site=site, run=self._run, round_number=round_number))
            witness.note(site, self._charge_round(site, round_number))
        except (Refused, Rejected, VerificationFailed) as error:
            raise Aborted(str(error)) from None

    def _charge_round(self, site: PartyId, round_number: int) -> Head:
        ledger = self._ledgers[site]
        return ledger.spend(self._charges[site], budget=self._budget, run=self._run, round_number=round_number)

    def facts(self) -> dict[str, Any]:
        """For the data sheet: the budget, and the most that a site has spent of it, in this run and those before."""
        return {
            **self._budget.model_dump(),
            "sites": len(self._ledgers),
            "spent": max(ledger.epsilon(self._budget) for ledger in self._ledgers.values()),
            "witness": self._witness is not None,
            "rolled_back_disk": "found by the witness, if its file is on another disk"
            if self._witness is not None
            else "not protected",
        }


def open_ledgers(
    experiment: Experiment, composition: Composition, engine: LocalEngine, rows: Mapping[PartyId, int]
) -> Ledgers | None:
    """The ledgers that the experiment asks for, or None. `rows` has every site's number of rows to train on.

    Raises:
        Refused: the backend claims no privacy that could be charged, or a file cannot be opened.
        VerificationFailed: a ledger was altered.
    """
    privacy = experiment.privacy
    if privacy.ledger is None or privacy.ledger_epsilon is None:
        return None
    spent = composition.spent(1)
    if spent is None:
        raise Refused(f"privacy.ledger: {privacy.backend!r} claims no differential privacy, there is nothing to charge")
    charges = {
        site: _round_charge(experiment, composition.training, spent, site, count) for site, count in rows.items()
    }
    budget = Budget(
        population=privacy.ledger_population or experiment.data.dataset,
        epsilon=privacy.ledger_epsilon,
        delta=privacy.ledger_delta or 1e-5,
        unit=spent["unit"],
    )
    witness = None
    if privacy.ledger_witness is not None:
        witness = Witness(Path(privacy.ledger_witness), engine.server), engine.server.public
    folder = Path(privacy.ledger)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Refused(f"privacy.ledger: {folder}: cannot make the folder: {error.strerror}") from None
    return Ledgers(
        {site: Ledger(folder / f"{site}.ledger", site) for site in rows},
        budget=budget,
        charges=charges,
        run=engine.run,
        witness=witness,
    )


def _round_charge(
    experiment: Experiment, training: Training | None, spent: Mapping[str, Any], site: PartyId, rows: int
) -> Charge:
    """What one round costs each unit of the site's data."""
    if training is not None:
        settings = experiment.training
        steps = settings.steps(rows)
        return Charge(**training.charge(rows=rows, batch_size=settings.batch_size, steps=steps, owner=site))
    if spent["accountant"] != ACCOUNTANT:
        raise Refused(
            f"privacy.ledger: ledgers add up by {ACCOUNTANT}, and this noise has none; mechanism = 'gaussian' has"
        )
    # Whoever sees the roster knows who took part: a round is charged in full.
    return Charge(spent["noise_multiplier"])
