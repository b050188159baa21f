"""A server that chooses the model, against sums: `python -m benchmarks.leakage.malicious_server` (about a minute).

Images are the embedded digits, 8x8, one half for the server's bins, the other for the clients. Sums are opened by real
sessions. Four tables: the imprint block's hit rate on sums of n clients beside (1 - 1/bins)^(n-1); trap weights on one
client's batch; kernels for each client; model inconsistency against each backend.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fl_runtime.data import digits
from secagg.errors import Aborted
from secagg.fixedpoint import FixedPoint
from secagg.leakage.attack import generator
from secagg.leakage.client import observe
from secagg.leakage.intervals import share_interval
from secagg.leakage.malicious.client_kernels import ClientKernels, recover_by_client
from secagg.leakage.malicious.imprint import ImprintBlock, cuts_of, expected_hit_rate, hits, recover_imprints
from secagg.leakage.malicious.inconsistency import isolated, with_dead_layer
from secagg.leakage.malicious.trap_weights import recover_trapped, set_traps
from secagg.leakage.recording import record
from tests.adversary.naive_masking import masked_sum
from tests.adversary.two_models import TwoModels

SHAPE = (1, 8, 8)
BACKEND = "secaggplus"
Flat = NDArray[np.float32]


def images_and_labels() -> tuple[Tensor, Tensor]:
    """All digits, shuffled: images `(1797, 1, 8, 8)` in [0, 1] and their labels."""
    rows = digits.load()
    images = torch.cat([torch.from_numpy(part.features) for part in (rows.train, rows.test)])
    labels = torch.cat([torch.from_numpy(part.labels) for part in (rows.train, rows.test)])
    order = torch.randperm(len(images), generator=generator(0, "order"))
    return images[order], labels[order]


def classifier(seed: int, *, width: int = 32) -> nn.Sequential:
    """A small model behind the server's front."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def update(model: nn.Module, images: Tensor, labels: Tensor) -> Flat:
    """The gradient that a client sends, flat."""
    gradient = observe(model, images, labels).gradient
    return torch.cat([part.flatten() for part in gradient]).numpy()


def parts(total: NDArray[np.float64], model: nn.Module) -> dict[str, Tensor]:
    """A flat sum as named tensors."""
    named, start = {}, 0
    for name, parameter in model.named_parameters():
        piece = total[start : start + parameter.numel()]
        named[name] = torch.from_numpy(piece).view_as(parameter)
        start += parameter.numel()
    return named


def secure_sum(updates: Sequence[Flat]) -> NDArray[np.float64]:
    """The sum that the server opens; below the minimum cohort, clients that collude with it send zeros."""
    vectors = {f"client-{place:02}": vector for place, vector in enumerate(updates)}
    for place in range(len(updates), 3):
        vectors[f"client-{place:02}"] = np.zeros_like(updates[0])
    result = record(BACKEND, vectors).outcome.result
    return result.encoding.to_floats(result.totals)


def imprint_on_sums(images: Tensor, labels: Tensor) -> None:
    public, private = images[:900], images[900:]
    print(f"imprint block on sums by {BACKEND}: share of images that come out at 30 dB and more\n")
    print("bins  clients  measured              (1-1/bins)^(n-1)  difference")
    for bins in (16, 128):
        block = ImprintBlock(SHAPE, cuts_of(public, bins))
        model = nn.Sequential(block, *classifier(1))
        chance = generator(bins, "clients")
        for clients in (1, 2, 8, 16):
            found = tried = 0
            for _ in range(max(12, 240 // clients)):
                chosen = torch.randperm(len(private), generator=chance)[:clients]
                total = secure_sum([update(model, private[[i]], labels[900:][[i]]) for i in chosen.tolist()])
                named = parts(total, model)
                candidates = recover_imprints(named["0.bins.weight"], named["0.bins.bias"], shape=SHAPE)
                found += int(hits(candidates, private[chosen]).sum())
                tried += clients
            share, expected = share_interval(found, tried), expected_hit_rate(bins, clients)
            print(
                f"{bins:4}  {clients:7}  {share.value:.3f} [{share.low:.3f}, {share.high:.3f}]  "
                f"{expected:16.3f}  {share.value - expected:+.3f}"
            )


def traps(images: Tensor, labels: Tensor) -> None:
    print("\ntrap weights, 1000 neurons, one client's batch: share of images that come out at 30 dB and more\n")
    print("scale  batch  measured")
    for scale in (0.99, 0.9, 0.7):
        for batch in (20, 100):
            found = tried = 0
            for seed in range(5):
                torch.manual_seed(seed)
                model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1000), nn.ReLU(), nn.Linear(1000, 10))
                set_traps(model[1], scale=scale, generator=generator(seed, "traps"))
                chosen = torch.randperm(len(images), generator=generator(seed, batch))[:batch]
                seen = observe(model, images[chosen], labels[chosen]).gradient
                candidates = recover_trapped(seen[0], seen[1]).view(-1, *SHAPE)
                found += int(hits(candidates, images[chosen]).sum())
                tried += batch
            share = share_interval(found, tried)
            print(f"{scale:5}  {batch:5}  {share.value:.3f} [{share.low:.3f}, {share.high:.3f}]")


