"""Coder `entropy`: range coding with the stream's own counts, which stand in front of it."""

from __future__ import annotations

import constriction
import numpy as np

from engine.tensor.codes.alphabet import by_span, by_steps, from_steps, read_table, table
from engine.tensor.codes.bits import CodeError, Ints, blocks, read_varints, varints
from engine.tensor.codes.coder import Coder, Option
from engine.tensor.codes.counts import Counted, entropy_bits

WIDEST_ALPHABET = 1 << 17  # the range coder's probabilities have 24 bits: wider alphabets gain nothing


def options(view: Counted) -> list[Option]:
    if not 1 < len(view.alphabet) <= WIDEST_ALPHABET:
        return []
    return [(entropy_bits(view.counts) / 8, "entropy", lambda: _encode(view))]


def _encode(view: Counted) -> bytes:
    tables = [table(by_steps(view) + varints(view.counts), 1)]
    if view.span <= WIDEST_ALPHABET:
        counts = np.zeros(view.span, np.int64)
        counts[view.alphabet - view.alphabet[0]] = view.counts
        tables.append(table(by_span(view) + varints(counts), 0))
    encoder = constriction.stream.queue.RangeEncoder()
    model = _model(view.counts)
    for part in blocks(len(view.places)):
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
        for part in blocks(len(symbols)):
            symbols[part] = alphabet[decoder.decode(model, len(symbols[part]))]
    except (AssertionError, ValueError) as error:
        raise CodeError(f"a range-coded stream is damaged: {error}") from None
    return symbols


def decode(data: bytes, count: int) -> Ints:
    low, size, listed, rest, payload = read_table(data)
    if size > WIDEST_ALPHABET:
        raise CodeError(f"an alphabet of {size} symbols is too wide for the range coder")
    steps, offset = read_varints(rest, size - 1 if listed else 0)
    counts, offset = read_varints(rest, size, offset)
    if int(counts.max()) > count or int(counts.sum()) != count or offset != len(rest):
        raise CodeError(f"the counts of a stream of {count} symbols do not add up")
    used = np.flatnonzero(counts)
    if len(used) < 2:
        raise CodeError("a range-coded stream needs two different symbols")
    alphabet = from_steps(low, steps)[used] if listed else used + low
    return _range_decode(payload, alphabet, counts[used])


ENTROPY = Coder("entropy", options, decode)
