"""10M parameters, 100 clients, homomorphic encryption: does the server stay within 1.5 GiB?

    python -m benchmarks.he.scale [--params N] [--clients C] [--cap MIB] [--only LABEL]

Every role has processes of its own, with production sessions and keys; frames cross sockets. The server's memory is
the peak of its process and its workers. Each client has a vector of its own, and the sum is compared with the sum of
the encodings in every coordinate. Exits with 1 if one differs, or a peak passes the cap. Takes some ten minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.he.against_peer import OURS
from he.key_setup import HOLDER
from secagg.bench import Workload, encoding_for, peak_rss_mib
from secagg.cores import cpu_s
from secagg.driver import Driver
from secagg.identity import SERVER, Directory, Identity, PartyId
from secagg.protocol import Backend, Party, Send, Session
from secagg.registry import build
from secagg.spec import RoundSpec, task_digest
from secagg.vectors import Layout

CAP_MIB = 1536
LABELS = ("ckks, key holder, flooded", "bfv, key holder", "ckks, shared key")
PLANTS = 2  # processes that play the clients
HEAD = struct.Struct(">64sQ")  # who a frame is from, or for, and how long it is


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--params", type=int, default=10_000_000)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--cap", type=float, default=CAP_MIB)
    parser.add_argument("--only", choices=OURS, action="append")
    parser.add_argument("--role", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        role, folder, sockets = options.role
        ROLES[role.split(":")[0]](Kit(Path(folder)), role, [socket.socket(fileno=int(n)) for n in sockets.split(",")])
        return
    print(f"{options.params:,} parameters, {options.clients} clients; the server's part, MiB and seconds")
    print(f"{'':28}{'peak':>8}{'of it idle':>12}{'CPU':>8}{'round':>8}  sum")
    failed = False
    for label in options.only or LABELS:
        with tempfile.TemporaryDirectory() as folder:
            figures = _round(label, Workload(options.params, options.clients), Path(folder))
        failed = failed or not figures["exact"] or figures["peak_mib"] > options.cap
        print(
            f"{label:28}{figures['peak_mib']:8.0f}{figures['idle_mib']:12.0f}{figures['cpu_s']:8.1f}"
            f"{figures['wall_s']:8.0f}  {'exact' if figures['exact'] else 'WRONG'}",
            flush=True,
        )
    sys.exit(1 if failed else 0)


def _round(label: str, workload: Workload, folder: Path) -> dict[str, Any]:
    """Set up here, hand out what each party must have, start them, and compare what came of it."""
    name, parameters = OURS[label]
    backend = build(name, parameters).backend
    names = workload.names()
    driver = Driver(backend, names)
    layout, encoding = Layout.flat(workload.params), encoding_for(backend, workload.clients)
    driver.set_up(layout=layout, encoding=encoding)
    spec = driver.spec(1, layout=layout, encoding=encoding, task=task_digest(b"scale"))
    for party, identity in driver.identities.items():
        identity.save(folder / f"{party}.key")
        (folder / f"{party}.setup").write_bytes(driver._setup[party])
    (folder / "spec").write_bytes(spec.to_bytes())
    (folder / "directory").write_bytes(driver.directory.to_bytes())
    (folder / "workload").write_text(json.dumps([label, workload.params, workload.clients]))
    started = time.perf_counter()
    ends = [socket.socketpair() for _ in range(PLANTS + 1)]
    with _started("server", folder, [end for end, _ in ends]) as server:
        others = [_started(f"plant:{number}", folder, [ends[number][1]]) for number in range(PLANTS)]
        others.append(_started("holder", folder, [ends[PLANTS][1]]))
        for pair in ends:
            for end in pair:
                end.close()
        if server.wait() or any(other.wait() for other in others):
            sys.exit(f"{label}: a party failed")
    wall = time.perf_counter() - started
    expected = sum(np.load(folder / f"plant:{number}.npy") for number in range(PLANTS))
    exact = all(np.array_equal(np.load(path), expected) for path in folder.glob("result-*.npy"))
    figures = json.loads((folder / "figures").read_text())
    return figures | {"wall_s": wall, "exact": exact and any(folder.glob("result-*.npy"))}


def _started(role: str, folder: Path, sockets: list[socket.socket]) -> subprocess.Popen[bytes]:
    numbers = [end.fileno() for end in sockets]
    command = [sys.executable, "-m", "benchmarks.he.scale", "--role", role, str(folder), ",".join(map(str, numbers))]
    return subprocess.Popen(command, pass_fds=numbers)


class Kit:
    """What the parties of a folder have: the spec, everybody's public keys, and each its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        label, params, clients = json.loads((folder / "workload").read_text())
        self.workload = Workload(params, clients)
        self.spec = RoundSpec.from_bytes((folder / "spec").read_bytes())
        name, parameters = OURS[label]
        self.backend: Backend = build(name, parameters).backend
        self.directory = Directory.from_bytes((folder / "directory").read_bytes())

    def session(self, name: PartyId) -> Session:
        party = Party(name, Identity.load(self.folder / f"{name}.key"), self.directory, os.urandom)
        return self.backend.session(self.spec, party, setup=(self.folder / f"{name}.setup").read_bytes())

    def keep(self, name: str, session: Session) -> None:
        assert session.result is not None
        np.save(self.folder / f"result-{name}.npy", session.result.totals.astype(np.int64))


