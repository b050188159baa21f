"""Guards around native code: what a worker process may cost, and what of it is believed."""

from __future__ import annotations

from tests.guards.guard import NATIVE, WORKERS, Guard

GUARDS = (
    Guard(
        "a crash over seeds costs the message that they came in",
        ("C4",),
        "he/seeds.py",
        "except workers.Lost as error:",
        "except ZeroDivisionError as error:",
        (f"{NATIVE}::test_c4_a_crash_of_the_native_parser_costs_one_rejected_message",),
    ),
    Guard(
        "what a worker made of seeds is below the modulus",
        ("C4",),
        "he/seeds.py",
        "if int(polynomials[:, place * degree : (place + 1) * degree].max()) >= prime:",
        "if False:",
        (f"{NATIVE}::test_c4_what_a_worker_made_is_checked_before_it_is_added",),
    ),
    Guard(
        "nothing of a message is added before all of it is expanded",
        ("C4",),
        "he/sums.py",
        "        second = expand_all(seeds, parameters.primes, parameters.degree)\n        total = self._allocated()\n",
        "        total = self._allocated()\n        total[0, 0, 0] += np.uint64(1 << 50)\n"
        "        second = expand_all(seeds, parameters.primes, parameters.degree)\n"
        "        total[0, 0, 0] -= np.uint64(1 << 50)\n",
        (f"{NATIVE}::test_c4_a_crash_of_the_native_parser_costs_one_rejected_message",),
    ),
    Guard(
        "a worker that hangs is not waited for",
        ("C4",),
        "he/workers/pool.py",
        "ready = waiting.poll(LIMIT_S * 1000)",
        "ready = waiting.poll()",
        (f"{WORKERS}::test_c4_a_worker_that_hangs_is_ended",),
    ),
    Guard(
        "a worker that hangs ends without anybody to wait for it",
        ("C4",),
        "he/workers/child.py",
        "signal.setitimer(signal.ITIMER_REAL, 2 * self._opening.limit_s)",
        "pass",
        (f"{WORKERS}::test_workers_end_with_a_parent_that_was_killed",),
    ),
    Guard(
        "a worker that died without work is replaced",
        ("R7",),
        "he/workers/pool.py",
        "if worker.process.poll() is not None or",
        "if",
        (f"{WORKERS}::test_r7_a_worker_that_was_killed_while_it_had_no_work_costs_nothing",),
    ),
    Guard(
        "a client that loses its worker leaves the round, and no more",
        ("R7",),
        "he/blocks.py",
        'raise Aborted(f"the update could not be encrypted: {error}; nothing was sent") from None',
        "raise",
        (f"{NATIVE}::test_r7_a_client_whose_worker_is_killed_is_left_out",),
    ),
    Guard(
        "a key that loses its worker ends its part in the round, and no more",
        ("C4", "C5"),
        "he/blocks.py",
        'raise Malformed(f"the sum could not be opened: {error}") from None',
        "raise",
        (f"{NATIVE}::test_c4_a_sum_that_kills_its_reader_reveals_nothing",),
    ),
    Guard(
        "a peer's key is tried in a worker at set-up",
        ("C4",),
        "he/key_setup.py",
        "                try_key(bytes(body), self._scheme)\n",
        "                pass\n",
        (f"{NATIVE}::test_c4_a_public_key_that_kills_its_reader_is_rejected",),
    ),
    Guard(
        "a worker dumps no core",
        ("T20",),
        "he/workers/child.py",
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
        "resource.setrlimit(resource.RLIMIT_CORE, (4096, resource.getrlimit(resource.RLIMIT_CORE)[1]))",
        (f"{WORKERS}::test_t20_a_worker_leaves_no_core_dump_and_its_command_line_says_nothing",),
    ),
    Guard(
        "a forked child leaves the workers to its parent",
        ("C4",),
        "he/workers/pool.py",
        "os.register_at_fork(after_in_child=_POOL.forget)",
        "",
        (f"{WORKERS}::test_workers_end_with_their_parent_though_a_fork_of_it_lives_on",),
    ),
    Guard(
        "keys that a call shared with a worker are unmapped with it",
        ("T20",),
        "he/workers/pool.py",
        "self._arenas.clear()",
        "pass",
        (f"{WORKERS}::test_a_failed_call_leaves_no_memory",),
    ),
    Guard(
        "a client and a server make the same of a seed",
        ("C3",),
        "he/seeds.py",
        "if not np.array_equal(theirs, expand(seed, primes, degree)):",
        "if False:",
        ("tests/he/test_seeds.py::test_a_seal_that_expands_otherwise_is_refused",),
    ),
    Guard(
        "a short generator makes no noise for a sum",
        ("D3",),
        "he/ckks/flooded/cipher.py",
        "if any(len(key) != KEY_BYTES for key in keys):",
        "if False:",
        ("tests/he/test_flooding.py::test_d2_d3_a_stuck_or_short_generator_floods_nothing",),
    ),
)
