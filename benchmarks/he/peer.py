"""The peer: how NVFlare aggregates with CKKS, once through TenSEAL's public API and once through its own filters.

Its parameters: degree 8192, primes 60-40-40 bits, scale 2^40, symmetric encryption under one key that all clients
share, one `ckks_vector` a layer, weighed by the client before encryption, divided by the total weight at the server.
It has no authentication, no key roles and no encoding. The filters carry, with every vector, the context again.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from secagg.bench import Workload


@dataclass
class PeerFigures:
    """Seconds of CPU, bytes and the error of the mean of one round."""

    protect: list[float] = field(default_factory=list)
    server: float = 0.0
    reveal: float = 0.0
    upload: int = 0
    download: int = 0
    error: float = 0.0


@dataclass
class PeerPath:
    """What a round is made of; what travels is bytes. `add` begins with a total of None."""

    protect: Callable[[np.ndarray, int], bytes]
    load: Callable[[bytes], Any]
    add: Callable[[Any, Any], Any]
    finish: Callable[[Any, int], bytes]
    reveal: Callable[[bytes], np.ndarray]


def recreated() -> PeerPath:
    """The peer's calls on TenSEAL's public API, and nothing around them."""
    import tenseal as ts

    context, public = _contexts()

    def add(total: Any, received: Any) -> Any:
        if total is None:
            return received
        total += received
        return total

    def finish(total: Any, weights: int) -> bytes:
        total *= 1.0 / weights
        return total.serialize()

    return PeerPath(
        protect=lambda vector, weight: ts.ckks_vector(context, vector * np.float64(weight)).serialize(),
        load=lambda upload: ts.ckks_vector_from(public, upload),
        add=add,
        finish=finish,
        reveal=lambda download: np.array(ts.ckks_vector_from(context, download).decrypt()),
    )


def filters() -> PeerPath | None:
    """The filters, aggregation helper and serialisation of NVFlare itself; None where it is not installed."""
    try:
        from nvflare.apis.fl_context import FLContext
        from nvflare.app_common.aggregators.weighted_aggregation_helper import WeightedAggregationHelper
        from nvflare.app_opt.he.model_decryptor import HEModelDecryptor
        from nvflare.app_opt.he.model_encryptor import HEModelEncryptor
        from nvflare.fuel.utils import fobs
    except ImportError:
        return None
    logging.disable(logging.CRITICAL)
    nobody = FLContext()
    context, _ = _contexts()
    encryptor, decryptor = HEModelEncryptor(weigh_by_local_iter=True), HEModelDecryptor()
    decryptor.tenseal_context = encryptor.tenseal_context = context
    helper = WeightedAggregationHelper(weigh_by_local_iter=False)

    def protect(vector: np.ndarray, weight: int) -> bytes:
        encryptor.encrypt_layers, encryptor.n_iter = [True], weight
        return fobs.dumps(encryptor.encryption({"layer": vector}, nobody)[0])

    def add(total: Any, received: Any) -> Any:
        if total is None:
            helper.reset_stats()
        helper.add(received, 1.0, "a client", 0)
        return helper

    def finish(total: Any, weights: int) -> bytes:
        total.counts = {"layer": float(weights)}
        return fobs.dumps(total.get_result())

    def reveal(download: bytes) -> np.ndarray:
        opened = decryptor.decryption(fobs.loads(download), {"layer": True}, nobody)
        return np.array(opened["layer"])

    return PeerPath(protect, fobs.loads, add, finish, reveal)


def run_peer(path: PeerPath, workload: Workload) -> PeerFigures:
    """One round: every client encrypts and serialises, the server loads, adds and divides, one client decrypts."""
    figures = PeerFigures()
    total, weights, reference = None, 0, np.zeros(workload.params)
    with _quiet():
        for name in workload.names():
            vector, weight = workload.contribution(name, uniform_weights=False)
            reference += vector.astype(np.float64) * weight
            weights += weight
            started = time.process_time()
            upload = path.protect(vector, weight)
            figures.protect.append(time.process_time() - started)
            figures.upload = len(upload)
            started = time.process_time()
            total = path.add(total, path.load(upload))
            figures.server += time.process_time() - started
        started = time.process_time()
        download = path.finish(total, weights)
        figures.server += time.process_time() - started
        figures.download = len(download)
        started = time.process_time()
        opened = path.reveal(download)
        figures.reveal = time.process_time() - started
    figures.error = float(np.abs(opened - reference / weights).max())
    return figures


def _contexts() -> tuple[Any, Any]:
    """The context with the secret key, which every client has, and the server's without it."""
    import tenseal as ts

    context = ts.context(ts.SCHEME_TYPE.CKKS, 8192, -1, [60, 40, 40], ts.ENCRYPTION_TYPE.SYMMETRIC)
    context.global_scale = 2.0**40
    public = ts.context_from(context.serialize(save_secret_key=False, save_galois_keys=False))
    return context, public


@contextmanager
def _quiet() -> Iterator[None]:
    """TenSEAL's native code warns on stdout about every long vector."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
