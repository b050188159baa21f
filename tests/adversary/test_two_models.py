"""T7: a server that shows one client another model than all the others, against naive masking and every backend."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from secagg.errors import Aborted
from secagg.fixedpoint import FixedPoint
from secagg.leakage.client import observe
from secagg.leakage.malicious.client_kernels import ClientKernels, recover_by_client
from secagg.leakage.malicious.imprint import cuts_of, hits
from secagg.leakage.malicious.inconsistency import isolated, with_dead_layer
from secagg.leakage.recording import record
from tests.adversary.naive_masking import masked_sum
from tests.adversary.two_models import TwoModels

VICTIM = "site-2"
SHAPE = (1, 4, 4)


def gradient(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    return torch.cat([part.flatten() for part in observe(model, images, labels).gradient]).numpy()


def attacked() -> tuple[nn.Sequential, dict[str, np.ndarray], np.ndarray]:
    """A model, five updates of which the victim's alone comes from it, and the victim's gradient of layer "1"."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    dead = with_dead_layer(model, "1")
    images, labels = torch.rand(5, *SHAPE), torch.tensor([0, 1, 2, 0, 1])
    updates = {
        f"site-{place}": 0.1
        * gradient(model if f"site-{place}" == VICTIM else dead, images[place : place + 1], labels[place : place + 1])
        for place in range(5)
    }
    truth = isolated(updates[VICTIM].astype(np.float64), model, "1")
    assert np.abs(truth).max() > 1e-3
    return model, updates, truth


def test_a_dead_layer_leaves_the_victims_gradient_alone_in_the_sum() -> None:
    model, updates, truth = attacked()
    for name, vector in updates.items():
        if name != VICTIM:
            assert not isolated(vector.astype(np.float64), model, "1").any()
    assert (isolated(sum(updates.values()).astype(np.float64), model, "1") == truth).all()


def test_naive_masking_gives_the_victim_away_and_with_the_model_bound_it_does_not() -> None:
    model, updates, truth = attacked()
    encoding = FixedPoint.fit(clients=5, value_bound=1.0)
    shown = {name: b"model" if name == VICTIM else b"dead" for name in updates}
    naive = isolated(masked_sum(updates, shown, encoding), model, "1")
    np.testing.assert_allclose(naive, truth, atol=5 / encoding.scale)
    bound = isolated(masked_sum(updates, shown, encoding, bind=True), model, "1")
    assert abs(np.corrcoef(bound, truth)[0, 1]) < 0.5
    assert np.abs(bound - truth).max() > 0.1


@pytest.mark.parametrize("name", ["secaggplus", "smpc", "ckks verified", "bfv verified"])
def test_t7_a_client_with_another_model_is_in_no_sum(name: str) -> None:
    model, updates, _ = attacked()
    attack = TwoModels(name, updates, victim=VICTIM)
    total = attack.run()
    assert not isolated(total, model, "1").any()
    assert "another spec" in attack.noticed


@pytest.mark.parametrize("name", ["plain", "ckks", "bfv", "bfv shared key"])
def test_t7_passive_encryption_does_not_notice_and_says_so(name: str) -> None:
    model, updates, truth = attacked()
    attack = TwoModels(name, updates, victim=VICTIM)
    np.testing.assert_allclose(isolated(attack.run(), model, "1"), truth, atol=1e-4)
    assert attack.noticed == "nobody refused anything"


def test_t7_kernels_for_each_client_keep_them_apart_in_a_naive_sum_and_end_a_bound_round() -> None:
    torch.manual_seed(1)
    cuts = cuts_of(torch.rand(200, *SHAPE), 32)
    names = [f"client-{place}" for place in range(4)]
    models = [
        nn.Sequential(ClientKernels(SHAPE, cuts, slot=place, slots=4), nn.Flatten(), nn.Linear(16, 3))
        for place in range(4)
    ]
    images = torch.rand(4, 1, *SHAPE)
    updates = {
        name: gradient(model, images[place], torch.tensor([place % 3]))
        for place, (name, model) in enumerate(zip(names, models, strict=True))
    }
    bound = max(float(np.abs(vector).max()) for vector in updates.values())
    shown = {name: name.encode() for name in names}
    for bind, found in ((False, True), (True, False)):
        total = masked_sum(updates, shown, FixedPoint.fit(clients=4, value_bound=bound), bind=bind)
        start = sum(p.numel() for n, p in models[0].named_parameters() if n.startswith("0.copies"))
        weight = torch.from_numpy(total[start : start + models[0][0].bins.weight.numel()]).view(32, -1)
        recovered = recover_by_client(weight, shape=SHAPE, slots=4)
        assert all(bool(hits(candidates, image)) is found for candidates, image in zip(recovered, images, strict=True))
    with pytest.raises(Aborted, match="minimum cohort"):
        record("secaggplus", updates, shown=shown)
