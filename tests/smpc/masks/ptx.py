"""PTX, the assembler of CUDA, executed thread by thread on the CPU: what a device would compute, without one.

A kernel's PTX is translated to a Python function, a line for an instruction, and called once for every thread.
Registers are unsigned integers. Only what integer kernels without shared memory use is known; any other instruction
is an error when the kernel is translated, and so is a load or store outside the arrays it was given, or misaligned.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_BITS = {"add": "+", "sub": "-", "and": "&", "or": "|", "xor": "^"}


class Memory:
    """Arrays at addresses far apart, so that a stray address is nobody's, and as aligned as they truly are."""

    def __init__(self) -> None:
        self._arrays: list[tuple[int, NDArray[np.uint8]]] = []

    def place(self, array: NDArray[Any]) -> int:
        """The address at which a contiguous array can be read and written from now on."""
        address = (len(self._arrays) << 40) + 4096 + array.ctypes.data % 16
        self._arrays.append((address, array.reshape(-1).view(np.uint8)))
        return address

    def _words(self, address: int, bits: int, count: int) -> NDArray[Any]:
        first, array = self._arrays[address >> 40]
        start, size = address - first, count * bits // 8
        if not 0 <= start <= array.size - size or address % size:
            raise IndexError(f"{size} bytes at {start} of an array of {array.size} bytes at {first:#x}")
        return array[start : start + size].view(f"<u{bits // 8}")

    def load(self, address: int, bits: int, count: int) -> list[int]:
        return [int(word) for word in self._words(address, bits, count)]

    def store(self, address: int, bits: int, words: Sequence[int]) -> None:
        self._words(address, bits, len(words))[:] = words


def run(ptx: str, kernel: str, *, grid: int, threads: int, arguments: Sequence[NDArray[Any] | int]) -> None:
    """Launch `kernel` on `grid` blocks of `threads`. Arrays are arguments in place, changed as a device would."""
    memory = Memory()
    words = [memory.place(value) if isinstance(value, np.ndarray) else value for value in arguments]
    thread = _translate(ptx, kernel)
    for block, number in itertools.product(range(grid), range(threads)):
        thread(memory, words, {"ctaid_x": block, "ntid_x": threads, "tid_x": number})


def _translate(ptx: str, kernel: str) -> Callable[[Memory, Sequence[int], dict[str, int]], None]:
    (body,) = re.findall(rf"\.entry {kernel}\([^)]*\)[^{{]*{{(.*?)\n}}", ptx, re.DOTALL)
    lines = [line.split("//")[0].strip() for line in body.splitlines()]
    lines = [line for line in lines if line and not line.startswith(".")]
    labels = {line.rstrip(":"): number for number, line in enumerate(line for line in lines if line.endswith(":"))}
    code = ["def thread(memory, params, special):", " place = -1", " while True:", "  if place < 0:", "   pass"]
    for line in lines:
        if line.endswith(":"):
            # Whoever falls through has arrived here too.
            code += [f"   place = {labels[line[:-1]]}", f"  if place == {labels[line[:-1]]}:", "   pass"]
        else:
            code.append("   " + _instruction(line.rstrip(";"), labels))
    names: dict[str, Any] = {}
    exec("\n".join(code), names)  # noqa: S102 - made of the compiler's output by the table below
    function: Callable[[Memory, Sequence[int], dict[str, int]], None] = names["thread"]
    return function


def _instruction(line: str, labels: dict[str, int]) -> str:
    """One instruction as Python."""
    guard = ""
    if line.startswith("@"):
        condition, line = line.split(None, 1)
        guard = f"if {condition[1:].replace('!', 'not ').replace('%', '')}: "
    opcode, *rest = line.split(None, 1)
    operands = [_operand(part) for part in re.findall(r"{[^}]*}|\[[^\]]*\]|[^,\s]+", "".join(rest))]
    name, *modifiers = opcode.split(".")
    bits = int(modifiers[-1][1:]) if modifiers and re.fullmatch(r"[busf]\d+", modifiers[-1]) else 0
    mask = (1 << bits) - 1
    to, *of = operands or [""]
    match name:
        case "bra":
            return f"{guard}place = {labels[to]}; continue"
        case "ret":
            return f"{guard}return"
        case _ if guard:
            raise NotImplementedError(line)
        case "mov" | "cvta":
            return f"{to} = {of[0]}" + (f" & {mask}" if bits else "")
        case "cvt":
            source = int(modifiers[-1][1:])
            signed = modifiers[-1][0] == "s"
            sign = f"({of[0]} & {1 << source - 1})"
            return f"{to} = ({of[0]} - 2 * {sign if signed else 0}) & {(1 << int(modifiers[-2][1:])) - 1}"
        case "add" | "sub" | "and" | "or" | "xor":
            return f"{to} = ({of[0]} {_BITS[name]} {of[1]}) & {mask}"
        case "mul" if modifiers[0] == "lo":
            return f"{to} = ({of[0]} * {of[1]}) & {mask}"
        case "mul" if modifiers == ["wide", "u32"]:
            return f"{to} = {of[0]} * {of[1]}"
        case "mad" if modifiers[0] == "lo":
            return f"{to} = ({of[0]} * {of[1]} + {of[2]}) & {mask}"
        case "shl":
            return f"{to} = ({of[0]} << min({of[1]}, {bits})) & {mask}"
        case "shf" if modifiers == ["l", "wrap", "b32"]:
            return f"{to} = ((({of[1]} << 32 | {of[0]}) << ({of[2]} & 31)) >> 32) & {mask}"
        case "bfi":
            field = f"(((1 << {of[3]}) - 1) << {of[2]})"
            return f"{to} = ({of[1]} & ~{field} | ({of[0]} << {of[2]}) & {field}) & {mask}"
        case "setp" if modifiers[1][0] in "ub" or modifiers[0] in ("eq", "ne"):
            return f"{to} = ({of[0]} & {mask}) {_COMPARISONS[modifiers[0]]} ({of[1]} & {mask})"
        case "ld" if modifiers[0] == "param":
            return f"{to} = params[{of[0].rsplit('_', 1)[1]}]"
        case "ld" if modifiers[0] == "global":
            count = to.count(",") + 1
            return f"{to}, = memory.load({of[0]}, {bits}, {count})"
        case "st" if modifiers[0] == "global":
            return f"memory.store({to}, {bits}, ({of[0]},))"
    raise NotImplementedError(line)


def _operand(text: str) -> str:
    """A register, an address, a vector of registers or a number as a Python expression."""
    text = text.strip("[]{} ").replace(" ", "")
    text = re.sub(r"%(ctaid|ntid|tid)\.x", r"special['\1_x']", text)
    return text.replace("%", "")
