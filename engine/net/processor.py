"""What the processor at hand can do."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")
VNNI = {"avx512_vnni", "avx_vnni", "avx_vnni_int8"}
DOT = "asimddp"  # the same on ARM


def has_bfloat16() -> bool:
    """Whether oneDNN multiplies bfloat16 here; without, some layers fail and none is faster.

    Unlike the processor's own flags it knows of limits that were set by ONEDNN_MAX_CPU_ISA.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@lru_cache(maxsize=1)
def flags() -> frozenset[str]:
    """The processor's own words for what it has, as Linux lists them; none where nobody says."""
    if not CPUINFO.is_file():
        return frozenset()
    lines = CPUINFO.read_text(errors="replace").splitlines()
    listed = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(listed, ()))


@lru_cache(maxsize=1)
def name() -> str:
    """What the processor calls itself, as Linux tells it; else its kind."""
    text = CPUINFO.read_text(errors="replace") if CPUINFO.is_file() else ""
    told = (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    return next(told, "") or platform.processor() or platform.machine() or "an unknown processor"


def multiplies_bytes(known: frozenset[str]) -> bool | None:
    """Whether one instruction multiplies 8-bit codes and adds into 32 bits; None where nobody knows.

    >>> multiplies_bytes(frozenset(["avx2", "avx_vnni"])), multiplies_bytes(frozenset(["avx2"]))
    (True, False)
    """
    if not known:
        return None
    return bool(known & VNNI) or DOT in known


def byte_instructions(known: frozenset[str]) -> str:
    """The same as words that follow "this processor has".

    >>> byte_instructions(frozenset(["avx2"]))
    'AVX2 without VNNI: products of 8-bit codes go through 16 bits'
    """
    if not known:
        return f"instructions that nobody tells ({platform.machine() or 'an unknown kind'}), VNNI or not"
    if known & VNNI:
        return "VNNI: one instruction multiplies four pairs of 8-bit codes and adds them up in 32 bits"
    if DOT in known:
        return (
            "dot-product instructions: one multiplies four pairs of 8-bit codes and adds them up in 32 bits"
        )
    widest = next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in known), "")
    if widest:
        return f"{widest} without VNNI: products of 8-bit codes go through 16 bits"
    return "neither VNNI nor AVX2: it has no wide products of 8-bit codes"
