"""The imprint block, trap weights and dead layers: what comes out, and which models they do not fit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from secagg.errors import Refused
from secagg.leakage.attack import Unsupported
from secagg.leakage.client import observe
from secagg.leakage.malicious.client_kernels import ClientKernels
from secagg.leakage.malicious.imprint import Imprint, ImprintBlock, cuts_of, expected_hit_rate, hits, recover_imprints
from secagg.leakage.malicious.inconsistency import with_dead_layer
from secagg.leakage.malicious.trap_weights import recover_trapped, set_traps
from secagg.leakage.metrics import match, psnr

SHAPE = (1, 5, 5)


def images(count: int, seed: int) -> torch.Tensor:
    chance = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 1, 1, generator=chance) * torch.rand(count, *SHAPE, generator=chance)


def classifier(inputs: int = 25) -> list[nn.Module]:
    torch.manual_seed(3)
    return [nn.Flatten(), nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, 4)]


@pytest.mark.parametrize("clients", [1, 2, 8, 16])
def test_an_imprint_comes_out_of_a_sum_as_often_as_the_formula_says(clients: int) -> None:
    bins = 16
    model = nn.Sequential(ImprintBlock(SHAPE, cuts_of(images(4000, 0), bins)), *classifier())
    everybody = images(480, 1)
    found = 0
    for start in range(0, 480, clients):
        batch = everybody[start : start + clients]
        gradients = [observe(model, image[None], torch.tensor([start % 4])).gradient for image in batch]
        weight, bias = (torch.stack([g[part] for g in gradients]).sum(0) for part in (0, 1))
        found += int(hits(recover_imprints(weight, bias, shape=SHAPE), batch).sum())
    assert found / 480 == pytest.approx(expected_hit_rate(bins, clients), abs=0.1)


def test_the_imprint_attack_on_an_observation() -> None:
    model = nn.Sequential(ImprintBlock(SHAPE, cuts_of(images(500, 0), 64)), *classifier())
    batch = images(3, 5)
    seen = observe(model, batch, torch.tensor([0, 1, 2]))
    guess = Imprint()(seen, seed=0)
    assert psnr(guess.images[match(guess.images, batch)], batch).min() > 60
    assert guess.images.shape == batch.shape
    plain = nn.Sequential(*classifier())
    with pytest.raises(Unsupported, match="no ImprintBlock"):
        Imprint()(observe(plain, batch, torch.tensor([0, 1, 2])), seed=0)


def test_the_imprint_block_lets_the_input_through() -> None:
    block = ImprintBlock(SHAPE, cuts_of(images(100, 0), 8), strength=0.0)
    batch = images(4, 2)
    assert torch.equal(block(batch), batch)


@pytest.mark.parametrize("cuts", [torch.zeros(1), torch.tensor([0.2, 0.1])])
def test_cuts_that_are_no_bins_are_refused(cuts: torch.Tensor) -> None:
    with pytest.raises(Refused, match="expected at least 2, ascending"):
        ImprintBlock(SHAPE, cuts)


def test_more_bins_than_public_inputs_are_refused() -> None:
    with pytest.raises(Refused, match="9 bins and 8 public inputs"):
        cuts_of(images(8, 0), 9)


def test_trap_weights_hold_more_inputs_than_ordinary_ones() -> None:
    from sklearn.datasets import load_digits

    batch = torch.from_numpy(load_digits().images[:100, None] / 16).float()
    found = {}
    for trapped in (True, False):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 500), nn.ReLU(), nn.Linear(500, 4))
        if trapped:
            set_traps(model[1], scale=0.7, generator=torch.Generator().manual_seed(1))
        gradient = observe(model, batch, torch.arange(100) % 4).gradient
        found[trapped] = int(hits(recover_trapped(gradient[0], gradient[1]).view(-1, 1, 8, 8), batch).sum())
    assert found[True] > 15
    assert found[True] > 1.5 * found[False]


@pytest.mark.parametrize("layer", [nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Conv2d(1, 4, 3)])
def test_trap_weights_need_a_linear_layer_with_a_bias(layer: nn.Module) -> None:
    with pytest.raises(Unsupported, match=f"{layer.__class__.__name__} given"):
        set_traps(layer, generator=torch.Generator())


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        ("9", "no layer '9'"),
        ("0", "layer '0' is Flatten"),
        ("3", "no ReLU follows layer '3'"),
    ],
)
def test_a_layer_that_cannot_be_dead_is_named(layer: str, why: str) -> None:
    with pytest.raises(Unsupported, match=why):
        with_dead_layer(nn.Sequential(*classifier()), layer)


def test_a_dead_layer_leaves_the_model_alone() -> None:
    model = nn.Sequential(*classifier())
    before = model[1].weight.clone()
    dead = with_dead_layer(model, "1")
    assert torch.equal(model[1].weight, before)
    assert not dead[2](dead[1](dead[0](images(5, 1)))).any()


def test_client_kernels_refuse_a_slot_or_shape_that_is_none() -> None:
    cuts = cuts_of(images(100, 0), 8)
    with pytest.raises(Refused, match="slot 4 of 4"):
        ClientKernels(SHAPE, cuts, slot=4, slots=4)
    with pytest.raises(Refused, match="expected \\(channels, height, width\\)"):
        ClientKernels((25,), cuts, slot=0, slots=4)