@dataclass
class Link:
    """Frames over a socket, each with a name: the sender's, or towards a process of many the receiver's."""

    end: socket.socket

    def send(self, name: PartyId, frame: bytes | memoryview) -> None:
        self.end.sendall(HEAD.pack(name.encode(), len(frame)))
        self.end.sendall(frame)

    def receive(self) -> tuple[PartyId, memoryview] | None:
        """The next frame, in memory of its own; None once the other side is done."""
        head = self.end.recv(HEAD.size, socket.MSG_WAITALL)
        if not head:
            return None
        name, length = HEAD.unpack(head)
        frame = memoryview(bytearray(length))
        read = 0
        while read < length:
            read += self.end.recv_into(frame[read:])
        return name.rstrip(b"\0").decode(), frame


def serve(kit: Kit, role: str, ends: list[socket.socket]) -> None:
    """The server: what it takes in memory is what this benchmark is about."""
    *plants, holder = (Link(end) for end in ends)
    session = kit.session(SERVER)
    idle = peak_rss_mib()
    started = cpu_s()

    def deliver(sends: Iterator[Send]) -> None:
        for send in sends:
            number = None if send.to == HOLDER else int(send.to.removeprefix("client-")) % PLANTS
            link = holder if number is None else plants[number]
            link.send(send.to, send.frame)

    deliver(iter(session.start()))
    waiting = selectors.DefaultSelector()
    for link in (*plants, holder):
        waiting.register(link.end, selectors.EVENT_READ, link)
    while session.waiting:
        for key, _ in waiting.select():
            arrived = key.data.receive()
            if arrived is None:
                waiting.unregister(key.fileobj)
                continue
            deliver(iter(session.receive(*arrived)))
            del arrived  # before the next one takes memory
    figures = {"peak_mib": peak_rss_mib(), "idle_mib": idle, "cpu_s": cpu_s() - started}
    (kit.folder / "figures").write_text(json.dumps(figures))
    if session.result is not None:
        kit.keep(SERVER, session)


def contribute(kit: Kit, role: str, ends: list[socket.socket]) -> None:
    """Every so many-th client: one vector at a time; under a shared key the first of them opens the sum too."""
    number = int(role.partition(":")[2])
    link = Link(*ends)
    encoding = kit.spec.encoding
    total = np.zeros(kit.workload.params, np.int64)
    opener: Session | None = None
    for name in kit.workload.names()[number::PLANTS]:
        session = kit.session(name)
        list(session.start())
        integers = encoding.encode(*kit.workload.contribution(name, uniform_weights=False)).integers
        total += integers[: total.size]
        for send in session.contribute_integers(integers):
            link.send(name, send.frame)
        session.flushed()
        opener = opener or session
    np.save(kit.folder / f"{role}.npy", total)
    link.end.shutdown(socket.SHUT_WR)
    while (arrived := link.receive()) is not None:
        name, frame = arrived
        assert opener is not None
        if opener.result is None and name == kit.workload.names()[number]:
            list(opener.receive(SERVER, frame))
            kit.keep(name, opener)


def hold(kit: Kit, role: str, ends: list[socket.socket]) -> None:
    """The key holder, where there is one."""
    link = Link(*ends)
    if HOLDER in kit.spec.roster.helpers:
        session = kit.session(HOLDER)
        list(session.start())
        while (arrived := link.receive()) is not None:
            for send in session.receive(SERVER, arrived[1]):
                link.send(HOLDER, send.frame)


ROLES = {"server": serve, "plant": contribute, "holder": hold}


if __name__ == "__main__":
    main()
