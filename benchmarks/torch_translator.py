"""The translator that whoever takes torch.nn.Transformer builds around it, with the weights of one of ours."""

import math
from types import SimpleNamespace

import torch
from torch import nn

from modeling_vanilla import VanillaForConditionalGeneration
from modeling_vanilla.embeddings import sinusoid_table

NAMES = {"self_attn": "self_attn", "cross_attn": "multihead_attn"}
"""Attention of our layers, and of theirs."""


def attention(target: nn.MultiheadAttention, source: nn.Module) -> None:
    """Copy one attention: theirs holds queries, keys and values in one matrix."""
    for kind, stacked in (("weight", target.in_proj_weight), ("bias", target.in_proj_bias)):
        stacked.copy_(torch.cat([getattr(getattr(source, f"{name}_proj"), kind) for name in "qkv"]))
    target.out_proj.load_state_dict(source.out_proj.state_dict())


@torch.no_grad()
def layer(target: nn.Module, source: nn.Module) -> None:
    """Copy one layer; the dropout between the two products of the feed-forward network, which the paper does not have, is ours."""
    names = [name for name in NAMES if hasattr(source, name)]
    for name in names:
        attention(getattr(target, NAMES[name]), getattr(source, name))
    for number, name in enumerate([*names, "feed_forward"], start=1):
        getattr(target, f"norm{number}").load_state_dict(getattr(source, f"{name}_norm").state_dict())
    for number in (1, 2):
        linear = getattr(source.feed_forward, f"fc{number}")
        getattr(target, f"linear{number}").load_state_dict(linear.state_dict())
    target.dropout.p = source.feed_forward.dropout.p


class TorchTranslator(nn.Module):
    """torch.nn.Transformer between embeddings, sinusoids and a tied head (Vaswani et al. 2017, fig. 1), for batches without padding."""

    def __init__(self, ours: VanillaForConditionalGeneration):
        super().__init__()
        config = ours.config
        self.shift = ours.prepare_decoder_input_ids_from_labels
        self.scale = math.sqrt(config.d_model)
        self.embedding = nn.Embedding.from_pretrained(ours.get_input_embeddings().weight.clone(), freeze=False)
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("positions", sinusoid_table(config.max_position_embeddings, config.d_model))
        settings = dict(d_model=config.d_model, nhead=config.num_heads, dim_feedforward=config.d_ff)
        settings |= dict(dropout=config.dropout, layer_norm_eps=config.layer_norm_eps, batch_first=True)
        # Without their last norms, which post-norm of the paper does not have.
        encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(**settings), config.num_layers, enable_nested_tensor=False
        )
        decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**settings), config.num_decoder_layers)
        self.transformer = nn.Transformer(custom_encoder=encoder, custom_decoder=decoder, **settings)
        for side in ("encoder", "decoder"):
            for pair in zip(getattr(self.transformer, side).layers, getattr(ours.model, side).layers, strict=True):
                layer(*pair)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Map ids (B, T) to vectors (B, T, D)."""
        return self.dropout(self.embedding(ids) * self.scale + self.positions[: ids.shape[1]])

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor) -> SimpleNamespace:
        """Return the loss of labels (B, T) for a source (B, S)."""
        if not attention_mask.all():
            raise ValueError("attention_mask must hold ones alone: this peer knows no padding")
        causal = nn.Transformer.generate_square_subsequent_mask(labels.shape[1], labels.device, self.positions.dtype)
        states = self.transformer(
            self.embed(input_ids), self.embed(self.shift(labels)), tgt_mask=causal, tgt_is_causal=True
        )
        logits = nn.functional.linear(states, self.embedding.weight)
        return SimpleNamespace(loss=nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()))

    def set_attn_implementation(self, kernel: str) -> None:
        """Take the one kernel that torch chooses."""
