"""What the processor at hand can do."""

from __future__ import annotations

import torch


def has_bfloat16() -> bool:
    """Whether oneDNN multiplies bfloat16 here; without, some layers fail and none is faster.

    Unlike the processor's own flags it knows of limits that were set by ONEDNN_MAX_CPU_ISA.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
