"""`generate` in every mode, against loops over whole forwards: the cache, padding and beams change no token.

What is expected never comes from `generate`: with a cache that is lost, two ways to call it are wrong alike.
"""

import pytest
import torch
from transformers import DynamicCache, EncoderDecoderCache, StaticCache

from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration
from modeling_vanilla.cache_name import CACHE

VARIANTS = ("encoder-decoder", "decoder")
CACHES = {"none": {"use_cache": False}, "dynamic": {}, "static": {"cache_implementation": "static"}}
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@torch.no_grad()
def last_logits(model, source: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Return the logits (B, V) after texts (B, T) by one forward over all of them; no cache, no padding, no mask."""
    inputs = {"input_ids": texts}
    if model.config.is_encoder_decoder:
        inputs = {"input_ids": source.expand(len(texts), -1), "decoder_input_ids": texts}
    return model(**inputs, use_cache=False).logits[:, -1]


def begin(model, source: torch.Tensor) -> torch.Tensor:
    """Return what a text starts with: the prompt, or the decoder's start token."""
    starts = torch.full((len(source), 1), model.config.decoder_start_token_id or 0)
    return starts if model.config.is_encoder_decoder else source


def greedy(model, source: torch.Tensor, steps: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Generate for rows of one length by running the whole texts anew at each step, without `generate`."""
    texts, logits = begin(model, source), []
    for _ in range(steps):
        logits.append(last_logits(model, source, texts))
        texts = torch.cat([texts, logits[-1].argmax(-1, keepdim=True)], 1)
    return texts, logits


def beam_search(model, source: torch.Tensor, beams: int, steps: int) -> torch.Tensor:
    """Return the best text (1, T) of a beam search for one row, by whole forwards and without an end token."""
    texts, sums = begin(model, source), torch.zeros(1)
    for _ in range(steps):
        log_p = sums[:, None] + last_logits(model, source, texts).log_softmax(-1)  # (beams, V)
        sums, best = log_p.flatten().topk(beams)
        texts = torch.cat([texts[best // log_p.shape[1]], best[:, None] % log_p.shape[1]], 1)
    return texts[:1]


@pytest.fixture
def endless(build):
    """Return a factory of models without an end token, so that every row gets all its tokens.

    They are untied: with random weights a tied model mostly repeats the token that it reads.
    """

    def make(variant: str, **overrides):
        return build(variant, eos_token_id=None, tie_word_embeddings=False, **overrides)

    return make


def start_of(model, source: torch.Tensor) -> int:
    return 1 if model.config.is_encoder_decoder else source.shape[1]


@pytest.mark.parametrize("kernel", ("eager", "sdpa"))
@pytest.mark.parametrize("positions", ("sinusoidal", "learned"))
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_greedy_equals_a_loop_without_cache(endless, tokens, variant, cache, positions, kernel):
    model = endless(variant, positions=positions, attn_implementation=kernel, norm_order="pre")
    source = tokens(1, 5)
    expected, logits = greedy(model, source, 8)
    out = model.generate(
        source,
        do_sample=False,
        max_new_tokens=8,
        return_dict_in_generate=True,
        output_logits=True,
        **CACHES[cache],
    )
    assert torch.equal(out.sequences, expected)
    assert len(set(expected[0].tolist())) > 2  # a model that repeats one token would prove little
    torch.testing.assert_close(out.logits, tuple(logits), **CLOSE)


# A decoder alone continues after its last token, so it is padded on the left.
@pytest.mark.parametrize(
    ("variant", "side"), [("encoder-decoder", "left"), ("encoder-decoder", "right"), ("decoder", "left")]
)
@pytest.mark.parametrize("beams", (1, 3))
@pytest.mark.parametrize("cache", CACHES)
def test_a_padded_batch_equals_loops_over_single_rows(endless, tokens, variant, cache, beams, side):
    model = endless(variant)
    options = {"do_sample": False, "num_beams": beams, "max_new_tokens": 7} | CACHES[cache]
    rows = [tokens(1, length, seed=length) for length in (6, 2, 4)]
    fill = [(torch.zeros(1, 6 - r.shape[1], dtype=torch.long), r) for r in rows]
    ids = torch.cat([torch.cat(f if side == "left" else f[::-1], 1) for f in fill])
    together = model.generate(ids, attention_mask=ids.ne(0).long(), **options)
    for row, got in zip(rows, together, strict=True):
        alone = beam_search(model, row, beams, 7)[0]
        assert torch.equal(got[start_of(model, ids) :], alone[start_of(model, row) :])


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_end_at_their_end_token(endless, tokens, variant):
    model = endless(variant)
    rows = [greedy(model, tokens(2, 5)[i : i + 1], 8)[0] for i in range(2)]
    start = start_of(model, tokens(2, 5))
    end = rows[0][0, start + 2].item()
    out = model.generate(tokens(2, 5), do_sample=False, max_new_tokens=8, eos_token_id=end, pad_token_id=0)
    for row, got in zip(rows, out, strict=True):
        made = row[0].tolist()
        stop = next((i for i in range(start, len(made)) if made[i] == end), len(made)) + 1
        assert got.tolist() == (made[:stop] + [0] * len(made))[: len(got)]


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_sampling_follows_the_seed_and_not_the_cache(endless, tokens, variant, cache):
    model = endless(variant)

    texts = begin(model, tokens(2, 5))
    torch.manual_seed(1)
    for _ in range(9):
        chances = last_logits(model, tokens(2, 5), texts).softmax(-1)
        texts = torch.cat([texts, torch.multinomial(chances, 1)], 1)

    def sample(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return model.generate(tokens(2, 5), do_sample=True, top_k=0, max_new_tokens=9, **CACHES[cache])

    assert torch.equal(sample(1), texts)
    assert not torch.equal(sample(2), texts)


@torch.no_grad()
def log_likelihood(model, source: torch.Tensor, sequences: torch.Tensor) -> torch.Tensor:
    """Return log p (B,) of what was generated in sequences (B, T) from one source (1, S), by one forward."""
    start = start_of(model, source)
    inputs = {"input_ids": sequences[:, :-1]}
    if model.config.is_encoder_decoder:
        inputs = {"input_ids": source.expand(len(sequences), -1), "decoder_input_ids": sequences[:, :-1]}
    log_p = model(**inputs).logits.log_softmax(-1)[:, start - 1 :]
    return log_p.gather(-1, sequences[:, start:, None]).sum((1, 2))


@pytest.mark.parametrize("variant", VARIANTS)
def test_wide_beams_find_the_most_likely_pair(endless, tokens, variant):
    # Two steps with as many beams as tokens is a search through all pairs.
    model, source = endless(variant), tokens(1, 5)
    out = model.generate(
        source,
        do_sample=False,
        num_beams=31,
        max_new_tokens=2,
        length_penalty=0.0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    prefix = out.sequences[:, : start_of(model, source)]
    pairs = torch.cartesian_prod(torch.arange(31), torch.arange(31))
    every = torch.cat([prefix.expand(len(pairs), -1), pairs], 1)
    scores = log_likelihood(model, source, every)
    assert torch.equal(out.sequences[0], every[scores.argmax()])
    torch.testing.assert_close(out.sequences_scores[0], scores.max(), **CLOSE)


@pytest.mark.parametrize("kind", ("dynamic", "static"))
@pytest.mark.parametrize("variant", VARIANTS)
def test_continuing_from_a_cache(endless, tokens, variant, kind):
    """Tokens fed in pieces of 4, 2 and 1, after a cache that the caller made, give the logits of one forward."""
    model = endless(variant)
    ids = tokens(2, 7)
    fixed = {"encoder_outputs": model.get_encoder()(tokens(2, 5, seed=1))} if variant == "encoder-decoder" else {}
    name = "decoder_input_ids" if fixed else "input_ids"
    whole = model(**fixed, **{name: ids}, use_cache=False).logits
    config = model.config.get_text_config(decoder=True)
    if kind == "dynamic":
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache()) if fixed else DynamicCache()
    elif fixed:
        cache = EncoderDecoderCache(
            StaticCache(config=config, max_cache_len=9), StaticCache(config=config, max_cache_len=5)
        )
    else:
        cache = StaticCache(config=config, max_cache_len=9)
    pieces = [model(**fixed, **{name: p}, cache=cache).logits for p in ids.split([4, 2, 1], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), whole, **CLOSE)
    assert int(cache.get_seq_length()) == 7


def test_continuing_a_padded_batch_from_a_cache(endless, tokens):
    model = endless("decoder")
    ids = tokens(2, 7)
    mask = torch.tensor([[1] * 7, [0] * 3 + [1] * 4])
    whole = model(ids, attention_mask=mask).logits
    first = model(ids[:, :5], attention_mask=mask[:, :5])
    second = model(ids[:, 5:], attention_mask=mask, cache=first[CACHE]).logits
    torch.testing.assert_close(torch.cat([first.logits, second], 1)[mask.bool()], whole[mask.bool()], **CLOSE)


@pytest.mark.parametrize("cache", ("dynamic", "static"))
def test_generation_goes_on_from_returned_caches(endless, tokens, cache):
    model = endless("decoder")
    options = {"do_sample": False, "return_dict_in_generate": True}
    whole, _ = greedy(model, tokens(2, 5), 8)
    kwargs = {}
    if cache == "static":
        kwargs[CACHE] = StaticCache(config=model.config, max_cache_len=16)
    begun = model.generate(tokens(2, 5), max_new_tokens=3, **options, **kwargs)
    rest = model.generate(begun.sequences, max_new_tokens=5, **{CACHE: begun[CACHE]}, **options)
    assert torch.equal(rest.sequences, whole)


@pytest.mark.parametrize("variant", VARIANTS)
def test_shortcuts_change_no_token(endless, tokens, variant):
    """Drafts of another model, of the prompt, and a prompt read in chunks: what is rejected leaves the cache clean."""
    model, source = endless(variant), tokens(1, 5).repeat(1, 2)
    options = {"do_sample": False, "max_new_tokens": 8}
    expected, _ = greedy(model, source, 8)
    shortcuts = [{"assistant_model": endless(variant, num_layers=1)}, {"prompt_lookup_num_tokens": 2}]
    if variant == "decoder":
        shortcuts.append({"prefill_chunk_size": 3})
    for shortcut in shortcuts:
        assert torch.equal(model.generate(source, **options, **shortcut), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_generation_from_embeddings(endless, tokens, variant):
    model, source = endless(variant), tokens(2, 5)
    vectors = model.get_input_embeddings()(source)
    made = model.generate(inputs_embeds=vectors, do_sample=False, max_new_tokens=6)
    assert torch.equal(made[:, -6:], greedy(model, source, 6)[0][:, -6:])


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("depths", ((1, 3), (3, 1)))
def test_encoder_and_decoder_of_different_depths(endless, tokens, depths, cache):
    model = endless("encoder-decoder", num_layers=depths[0], num_decoder_layers=depths[1], attn_implementation="eager")
    expected, _ = greedy(model, tokens(1, 5), 6)
    out = model.generate(
        tokens(1, 5),
        do_sample=False,
        max_new_tokens=6,
        return_dict_in_generate=True,
        output_attentions=True,
        output_hidden_states=True,
        **CACHES[cache],
    )
    assert torch.equal(out.sequences, expected)
    assert len(out.encoder_attentions) == depths[0]
    assert len(out.decoder_attentions[0]) == len(out.cross_attentions[0]) == depths[1]
    assert len(out.decoder_hidden_states[0]) == depths[1] + 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_shapes_of_scores_attentions_and_hidden_states(endless, tokens, variant):
    model = endless(variant, attn_implementation="eager")
    out = model.generate(
        tokens(2, 5),
        do_sample=False,
        max_new_tokens=4,
        return_dict_in_generate=True,
        output_scores=True,
        output_attentions=True,
        output_hidden_states=True,
    )
    both, start = variant == "encoder-decoder", start_of(model, tokens(2, 5))
    attentions = out.decoder_attentions if both else out.attentions
    states = out.decoder_hidden_states if both else out.hidden_states
    assert [tuple(s.shape) for s in out.scores] == [(2, 31)] * 4
    for step in range(4):
        queries = start if step == 0 else 1
        assert [tuple(a.shape) for a in attentions[step]] == [(2, 4, queries, start + step)] * 2
        assert [tuple(s.shape) for s in states[step]] == [(2, queries, 24)] * 3
        if both:
            assert [tuple(a.shape) for a in out.cross_attentions[step]] == [(2, 4, 1, 5)] * 2
        torch.testing.assert_close(attentions[step][0].sum(-1), torch.ones(2, 4, queries))


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_generating_past_the_last_position_is_an_error(endless, tokens, variant, cache):
    model = endless(variant, max_position_embeddings=9)
    options = {"do_sample": False} | CACHES[cache]
    room = 9 - start_of(model, tokens(1, 5))
    # The last token that is made is never read, so one more than the table fits.
    assert model.generate(tokens(1, 5), max_new_tokens=room + 1, **options).shape[1] == 10
    with pytest.raises(ValueError, match=r"10.*max_position_embeddings=9"):
        model.generate(tokens(1, 5), max_new_tokens=room + 4, **options)


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_compiled_step_serves_every_length(endless, tokens, variant):
    """With a static cache the compiled step has no graph break and is compiled once (`_can_compile_fullgraph`)."""
    model = endless(variant)
    config = model.config.get_text_config(decoder=True)
    ids, cache, fixed, name = tokens(2, 6), StaticCache(config=config, max_cache_len=8), {}, "input_ids"
    if variant == "encoder-decoder":
        cache = EncoderDecoderCache(cache, StaticCache(config=config, max_cache_len=5))
        fixed, name = {"encoder_outputs": model.get_encoder()(tokens(2, 5, seed=1))}, "decoder_input_ids"
    whole = model(**fixed, **{name: ids}, use_cache=False).logits
    torch._dynamo.reset()
    step = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad(), torch._dynamo.config.patch(error_on_recompile=True):
        pieces = [model(**fixed, **{name: ids[:, :2]}, cache=cache).logits]
        pieces += [step(**fixed, **{name: i}, cache=cache).logits for i in ids[:, 2:].split(1, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), whole, **CLOSE)


@pytest.mark.parametrize("settings", [{}, {"cache_implementation": "static"}, {"use_cache": False}, {"num_beams": 3}])
def test_values_may_be_wider_than_keys(settings):
    """Rows (B) of Table 3: every way to decode agrees with forward passes over the whole prefix."""
    torch.manual_seed(0)
    config = VanillaConfig.tiny(head_dim=2, v_head_dim=10, tie_word_embeddings=False, eos_token_id=None)
    model = VanillaForConditionalGeneration(config).eval()
    source = torch.randint(7, 97, (2, 5))
    written = model.generate(source, max_new_tokens=6, do_sample=False, **settings)
    rows = [beam_search(model, row[None], settings.get("num_beams", 1), 6) for row in source]
    assert torch.equal(written, torch.cat(rows))
