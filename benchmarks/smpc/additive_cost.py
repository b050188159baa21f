"""All parties of `smpc` together against generating their streams alone.

    python -m benchmarks.smpc.additive_cost [--params N] [--clients C] [--aggregators K] [--threshold T] [--repeat R]

Raw streams: every client makes one for each share, and every helper that holds the share makes it again. CPU seconds of
one core.
"""

from __future__ import annotations

import argparse
import statistics
import time

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from secagg.bench import Workload, run_bench
from secagg.registry import build
from smpc.additive.replication import Replication

CHUNK = 1 << 18


def raw(suite: str, params: int, streams: int) -> float:
    """CPU seconds to make so many streams of `params` words of 32 bits, and to drop them."""
    zeros, buffer = bytes(CHUNK), bytearray(CHUNK + 15)
    started = time.process_time()
    for _ in range(streams):
        if suite == "chacha20":
            stream = Cipher(algorithms.ChaCha20(bytes(32), bytes(16)), mode=None).encryptor()
        else:
            stream = Cipher(algorithms.AES(bytes(int(suite[3:6]) // 8)), modes.CTR(bytes(16))).encryptor()
        for start in range(0, 4 * params, CHUNK):
            stream.update_into(memoryview(zeros)[: min(CHUNK, 4 * params - start)], buffer)
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--params", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--aggregators", type=int, default=3)
    parser.add_argument("--threshold", type=int, default=None)
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    workload = Workload(options.params, options.clients)
    parameters = {"aggregators": options.aggregators, "threshold": options.threshold or options.aggregators}
    sharing = Replication(map(str, range(1, options.aggregators)), parameters["threshold"])
    streams = options.clients * sum(1 + len(holders) for holders in sharing.holders)
    for suite in ("chacha20", "aes128ctr"):
        composition = build("smpc", parameters | {"suite": suite})
        rows = []
        for _ in range(options.repeat):
            alone = raw(suite, options.params, streams)
            report = run_bench(composition, workload)
            clients = options.clients * report.client.protect_cpu_s
            rows.append((alone, clients, report.helpers.total_cpu_s, report.server.total_cpu_s))
        alone, clients, helpers, server = (statistics.median(column) for column in zip(*rows, strict=True))
        whole = clients + helpers + server
        print(
            f"{suite}: streams alone {alone * 1e3:.1f} ms; clients {clients * 1e3:.1f}, helpers {helpers * 1e3:.1f}, "
            f"server {server * 1e3:.1f}: {whole * 1e3:.1f} ms, {whole / alone:.2f} x"
        )


if __name__ == "__main__":
    main()
