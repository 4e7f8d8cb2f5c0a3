"""Integers to bytes and back: bit packing, entropy, Huffman lengths, and range coding with constriction.

Every stream made here holds its own alphabet and, where a coder needs them, the integer counts
that its model is made of. Nothing here knows of tensors, nets or files.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import constriction
import numpy as np
from numpy.typing import NDArray

from engine.types import SlimscopeError

Ints = NDArray[np.int64]

WIDEST_ALPHABET = 1 << 17  # the range coder's probabilities have 24 bits: wider alphabets gain nothing
LARGEST_TABLE = 1 << 24  # bytes of an alphabet or count table before zlib: bounds what is read back
BLOCK = 1 << 20  # symbols that are worked on at a time: no pass makes a wide copy of a long stream


class CodeError(SlimscopeError):
    """A stream that does not hold what it says: truncated, damaged, or not written by `encode`."""


# ---------------------------------------------------------------- fixed width


def pack_bits(values: NDArray[np.integer], bits: int) -> bytes:
    """Values (n,) in 0..2^bits-1 as ceil(n * bits / 8) bytes, highest bit first; bits 0..32.

    Raises CodeError where a value does not fit.

    >>> pack_bits(np.array([1, 2, 3]), 2).hex()
    '6c'
    """
    if len(values) and not 0 <= int(values.min()) <= int(values.max()) < 1 << bits:
        raise CodeError(f"values {values.min()}..{values.max()} do not fit into {bits} bits")
    if bits == 0 or len(values) == 0:
        return b""
    wide = _container(bits)

    def packed(block: NDArray[np.integer]) -> bytes:
        planes = np.unpackbits(block.astype(wide).view(np.uint8)).reshape(len(block), -1)
        return np.packbits(planes[:, -bits:]).tobytes()

    return b"".join(packed(values[part]) for part in _blocks(len(values)))


def unpack_bits(data: bytes, bits: int, count: int) -> Ints:
    """`count` values of `bits` bits each: (count,) int64. Raises CodeError for a wrong length."""
    wanted = (count * bits + 7) // 8
    if len(data) != wanted:
        raise CodeError(f"{count} values of {bits} bits take {wanted} bytes, not {len(data)}")
    if bits == 0 or count == 0:
        return np.zeros(count, np.int64)
    wide, raw = _container(bits), np.frombuffer(data, np.uint8)
    values = np.empty(count, np.int64)
    for part in _blocks(count):
        length = len(values[part])
        planes = np.zeros((length, wide.itemsize * 8), np.uint8)
        planes[:, -bits:] = np.unpackbits(raw[part.start * bits // 8 :], count=length * bits).reshape(
            -1, bits
        )
        values[part] = np.packbits(planes.reshape(-1)).view(wide)
    return values


def _blocks(count: int, length: int = BLOCK) -> Iterator[slice]:
    return (slice(start, start + length) for start in range(0, count, length))


def _container(bits: int) -> np.dtype[np.unsignedinteger]:
    if not 0 <= bits <= 32:
        raise CodeError(f"a code has 0 to 32 bits, not {bits}")
    return np.dtype(">u1" if bits <= 8 else ">u2" if bits <= 16 else ">u4")


def width(symbols: int) -> int:
    """Bits of a fixed-width code for so many different symbols: ceil(log2 k), 0 for one symbol.

    >>> width(1), width(2), width(3), width(256)
    (0, 1, 2, 8)
    """
    return max(symbols - 1, 0).bit_length()


def varints(values: Sequence[int] | NDArray[np.integer]) -> bytes:
    """Numbers >= 0 in 7-bit groups, lowest first; the top bit says that more follow (LEB128).

    >>> varints([5, 300]).hex()
    '05ac02'
    """
    if len(values) < 64:  # most lists are heads of two or three numbers: ten times faster without numpy
        return b"".join(_varint(int(value)) for value in values)
    numbers = np.asarray(values, np.int64)
    places = max(-(-int(numbers.max()).bit_length() // 7), 1)
    groups = numbers[:, None] >> (7 * np.arange(places))  # (n, places): what is left at each place
    more = np.concatenate([groups[:, 1:] > 0, np.zeros((len(numbers), 1), bool)], axis=1)
    used = np.concatenate([np.ones((len(numbers), 1), bool), more[:, :-1]], axis=1)
    written: bytes = ((groups & 127) | (more * 128))[used].astype(np.uint8).tobytes()
    return written


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def read_varints(data: bytes, count: int, offset: int = 0) -> tuple[Ints, int]:
    """`count` numbers from `data` at `offset`, and the offset behind them. Raises CodeError."""
    if count == 0:
        return np.zeros(0, np.int64), offset
    if count > len(data) - offset:
        raise CodeError("a list of numbers ends too early")
    raw = np.frombuffer(data, np.uint8, offset=offset)[: 8 * count]
    ends = np.flatnonzero(raw < 128)[:count]
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts[: len(ends)] + 1
    if len(ends) < count or int(lengths.max()) > 8:
        raise CodeError("a list of numbers ends too early or holds one above 2^56")
    numbers = np.zeros(count, np.int64)
    for place in range(int(lengths.max())):
        rows = np.flatnonzero(lengths > place)
        numbers[rows] |= (raw[starts[rows] + place].astype(np.int64) & 127) << (7 * place)
    return numbers, offset + int(ends[-1]) + 1


def zigzag(value: int) -> int:
    """A signed number as an unsigned one, small where it was small: 0, -1, 1, -2 -> 0, 1, 2, 3."""
    return 2 * value if value >= 0 else -2 * value - 1


def _unzigzag(value: int) -> int:
    return value // 2 if value % 2 == 0 else -(value // 2) - 1


# ---------------------------------------------------------------- counts and lengths


@dataclass(frozen=True, eq=False)
class Counted:
    """Symbols (n,) as places in their sorted alphabet (k,), with how often each occurs (k,)."""

    alphabet: Ints
    places: NDArray[np.integer]
    counts: Ints

    @property
    def span(self) -> int:
        """Whole numbers from the smallest to the largest symbol."""
        return int(self.alphabet[-1] - self.alphabet[0]) + 1 if len(self.alphabet) else 0


def counted(symbols: NDArray[np.integer]) -> Counted:
    """Count a stream of integers.

    >>> counted(np.array([7, 7, -1])).counts.tolist()
    [1, 2]
    """
    if len(symbols) == 0:
        nothing = np.zeros(0, np.int64)
        return Counted(nothing, nothing, nothing)
    low, high = int(symbols.min()), int(symbols.max())
    if high - low > max(1 << 16, 2 * len(symbols)):
        stream = symbols.astype(np.int64, copy=False)
        alphabet, places, counts = np.unique(stream, return_inverse=True, return_counts=True)
        return Counted(alphabet, places.reshape(-1), counts.astype(np.int64))
    counts = np.zeros(high - low + 1, np.int64)
    shifted = np.empty(len(symbols), np.min_scalar_type(high - low))
    blocks = [*_blocks(len(symbols), max(BLOCK, len(counts)))]
    for part in blocks:
        block = symbols[part].astype(np.int64) - low
        shifted[part] = block
        counts += np.bincount(block, minlength=len(counts))
    used = np.flatnonzero(counts)
    if len(used) < len(counts):
        order = np.cumsum(counts > 0) - 1
        for part in blocks:
            shifted[part] = order[shifted[part]]
    return Counted(used + low, shifted, counts[used])


def entropy_bits(counts: NDArray[np.integer]) -> float:
    """Order-0 entropy of a whole stream in bits: sum of c * log2(n / c) (Shannon 1948).

    >>> entropy_bits(np.array([2, 1, 1]))
    6.0
    """
    used = counts[counts > 0].astype(np.float64)
    return float((used * np.log2(used.sum() / used)).sum()) if used.size else 0.0


def huffman_lengths(counts: NDArray[np.integer]) -> Ints:
    """Length in bits of each symbol's Huffman code (Huffman 1952); a lone symbol takes 1 bit.

    Counts (k,) must be above 0. Two queues instead of a heap: sorted leaves, and merged nodes,
    which come out in order by themselves (van Leeuwen 1976).

    >>> huffman_lengths(np.array([5, 2, 1])).tolist()
    [1, 2, 2]
    """
    k = len(counts)
    if k <= 1:
        return np.ones(k, np.int64)
    order = np.argsort(counts, kind="stable")
    weight: list[int] = counts[order].tolist()
    parent = [0] * (2 * k - 1)
    leaf, node = 0, k
    for new in range(k, 2 * k - 1):
        total = 0
        for _ in range(2):
            if leaf < k and (node == new or weight[leaf] <= weight[node]):
                child, leaf = leaf, leaf + 1
            else:
                child, node = node, node + 1
            parent[child] = new
            total += weight[child]
        weight.append(total)
    depth = [0] * (2 * k - 1)
    for item in range(2 * k - 3, -1, -1):
        depth[item] = depth[parent[item]] + 1
    lengths = np.empty(k, np.int64)
    lengths[order] = depth[:k]
    return lengths


def gaps(positions: Ints) -> Ints:
    """How many places are skipped before each of the sorted positions: [2, 3, 7] -> [2, 0, 3]."""
    return np.diff(positions, prepend=-1) - 1


# ---------------------------------------------------------------- streams

PLAIN = ("packed", "entropy")
CODINGS = (*PLAIN, "sparse")
Option = tuple[float, str, Callable[[], bytes]]  # bytes that it takes at least, coding, how to make it


def encode(symbols: NDArray[np.integer]) -> tuple[str, bytes]:
    """The shortest stream for symbols (n,), any integers within 2^55: (coding, bytes).

    `packed`: fixed width over the alphabet. `entropy`: range coded with the stream's own counts.
    `sparse`: where one symbol makes up half of the stream, the places of all others (as a
    mask or as gaps, packed or range coded) and then those others. `decode` reads each.
    """
    view = counted(symbols)
    options = _plain(view)
    if rare := _rare(view):
        options += _sparse(view, *rare)
    return _shortest(options)


def decode(coding: str, data: bytes, count: int) -> Ints:
    """The `count` symbols of a stream: (count,) int64. Raises CodeError for a damaged one."""
    match coding:
        case "packed":
            return _read_packed(data, count)
        case "entropy":
            return _read_entropy(data, count)
        case "sparse":
            return _read_sparse(data, count)
    raise CodeError(f"coding {coding!r} is unknown; there are {', '.join(CODINGS)}")


def ideal_bits(symbols: NDArray[np.integer]) -> float:
    """Least bits that `encode` can reach, tables left out: the smallest order-0 entropy of its models.

    The models are the stream itself and, where one symbol makes up half of it, the gaps
    between the others plus those others. (A mask plus the others is the stream itself.)
    """
    view = counted(symbols)
    whole = entropy_bits(view.counts)
    if rare := _rare(view):
        positions, others = rare
        return min(whole, entropy_bits(counted(gaps(positions)).counts) + entropy_bits(others.counts))
    return whole


def _shortest(options: list[Option]) -> tuple[str, bytes]:
    best: tuple[str, bytes] | None = None
    for least, coding, make in sorted(options, key=lambda option: option[0]):
        if best is not None and least >= len(best[1]):
            break
        data = make()
        if best is None or len(data) < len(best[1]):
            best = coding, data
    assert best is not None
    return best


def _plain(view: Counted) -> list[Option]:
    n, k = len(view.places), len(view.alphabet)
    options: list[Option] = [(n * width(k) / 8, "packed", lambda: _packed(view))]
    if 1 < k <= WIDEST_ALPHABET:
        options.append((entropy_bits(view.counts) / 8, "entropy", lambda: _entropy(view)))
    return options


def _packed(view: Counted) -> bytes:
    if len(view.places) == 0:
        return b""
    n, k = len(view.places), len(view.alphabet)
    listed = _table(_listed(view), 1) + pack_bits(view.places, width(k))
    if width(view.span) > 32 or n * (width(view.span) - width(k)) > 8 * len(listed):
        return listed
    offsets = (view.alphabet - view.alphabet[0]).astype(np.uint32)[view.places]
    spanned = _table(_spanned(view), 0) + pack_bits(offsets, width(view.span))
    return min(spanned, listed, key=len)


def _entropy(view: Counted) -> bytes:
    tables = [_table(_listed(view) + varints(view.counts), 1)]
    if view.span <= WIDEST_ALPHABET:
        counts = np.zeros(view.span, np.int64)
        counts[view.alphabet - view.alphabet[0]] = view.counts
        tables.append(_table(_spanned(view) + varints(counts), 0))
    encoder = constriction.stream.queue.RangeEncoder()
    model = _model(view.counts)
    for part in _blocks(len(view.places)):
        encoder.encode(view.places[part].astype(np.int32), model)
    words: bytes = encoder.get_compressed().astype("<u4").tobytes()
    return min(tables, key=len) + words


def _model(counts: Ints) -> constriction.stream.model.Model:
    # Counts below 2^53 are exact as float64, so that both sides build the same model from the integers.
    return constriction.stream.model.Categorical(counts.astype(np.float64), perfect=False)


def _range_decode(data: bytes, alphabet: Ints, counts: Ints) -> Ints:
    if len(data) % 4:
        raise CodeError("a range-coded stream is cut inside a word")
    decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))
    symbols = np.empty(int(counts.sum()), np.int64)
    model = _model(counts)
    try:
        for part in _blocks(len(symbols)):
            symbols[part] = alphabet[decoder.decode(model, len(symbols[part]))]
    except (AssertionError, ValueError) as error:
        raise CodeError(f"a range-coded stream is damaged: {error}") from None
    return symbols


# An alphabet is written as its smallest symbol and either its span or its size and steps.


def _spanned(view: Counted) -> bytes:
    return varints([zigzag(int(view.alphabet[0])), view.span])


def _listed(view: Counted) -> bytes:
    head = varints([zigzag(int(view.alphabet[0])), len(view.alphabet)])
    return head + varints(np.diff(view.alphabet))


def _table(body: bytes, form: int) -> bytes:
    squeezed = zlib.compress(body, 9) if 32 < len(body) < LARGEST_TABLE else body
    if len(squeezed) < len(body):
        body, form = squeezed, form + 2
    return bytes([form]) + varints([len(body)]) + body


def _read_table(data: bytes) -> tuple[int, int, bool, bytes, bytes]:
    """(smallest symbol, span or size, whether steps are listed, rest of the table, payload)."""
    form = data[0] if data else 255
    (length,), start = read_varints(data, 1, 1)
    body = data[start : start + int(length)]
    if form > 3 or len(body) < length:
        raise CodeError("a table is cut off or of an unknown form")
    plain = _unzip(body) if form >= 2 else body
    (low, size), offset = read_varints(plain, 2)
    if not 1 <= size <= 1 << 32:
        raise CodeError(f"an alphabet of {size} symbols cannot be")
    return _unzigzag(int(low)), int(size), form % 2 == 1, plain[offset:], data[start + int(length) :]


def _from_steps(low: int, steps: Ints) -> Ints:
    if len(steps) and int(steps.max()) > 1 << 35:
        raise CodeError("the symbols of an alphabet lie too far apart")
    return low + np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)


def _read_packed(data: bytes, count: int) -> Ints:
    if count == 0:
        if data:
            raise CodeError("a stream without symbols has bytes")
        return np.zeros(0, np.int64)
    low, size, listed, rest, payload = _read_table(data)
    steps, used = read_varints(rest, size - 1 if listed else 0)
    places = unpack_bits(payload, width(size), count)
    if int(places.max()) >= size or used != len(rest):
        raise CodeError("a code is outside of its alphabet")
    if listed:
        return _from_steps(low, steps)[places]
    places += low
    return places


def _read_entropy(data: bytes, count: int) -> Ints:
    low, size, listed, rest, payload = _read_table(data)
    if size > WIDEST_ALPHABET:
        raise CodeError(f"an alphabet of {size} symbols is too wide for the range coder")
    steps, offset = read_varints(rest, size - 1 if listed else 0)
    counts, offset = read_varints(rest, size, offset)
    if int(counts.max()) > count or int(counts.sum()) != count or offset != len(rest):
        raise CodeError(f"the counts of a stream of {count} symbols do not add up")
    used = np.flatnonzero(counts)
    if len(used) < 2:
        raise CodeError("a range-coded stream needs two different symbols")
    alphabet = _from_steps(low, steps)[used] if listed else used + low
    return _range_decode(payload, alphabet, counts[used])


def _unzip(body: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(body, LARGEST_TABLE)
    except zlib.error as error:
        raise CodeError(f"a table is damaged: {error}") from None
    if not stream.eof:
        raise CodeError("a table is cut off or too long")
    return plain


# ---------------------------------------------------------------- one frequent symbol


def _rare(view: Counted) -> tuple[Ints, Counted] | None:
    """Places of all but the most frequent symbol, and those symbols; None below half of the stream."""
    if len(view.alphabet) < 2 or 2 * int(view.counts.max()) < len(view.places):
        return None
    positions = np.flatnonzero(view.places != int(view.counts.argmax()))
    return positions, counted(view.alphabet[view.places[positions]])


def _sparse(view: Counted, positions: Ints, others: Counted) -> list[Option]:
    # A range-coded mask with range-coded others is the range-coded stream again: it is not tried.
    n, rare = len(view.places), len(positions)
    skipped, flat = counted(gaps(positions)), rare * width(len(others.alphabet))
    gap_bits = entropy_bits(skipped.counts) + entropy_bits(others.counts)
    mask_bits = entropy_bits(np.array([n - rare, rare])) + flat
    head = varints([zigzag(int(view.alphabet[view.counts.argmax()])), rare])

    def by_gaps() -> bytes:
        return head + b"\0" + _framed(_shortest(_plain(skipped))) + _framed(_shortest(_plain(others)))

    def by_mask() -> bytes:
        mask = np.zeros(n, np.uint8)
        mask[positions] = 1
        return head + b"\1" + _framed(_shortest(_plain(counted(mask)))) + _framed(("packed", _packed(others)))

    return [(gap_bits / 8, "sparse", by_gaps), (mask_bits / 8, "sparse", by_mask)]


def _framed(stream: tuple[str, bytes]) -> bytes:
    coding, data = stream
    return varints([PLAIN.index(coding), len(data)]) + data


def _read_frame(data: bytes, offset: int, count: int) -> tuple[Ints, int]:
    (coding, length), offset = read_varints(data, 2, offset)
    if coding >= len(PLAIN) or length > len(data) - offset:
        raise CodeError("a part of a sparse stream is cut off")
    end = offset + int(length)
    return decode(PLAIN[int(coding)], data[offset:end], count), end


def _read_sparse(data: bytes, count: int) -> Ints:
    (background, rare, form), offset = read_varints(data, 3)
    if rare > count:
        raise CodeError(f"{rare} symbols do not fit into a stream of {count}")
    listed, offset = _read_frame(data, offset, count if form else int(rare))
    # Steps are checked one by one before they are summed, so that no sum can run over.
    if not form and rare and not 0 <= int(listed.min()) <= int(listed.max()) < count:
        raise CodeError("a gap is longer than its stream")
    positions = np.flatnonzero(listed) if form else np.cumsum(listed + 1) - 1
    others, offset = _read_frame(data, offset, int(rare))
    if len(positions) != rare or (rare and int(positions[-1]) >= count) or offset != len(data):
        raise CodeError("the places of a sparse stream do not fit its length")
    symbols = np.full(count, _unzigzag(int(background)), np.int64)
    symbols[positions] = others
    return symbols