def kernels_for_each_client(images: Tensor, labels: Tensor) -> None:
    clients, batch = 8, 4
    cuts = cuts_of(images[:900], 64)
    fronts = {
        f"client-{place}": nn.Sequential(ClientKernels(SHAPE, cuts, slot=place, slots=clients), *classifier(2))
        for place in range(clients)
    }
    data = {name: slice(900 + batch * place, 900 + batch * (place + 1)) for place, name in enumerate(fronts)}
    updates = {name: update(model, images[data[name]], labels[data[name]]) for name, model in fronts.items()}
    bound = max(float(np.abs(vector).max()) for vector in updates.values())
    encoding = FixedPoint.fit(clients=clients, value_bound=bound)
    shown = {name: name.encode() for name in fronts}
    print(f"\nkernels for each client: {clients} clients, batches of {batch}, which images come out, and whose\n")
    for title, bind in (("naive masking", False), ("naive masking, model bound", True)):
        total = masked_sum(updates, shown, encoding, bind=bind)
        model = fronts["client-0"]
        recovered = recover_by_client(parts(total, model)["0.bins.weight"], shape=SHAPE, slots=clients)
        found = sum(
            int(hits(candidates, images[data[name]]).sum()) for name, candidates in zip(fronts, recovered, strict=True)
        )
        print(f"{title:28} {found} of {clients * batch} (expected {expected_hit_rate(64, batch):.2f} where it works)")
    print(f"{BACKEND:28} {_attempt(lambda: _own_round(updates, shown))}")


def _own_round(updates: Mapping[str, Flat], shown: Mapping[str, bytes]) -> str:
    kept = record(BACKEND, updates, shown=shown)
    return f"a sum of {len(kept.outcome.result.contributors)}"


def _attempt(action: Callable[[], str]) -> str:
    try:
        return action()
    except Aborted as error:
        return f"no sum: {str(error)[:110]}"


def inconsistency(images: Tensor, labels: Tensor) -> None:
    clients, layer, victim = 5, "1", "site-2"
    model = classifier(3, width=64)
    dead = with_dead_layer(model, layer)
    updates = {
        f"site-{place}": update(model if f"site-{place}" == victim else dead, images[[place]], labels[[place]])
        for place in range(clients)
    }
    truth = isolated(updates[victim].astype(np.float64), model, layer)
    shown = {name: b"model" if name == victim else b"dead" for name in updates}
    bound = 1.01 * max(float(np.abs(vector).max()) for vector in updates.values())
    updates = {name: vector / np.float32(bound) for name, vector in updates.items()}
    truth = truth / bound
    print(
        f"\nmodel inconsistency, {clients} clients, all but one with a dead layer: the one's gradient of that layer\n"
    )

    def verdict(total: NDArray[np.float64]) -> str:
        found = isolated(total, model, layer)
        error = float(np.abs(found - truth).max() / np.abs(truth).max())
        columns = model[1].weight.numel()
        rows, biases = torch.from_numpy(found[:columns]).view(-1, 64), torch.from_numpy(found[columns:])
        image = bool(hits(recover_trapped(rows, biases).view(-1, *SHAPE), images[[2]]).all())
        return f"relative error {error:.1e}, the image {'comes out' if image else 'does not come out'}"

    encoding = FixedPoint.fit(clients=clients, value_bound=1.0)
    for title, bind in (("naive masking", False), ("naive masking, model bound", True)):
        print(f"{title:28} {verdict(masked_sum(updates, shown, encoding, bind=bind))}")
    for name in ("plain", "secaggplus", "smpc", "ckks", "ckks verified", "bfv", "bfv verified"):
        attack = TwoModels(name, updates, victim=victim)
        print(f"{name:28} {_attempt(lambda: verdict(attack.run()))}")  # noqa: B023 - called at once
        print(f"{'':28} {attack.noticed}")


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    images, labels = images_and_labels()
    imprint_on_sums(images, labels)
    traps(images, labels)
    kernels_for_each_client(images, labels)
    inconsistency(images, labels)


if __name__ == "__main__":
    main()
