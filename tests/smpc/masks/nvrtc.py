"""NVIDIA's compiler for CUDA C++, from its wheel: it needs neither a CUDA device nor a driver."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

from nvidia import cuda_nvrtc  # type: ignore[import-untyped]


@cache
def compile_to_ptx(source: str, architecture: int) -> str:
    """PTX for compute capability `architecture` / 10. A program that does not compile fails with the compiler's log."""
    library = ctypes.CDLL(str(next(Path(cuda_nvrtc.__path__[0], "lib").glob("libnvrtc.so.*"))))
    program = ctypes.c_void_p()

    def text(what: str) -> str:
        size = ctypes.c_size_t()
        assert getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
        buffer = ctypes.create_string_buffer(size.value)
        assert getattr(library, f"nvrtcGet{what}")(program, buffer) == 0
        return buffer.value.decode()

    assert library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None) == 0
    try:
        options: Any = (ctypes.c_char_p * 1)(f"--gpu-architecture=compute_{architecture}".encode())
        failed = library.nvrtcCompileProgram(program, len(options), options)
        assert not failed, text("ProgramLog")
        return text("PTX")
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))
