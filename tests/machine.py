"""What some tests need of the processor that they run on."""

import pytest

from engine.net import processor

EXACT_BYTES = pytest.mark.skipif(
    processor.multiplies_bytes(processor.flags()) is False,
    reason="this processor multiplies 8-bit codes through 16 bits: sums with signed weights saturate",
)
