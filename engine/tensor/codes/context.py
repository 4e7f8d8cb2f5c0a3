"""Coder `context`: each symbol under what its row, column and neighbours were, in adaptive binary decisions.

A stream names its alphabet, the background symbol, the columns of its matrix, the distance between
neighbours in a column's image, a first share of non-zeros, and how many low bits of a magnitude stand apart.
It learns as it goes: there are no counts in front. It may take less than the order-0 entropy, which
supposes that no symbol says anything about the next.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.tensor.codes.alphabet import by_span, by_steps, from_steps, read_table, table
from engine.tensor.codes.bits import CodeError, Ints, read_varints, varints, width
from engine.tensor.codes.coder import Coder, Option
from engine.tensor.codes.contexts import model, places
from engine.tensor.codes.contexts.mixing import MARGIN, PLACE, begin, last_bytes
from engine.tensor.codes.contexts.rating import Rating
from engine.tensor.codes.counts import Counted, entropy_bits

FEWEST, MOST = 64, 1 << 26  # symbols of a stream
WIDEST = 1 << 18  # symbols of an alphabet
LONGEST_ROW = 1 << 20
SAMPLE = 1 << 16  # symbols that show whether contexts help in a long stream
UNARY_MEAN = 6  # magnitudes above in the mean have low bits apart
LARGEST_SHIFT = 18


def options(view: Counted) -> list[Option]:
    n = len(view.places)
    if not FEWEST <= n <= MOST or not 1 < len(view.alphabet) <= WIDEST or not _helps(view):
        return []
    return [(0.0, "context", lambda: _encode(view))]


def _helps(view: Counted) -> bool:
    """Whether contexts shorten the first symbols of a long stream; a short one is tried whole."""
    if len(view.places) <= 4 * SAMPLE:
        return True
    rows = max(SAMPLE // view.columns, 1)
    places = view.places[: min(rows * view.columns, 2 * SAMPLE)]
    counts = np.bincount(places, minlength=len(view.alphabet)).astype(np.int64)
    return 8 * len(_encode(Counted(view.alphabet, places, counts, view.columns))) < entropy_bits(counts)


def priced(
    codes: NDArray[np.integer],
    columns: int,
    ratios: NDArray[np.float32],
    worths: NDArray[np.float32],
    price: float,
) -> tuple[NDArray[np.int32], int]:
    """Codes (n,) that cost least, and the bits that they take in this coder; zero is the background.

    Each is the nearest (given as `codes`), the one before it, or zero: whichever has the least
    worth * (ratio - code)^2 + price * bits, `ratios` being weights in steps. The bits are the coder's own,
    after all codes before. (rate-distortion optimal quantization: Wiedemann et al. 2020, DeepCABAC)

    >>> codes, alike = np.array([0, 1, 0, 0] * 32), np.ones(128, np.float32)
    >>> [int(priced(codes, 4, 0.6 * alike * codes, alike, price)[0].sum()) for price in (0.0, 9.0)]
    [32, 0]
    """
    values = codes.astype(np.int32)
    settings = _settings(values, columns)
    stream = _coded(values, settings, 4 * len(values), Rating(ratios, worths, price))
    return values, 8 * len(stream)


def _settings(values: NDArray[np.int32], columns: int) -> list[int]:
    """Columns, period, first share of non-zeros, and low bits apart."""
    sizes = np.abs(values[values != 0])
    shift = int(int(sizes.sum(dtype=np.int64)) // max(UNARY_MEAN * len(sizes), 1)).bit_length()
    prior = min(max(256 * len(sizes) // len(values), 1), 255)
    return [columns, period_of(values, columns), prior, shift]


def _encode(view: Counted) -> bytes:
    spanned = view.span <= min(4 * len(view.alphabet), WIDEST)
    background, values = _distances(view, spanned)
    columns = view.columns if view.columns <= LONGEST_ROW else 1 << 16
    settings = _settings(values, columns)
    head = table(by_span(view), 0) if spanned else table(by_steps(view), 1)
    return (
        head
        + varints([background, *settings])
        + _coded(values, settings, len(values) * width(view.span) // 8)
    )


def _distances(view: Counted, spanned: bool) -> tuple[int, NDArray[np.int32]]:
    """The most frequent symbol and how far others are from it, as whole numbers or places in the alphabet."""
    background = int(view.counts.argmax())
    if spanned:
        offsets = (view.alphabet - view.alphabet[0]).astype(np.int32)
        return int(offsets[background]), (offsets - offsets[background])[view.places]
    return background, (view.places.astype(np.int64) - background).astype(np.int32)


def _coded(values: NDArray[np.int32], settings: list[int], room: int, rating: Rating | None = None) -> bytes:
    rows = -(-len(values) // settings[0])
    coder, start = np.zeros(5, np.int64), places.starts(rows, settings[0])
    stream = np.empty(room + 8 * MARGIN, np.uint8)
    begin(coder, stream, 1)
    if model.run(values, np.array(settings), start, coder, stream, rating) < len(values):
        return _coded(values, settings, 2 * len(stream), rating)
    return stream[: coder[PLACE]].tobytes() + last_bytes(coder)


def period_of(values: NDArray[np.int32], columns: int) -> int:
    """Columns from one to the one below it, where the columns are an image: how far their counts repeat.

    >>> image = np.zeros((50, 64), np.int32)
    >>> image[:, [11, 19, 27, 35]] = 1  # a line that goes down an image of 8 columns
    >>> period_of(image.reshape(-1), 64)
    8
    """
    rows = len(values) // columns
    if columns < 8 or rows < 2:
        return max(columns, 2)
    counts = np.count_nonzero(values[: rows * columns].reshape(rows, columns), axis=0).astype(np.float64)
    spectrum = np.fft.rfft(counts - counts.mean(), 2 * columns)
    repeats = np.fft.irfft(np.abs(spectrum) ** 2)[2 : columns // 2 + 1]
    return int(np.argmax(np.round(repeats, 3))) + 2


def decode(data: bytes, count: int) -> Ints:
    low, size, listed, rest, payload = read_table(data)
    steps, used = read_varints(rest, size - 1 if listed else 0)
    (background, columns, period, prior, shift), offset = read_varints(payload, 5)
    if not 1 < size <= WIDEST or used != len(rest) or background >= size or count > MOST:
        raise CodeError(f"an alphabet of {size} symbols or a stream of {count} cannot be")
    if not (1 <= columns <= LONGEST_ROW and columns <= count and 2 <= period <= columns + 1):
        raise CodeError(f"rows of {columns} symbols with a period of {period} do not fit {count} symbols")
    if not 1 <= prior <= 255 or shift > LARGEST_SHIFT:
        raise CodeError(f"a share of {prior}/256 or {shift} low bits cannot be")
    places = _read(payload[offset:], count, [int(columns), int(period), int(prior), int(shift)]) + background
    if not 0 <= int(places.min()) <= int(places.max()) < size:
        raise CodeError("a symbol is outside of its alphabet")
    symbols: Ints = from_steps(low, steps)[places] if listed else places + low
    return symbols


def _read(data: bytes, count: int, settings: list[int]) -> Ints:
    rows = -(-count // settings[0])
    coder, start, values = np.zeros(5, np.int64), places.starts(rows, settings[0]), np.zeros(count, np.int32)
    stream = np.frombuffer(data, np.uint8).copy()
    begin(coder, stream, 0)
    done = model.run(values, np.array(settings), start, coder, stream, None)
    # The reader is four bytes ahead; the end of a stream is as its writer would have made it.
    end = int(coder[PLACE]) - 4
    if done < count or end > len(data) or data[end:] != last_bytes(coder):
        raise CodeError(f"a stream of {count} symbols is damaged or cut off at symbol {done}")
    return values.astype(np.int64)


CONTEXT = Coder("context", options, decode)
