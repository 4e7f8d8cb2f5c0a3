"""The .slim file: a bundle as bytes and back, bit for bit, with every byte accounted for.

Layout: `SLIM`, version, CRC-32 of all tensors, length of the header, the header (JSON, deflated), then the
sections of each tensor in order. The header (`head.FIELDS`) holds the architecture with its edits, the
recipe, the names of the formats and coders in this file, and for each tensor its name, format, shape, coders
and lengths. A format or coder that is added later needs no other version: a program that lacks it says so.
Nothing is ever evaluated or unpickled. The origin is not in the file: what is read back stands alone.

`pack` and `unpack` hold the whole net; `write`, `read` and `verify` one tensor at a time.
"""

from engine.file.packfile.head import AT_ONCE, BYTES, LARGEST_NET, MAGIC, PREFIX, VERSION, PackError
from engine.file.packfile.reading import admit, difference, read, unpack, verify
from engine.file.packfile.writing import pack, sections, size, write

__all__ = [
    "AT_ONCE",
    "BYTES",
    "LARGEST_NET",
    "MAGIC",
    "PREFIX",
    "VERSION",
    "PackError",
    "admit",
    "difference",
    "pack",
    "read",
    "sections",
    "size",
    "unpack",
    "verify",
    "write",
]
