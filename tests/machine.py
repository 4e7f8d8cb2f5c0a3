"""What some tests need of the processor that they run on."""

import pytest

from engine.net import processor

# Whether 8-bit codes are multiplied through 16 bits here, where sums with signed weights saturate.
SATURATES = processor.multiplies_bytes(processor.flags()) is False
SIGNED = pytest.param(
    False, marks=pytest.mark.skipif(SATURATES, reason="sums with signed weights saturate on this processor")
)
