"""Guards of the mask streams and of the encoding on narrow rings."""

from __future__ import annotations

from tests.guards.guard import MASKS, Guard

PACKED = "tests/adversary/test_packed.py"
FIXEDPOINT = "tests/secagg/test_fixedpoint.py"

GUARDS = (
    Guard(
        "a mask is for its context",
        ("M10",),
        "smpc/masks/stream.py",
        'derive(seed, f"mask/{suite}", *context)',
        'derive(seed, f"mask/{suite}")',
        (f"{MASKS}/test_stream.py",),
    ),
    Guard(
        "a mask seed has all its bytes",
        ("M10",),
        "smpc/masks/stream.py",
        "if len(seed) != SEED_BYTES:",
        "if False:",
        (f"{MASKS}/test_stream.py::test_an_unknown_suite_and_a_short_seed_are_refused",),
    ),
    Guard(
        "a vector ends before the counter begins again",
        ("M10",),
        "smpc/masks/apply.py",
        "if vector.nbytes > MAX_VECTOR_BYTES:",
        "if False:",
        (f"{MASKS}/test_apply.py::test_m10_a_vector_on_which_the_counter_would_begin_again_is_refused",),
    ),
    Guard(
        "every thread enters the stream where its part begins",
        ("M10", "M15"),
        "smpc/masks/cpu.py",
        "_apply_range(vector[start : start + each], masks, block)",
        "_apply_range(vector[start : start + each], masks, 0)",
        (f"{MASKS}/test_apply.py::test_masks_equal_their_slow_twins_across_chunks_and_threads",),
    ),
    Guard(
        "the kernel's counter is the block's own",
        ("M10",),
        "smpc/masks/chacha20.cu",
        "keystream(block, keys + 8 * mask, (u32)number);",
        "keystream(block, keys + 8 * mask, 0);",
        (f"{MASKS}/test_gpu.py",),
    ),
    Guard(
        "the kernel stays within the vector",
        ("M10",),
        "smpc/masks/chacha20.cu",
        "            if (start + i < length)\n                vector[start + i] = total[i];",
        "            vector[start + i] = total[i];",
        (f"{MASKS}/test_gpu.py",),
    ),
    Guard(
        "a slice on a device is not read in wide steps",
        ("M10",),
        "smpc/masks/chacha20.cu",
        " && reinterpret_cast<u64>(vector) % sizeof(Quarter<Element>) == 0",
        "",
        (f"{MASKS}/test_gpu.py",),
    ),
    Guard(
        "a mask of another cipher is not made on a device as ChaCha20",
        ("M10",),
        "smpc/masks/gpu.py",
        'if stream.suite != "chacha20":',
        "if False:",
        (f"{MASKS}/test_gpu.py::test_aes_has_no_kernel_and_is_refused",),
    ),
    Guard(
        "only the ring's own bits are sent",
        ("M15",),
        "secagg/packing.py",
        "np.bitwise_and(words, chunk.first, out=chunk.pairs)",
        "chunk.pairs[:] = words",
        ("tests/secagg/test_packing.py",),
    ),
    Guard(
        "nothing is hidden behind the last element",
        ("T16",),
        "secagg/ringsum.py",
        "if not spare_bits_are_zero(body, self._length, self._bits):",
        "if False:",
        (f"{PACKED}::test_t16_bits_behind_the_last_element_are_rejected",),
    ),
    Guard(
        "the proof covers rounding up",
        ("M11",),
        "secagg/fixedpoint.py",
        'added = Fraction(1, 2) if rounding == "nearest" else Fraction(1)',
        "added = Fraction(1, 2)",
        (f"{FIXEDPOINT}::test_m11_rounding_up_at_the_rings_edge_is_in_the_proof",),
    ),
    Guard(
        "rounding by chance is charged for, or refused",
        ("D8",),
        "dp/layer.py",
        'if encoding.rounding != "nearest" and not placement.at_client:',
        "if False:",
        ("tests/test_backends.py::test_dp_refuses_to_round_by_chance",),
    ),
)
