"""The language model against `transformers`: normalisation, rotary positions, attention, the whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
)

from engine.data import language, sets
from engine.net import zoo
from engine.net.zoo.llama import LanguageModel, turned

PLACES = 40
NEAR = 1e-5
CONFIG = LlamaConfig(
    vocab_size=language.TOKENS,
    hidden_size=128,
    intermediate_size=341,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=language.PLACES,
    rms_norm_eps=1e-6,
    tie_word_embeddings=True,
    attn_implementation="eager",
)
THEIRS = {  # our name -> theirs
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.out": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
    "norm1": "input_layernorm",
    "norm2": "post_attention_layernorm",
}


@pytest.fixture(scope="module")
def ours() -> LanguageModel:
    net = zoo.build(zoo.load("glass-en"))
    assert isinstance(net, LanguageModel)
    return net


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, PLACES, 128, generator=torch.Generator().manual_seed(0))


def halves(weight: Tensor, size: int) -> Tensor:
    """Rows of queries or keys in their order: of each head the first of all pairs, then the second."""
    return weight.unflatten(0, (-1, size // 2, 2)).transpose(1, 2).flatten(0, 2)


def angles_of(net: LanguageModel) -> Tensor:
    steps = torch.arange(0, net.size, 2, dtype=torch.float32) / net.size
    return torch.arange(PLACES, dtype=torch.float32).unsqueeze(1) * 10_000.0**-steps


def rotary(x: Tensor) -> tuple[Tensor, Tensor]:
    cos, sin = LlamaRotaryEmbedding(CONFIG)(x, torch.arange(PLACES).unsqueeze(0))
    return cos, sin


def future() -> Tensor:
    return torch.full((PLACES, PLACES), float("-inf")).triu(1)


def test_normalisation(ours: LanguageModel, x: Tensor) -> None:
    theirs = LlamaRMSNorm(128, eps=1e-6)
    theirs.weight.data = ours.layers[2].norm1.weight.data
    with torch.no_grad():
        assert float((ours.layers[2].norm1(x) - theirs(x)).abs().max()) < NEAR


def test_rotary_positions(ours: LanguageModel) -> None:
    """Theirs turn the first half of a head with the second, ours neighbours: the same in another order."""
    query = torch.randn(2, 4, PLACES, ours.size, generator=torch.Generator().manual_seed(1))

    def moved(x: Tensor) -> Tensor:
        return torch.cat([x[..., 0::2], x[..., 1::2]], -1)

    expected = apply_rotary_pos_emb(moved(query), moved(query), *rotary(query))[0]
    assert float((moved(turned(query, angles_of(ours))) - expected).abs().max()) < NEAR


@pytest.mark.parametrize("layer", [0, 3])
def test_attention(layer: int, ours: LanguageModel, x: Tensor) -> None:
    own, theirs = ours.layers[layer].attention, LlamaAttention(CONFIG, 0).eval()
    theirs.q_proj.weight.data = halves(own.query.weight.data, own.size)
    theirs.k_proj.weight.data = halves(own.key.weight.data, own.size)
    theirs.v_proj.weight.data, theirs.o_proj.weight.data = own.value.weight.data, own.out.weight.data
    with torch.no_grad():
        given = own(x, angles_of(ours), future())
        expected = theirs(x, position_embeddings=rotary(x), attention_mask=future()[None, None])[0]
    assert float((given - expected).abs().max()) < NEAR


def test_the_whole_model(ours: LanguageModel) -> None:
    state = {"model.embed_tokens.weight": ours.tokens.weight.data, "model.norm.weight": ours.norm.weight.data}
    for number, decoder in enumerate(ours.layers):
        for name, other in THEIRS.items():
            weight = decoder.get_submodule(name).weight.data
            is_turned = name in ("attention.query", "attention.key")
            state[f"model.layers.{number}.{other}.weight"] = (
                halves(weight, ours.size) if is_turned else weight
            )
    theirs = LlamaForCausalLM(CONFIG).eval()
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], [])  # tied: it is the table of tokens
    window = sets.load("language").test.images[:1]
    with torch.no_grad():
        expected = theirs(window).logits
        shares = [each.softmax(-1) for each in (ours(window).transpose(1, 2), expected)]
    assert float((shares[0] - shares[1]).abs().max()) < NEAR
