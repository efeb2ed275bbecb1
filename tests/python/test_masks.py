"""Masks, padding and positions against the plain model: loss and every gradient. What a mask says decides, at any length, or is
refused by name."""

import contextlib

import families
import pytest
import torch
import transformers as hf
from transformers import masking_utils
from transformers.models.llama import modeling_llama

import memo
from memo import masks, visibility

OPTIONS = dict(context=512, block=128, strategy="recompute", check=False)
MODELS = {
    "llama": {},
    "llama eager": dict(attn_implementation="eager"),
    "mistral": {},  # a window
    "gemma2": {},  # eager, soft caps, windows in some layers
    "gemma3": {},
}


def make(name, **changes):
    family, *_ = name.split()
    if family.startswith("gemma"):
        changes["layer_types"] = ["sliding_attention", "full_attention"]
    model = families.make(family, num_hidden_layers=2, **changes)
    if "attn_implementation" in MODELS.get(name, {}):
        model.set_attn_implementation(MODELS[name]["attn_implementation"])
    return model


def expect_same(ours, plain, bound=1e-5):
    """Gradients that are 0 in theory, of queries and keys where each token sees one, are rounding of the others."""
    assert abs(ours[0] - plain[0]) <= bound * abs(plain[0])
    assert ours[1].keys() == plain[1].keys()
    largest = max(g.norm().item() for g in plain[1].values())
    for name, g in plain[1].items():
        assert (ours[1][name] - g).norm().item() <= bound * max(g.norm().item(), 1e-2 * largest), name


def expect_plain(model, options=OPTIONS, **inputs):
    plain = families.step(model, **inputs)
    with memo.attached(model, **options):
        expect_same(families.step(model, **inputs), plain)
    return plain


def refuses(model, match, error=memo.UnsupportedModel, **inputs):
    with memo.attached(model, **OPTIONS), pytest.raises(error, match=match):
        model(**inputs).loss.backward()


def tokens(*shape, seed=3):
    return torch.randint(1, 97, shape, generator=torch.Generator().manual_seed(seed))


PADDINGS = {  # of 4 rows: tokens of padding, [first, last)
    "left": [(), (0, 40), (0, 130), (0, 149)],
    "right": [(), (100, 150), (1, 150), (149, 150)],
    "both sides": [(0, 30, 120, 150), (0, 1, 149, 150), (0, 64, 128, 150), (0, 100, 101, 150)],
    "between": [(20, 50), (0, 10, 40, 60, 140, 150), (64, 128), (1, 149)],
    "whole rows": [(0, 150), (), (0, 150), (0, 75)],
}


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("name", MODELS)
def test_padding_with_labels_on_all_tokens(name, padding):
    ids, mask = tokens(4, 150), torch.ones(4, 150, dtype=torch.long)
    for row, ends in enumerate(PADDINGS[padding]):
        for first, last in zip(ends[::2], ends[1::2]):
            mask[row, first:last] = 0
    expect_plain(make(name), options=OPTIONS | dict(context=600), input_ids=ids, labels=ids, attention_mask=mask)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_the_first_token_behind_left_padding_is_a_label(name):
    ids, mask = tokens(3, 150), torch.ones(3, 150, dtype=torch.long)
    mask[1, :40] = mask[2, :111] = 0
    expect_plain(make(name), input_ids=ids, labels=ids.masked_fill(mask == 0, -100), attention_mask=mask)
    one = torch.full_like(ids, -100)
    one[2, 111] = ids[2, 111]  # predicted by padding
    expect_plain(make(name), input_ids=ids, labels=one, attention_mask=mask)


@pytest.mark.parametrize("name", ["llama", "llama eager"])
def test_rows_of_two_tokens_and_one_of_them_padding(name):
    ids, mask = tokens(2, 2), torch.tensor([[0, 1], [1, 0]])
    expect_plain(make(name), input_ids=ids, labels=ids, attention_mask=mask)


@pytest.mark.parametrize("seed", range(12))
def test_random_padding_windows_and_chunks(seed, monkeypatch):
    random = torch.Generator().manual_seed(100 + seed)
    draw = lambda low, high: int(torch.randint(low, high, (1,), generator=random))
    batch, length = draw(1, 5), draw(2, 330)
    ids = tokens(batch, length, seed=seed)
    mask = None if seed % 4 == 0 else (torch.rand(batch, length, generator=random) < 0.7).long()
    if seed % 4 == 1:  # one range of tokens a row
        mask = torch.stack([(torch.arange(length) >= (a := draw(0, length))) & (torch.arange(length) < draw(a + 1, length + 2))
                            for _ in range(batch)]).long()
    model, local = make(["mistral", "llama"][seed % 2]), draw(1, 150)
    if seed % 2:
        model.config.attention_chunk_size = local
        monkeypatch.setattr(modeling_llama, "create_causal_mask", masking_utils.create_chunked_causal_mask)
    else:
        model.config.sliding_window = local
    if seed % 3 == 0:
        model.set_attn_implementation("eager")
    expect_plain(model, options=OPTIONS | dict(context=batch * length), input_ids=ids, labels=ids, attention_mask=mask)


def test_a_window_and_chunks_beyond_what_attach_looks_at(monkeypatch):
    ids, options = tokens(1, 2300), dict(context=2300, block=512, check=False)
    model = make("mistral")
    model.config.sliding_window = 2200
    expect_plain(model, options, input_ids=ids, labels=ids)
    monkeypatch.setattr(modeling_llama, "create_causal_mask", masking_utils.create_chunked_causal_mask)
    model = make("llama", attention_chunk_size=2200)
    expect_plain(model, options, input_ids=ids, labels=ids)


@pytest.mark.parametrize("length", [7, 64, 377])
def test_llama_4_s_chunks(length):
    config = hf.Llama4TextConfig(**families._LLAMA | dict(num_hidden_layers=4), intermediate_size_mlp=160, head_dim=16,
                                 attention_chunk_size=50, num_local_experts=2, interleave_moe_layer_step=5,
                                 no_rope_layers=[1] * 4, layer_types=["chunked_attention", "full_attention"] * 2)
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(config).train()
    ids = tokens(1, length)
    expect_plain(model, input_ids=ids, labels=ids)


# ---- masks that are given

def triangle(length, batch=1):
    return torch.ones(batch, 1, length, length, dtype=torch.bool).tril()


def added(mask, hidden=-torch.inf):
    return torch.where(mask, 0.0, hidden)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int, torch.float])
def test_masks_of_two_dimensions_of_any_dtype(dtype):
    ids, mask = tokens(2, 150), torch.ones(2, 150)
    mask[0, :20] = mask[1, 120:] = 0
    expect_plain(make("llama"), input_ids=ids, labels=ids, attention_mask=mask.to(dtype))


def packed(length, ends):
    document = sum((torch.arange(length) >= end).long() for end in ends)
    return triangle(length) & (document == document[:, None])


@pytest.mark.parametrize("how, name", [("boolean", "llama"), ("infinite", "llama"), ("least", "llama"),
                                       ("least", "llama eager")])
def test_masks_of_four_dimensions(how, name):
    ids, keep = tokens(2, 200), torch.ones(2, 200, dtype=torch.bool)
    keep[0, :30] = keep[1, 150:] = False
    turn = {"boolean": lambda mask: mask, "infinite": added,
            "least": lambda mask: added(mask, torch.finfo(torch.float32).min)}[how]
    cases = [triangle(200), packed(200, [1, 70, 199]), triangle(200, 2) & keep[:, None, None],
             triangle(200, 2) & keep[:, None, None] & keep[:, None, :, None], triangle(200).triu(-20),
             triangle(200, 2) & keep[:1, None, None] | torch.eye(200, dtype=torch.bool)]
    for mask in cases:
        inputs = dict(input_ids=ids, labels=ids, attention_mask=turn(mask))
        if (how, name) == ("least", "llama") and not mask.any(-1).all():
            refuses(make(name), "sees no key, and whose values are not all -inf", **inputs)
        else:
            expect_plain(make(name), **inputs)


def test_masks_by_kind_of_layer(ids):
    model, length = make("gemma3"), ids.shape[1]
    by_kind = {"full_attention": packed(length, [100]), "sliding_attention": packed(length, [77, 300]).triu(-60)}
    expect_plain(model, input_ids=ids, labels=ids, attention_mask=by_kind)


@pytest.mark.parametrize("match, mask", {
    "token 0 of row 0 sees token 1, behind it": lambda: triangle(40) | (torch.arange(40) < 10),
    "token 21 of row 0 sees is not all tokens of a range": lambda: triangle(40) & ~(
            (torch.arange(40)[:, None] > 20) & (torch.arange(40) == 5)),
    "no documents, window and padding": lambda: triangle(40) & (torch.arange(40) >= torch.arange(40)[:, None] // 2),
    "of shape": lambda: triangle(39),
    "differs from head to head": lambda: torch.cat([triangle(40), packed(40, [9]), triangle(40), triangle(40)], 1),
    "adds to the scores": lambda: added(triangle(40), -3.0),
    "of torch.int64": lambda: triangle(40).long(),
}.items())
def test_what_a_mask_says_that_attention_cannot_be_told_is_refused(match, mask):
    ids = tokens(1, 40)
    refuses(make("llama"), match, input_ids=ids, labels=ids, attention_mask=mask())


def test_masks_that_eager_attention_computes_otherwise_with_are_refused():
    ids = tokens(1, 40)
    refuses(make("llama eager"), "boolean attention mask of four", input_ids=ids, labels=ids, attention_mask=triangle(40))
    blind = triangle(40) & (torch.arange(40) > 3)
    refuses(make("llama eager"), "sees no key, and whose values are not all torch.finfo", input_ids=ids, labels=ids,
            attention_mask=added(blind))


def test_attention_in_both_directions_is_refused_by_what_the_mask_says():
    ids = tokens(1, 40)
    model = make("llama")
    with memo.attached(model, **OPTIONS):
        model.config.is_causal = False
        with pytest.raises(memo.UnsupportedModel, match="behind it|is_causal=False"):
            model(input_ids=ids, labels=ids).loss.backward()
        model.config.is_causal = True
        model(input_ids=ids, labels=ids).loss.backward()


def test_a_block_mask_is_refused():
    from torch.nn.attention.flex_attention import create_block_mask

    ids = tokens(1, 128)
    mask = create_block_mask(lambda b, h, q, k: q >= k, 1, None, 128, 128, device="cpu")
    refuses(make("llama"), "a BlockMask", input_ids=ids, labels=ids, attention_mask=mask)


# ---- positions

POSITIONS = {
    "documents": lambda: torch.cat([torch.arange(100), torch.arange(77), torch.arange(23)])[None].expand(2, -1),
    "of each row": lambda: torch.stack([torch.arange(200) % 150, torch.arange(200) % 33]),
    "that begin anywhere": lambda: torch.cat([torch.arange(100) + 5, torch.arange(100) - 7])[None],
    "with gaps": lambda: torch.arange(200)[None] * 2,
    "that repeat": lambda: torch.arange(200)[None] // 2,
    "all alike": lambda: torch.zeros(1, 200, dtype=torch.long),
}


@pytest.mark.parametrize("use_cache", [False, True, None])
@pytest.mark.parametrize("positions", POSITIONS)
def test_positions_tell_documents_where_they_tell_them_the_plain_model(positions, use_cache):
    ids = tokens(2, 200)
    inputs = dict(input_ids=ids, labels=ids, position_ids=POSITIONS[positions](), use_cache=use_cache)
    expect_plain(make("mistral"), **inputs)
    expect_plain(make("mistral"), attention_mask=torch.ones_like(ids), **inputs)


def test_a_cache_is_in_the_plain_call_as_its_configuration_and_checkpointing_say():
    ids, positions = tokens(1, 200), POSITIONS["documents"]()[:1]
    inputs = dict(input_ids=ids, labels=ids, position_ids=positions)
    with_cache = expect_plain(make("llama"), **inputs)[0]
    without = expect_plain(make("llama", use_cache=False), **inputs)[0]
    assert with_cache != without
    model = make("llama")
    model.gradient_checkpointing_enable()
    plain = families.step(model, **inputs)
    assert plain[0] == without
    with memo.attached(model, **OPTIONS):
        for _ in range(2):
            expect_same(families.step(model, **inputs), plain)


def test_chunks_within_documents(monkeypatch):
    monkeypatch.setattr(modeling_llama, "create_causal_mask", masking_utils.create_chunked_causal_mask)
    ids, positions = tokens(1, 200), POSITIONS["documents"]()[:1]
    expect_plain(make("llama", attention_chunk_size=30), input_ids=ids, labels=ids, position_ids=positions, use_cache=False)


def test_arguments_beside_a_mask_decide_nothing():
    ids = tokens(1, 200)
    ends = torch.tensor([0, 50, 200], dtype=torch.int)
    lengths = dict(cu_seq_lens_q=ends, cu_seq_lens_k=ends, max_length_q=150, max_length_k=150)
    expect_plain(make("llama"), input_ids=ids, labels=ids, **lengths)
    model = make("mistral")
    for layer in model.model.layers:
        layer.self_attn.sliding_window = 9  # what flash attention would go by
    expect_plain(model, input_ids=ids, labels=ids)


# ---- models whose masks are made around the decoder

def test_gemma_3_with_an_image_tower_and_text_alone():
    text = families.CONFIGS["gemma3"]()
    text.num_hidden_layers, text.layer_types = 3, ["sliding_attention", "full_attention", "sliding_attention"]
    vision = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8)
    torch.manual_seed(0)
    model = hf.Gemma3ForConditionalGeneration(hf.Gemma3Config(text_config=text.to_dict(), vision_config=vision,
                                                              image_token_index=96, boi_token_index=95, eoi_token_index=94))
    model.train()
    ids, mask = tokens(2, 150).clamp(max=90), torch.ones(2, 150, dtype=torch.long)
    mask[1, :70] = 0
    inputs = dict(input_ids=ids, labels=ids, token_type_ids=torch.zeros_like(ids))
    expect_plain(model, **inputs)
    expect_plain(model, attention_mask=mask, **inputs)
    positions = POSITIONS["of each row"]()[:, :150]
    expect_plain(model, **inputs | dict(token_type_ids=None), position_ids=positions)
    image = inputs | dict(token_type_ids=(torch.arange(150) // 20 == 3).long().expand(2, -1))
    refuses(model, "behind it", **image)


def test_qwen_2_vl_and_text_alone_with_positions_of_three_axes():
    text = families._LLAMA | dict(num_hidden_layers=2, rope_scaling=dict(rope_type="default", mrope_section=[2, 3, 3]))
    vision = dict(depth=1, embed_dim=16, hidden_size=64, num_heads=2, patch_size=8)
    torch.manual_seed(0)
    model = hf.Qwen2VLForConditionalGeneration(hf.Qwen2VLConfig(text_config=text, vision_config=vision, image_token_id=96,
                                                                video_token_id=95, vision_start_token_id=94)).train()
    ids, mask = tokens(2, 150).clamp(max=90), torch.ones(2, 150, dtype=torch.long)
    mask[1, :70] = 0
    expect_plain(model, input_ids=ids, labels=ids)
    expect_plain(model, input_ids=ids, labels=ids, attention_mask=mask)
    axes = torch.stack([torch.arange(150), torch.arange(150) // 3, torch.arange(150) % 7])[:, None].expand(-1, 2, -1)
    expect_plain(model, input_ids=ids, labels=ids, position_ids=axes)
    documents = torch.cat([torch.arange(100), torch.arange(50)]).expand(1, 2, -1)
    expect_plain(model, input_ids=ids, labels=ids, position_ids=torch.cat([documents, axes]), use_cache=False)


# ---- reading masks

@pytest.mark.parametrize("length", [50, 3000])
def test_functions_that_no_range_answers_are_refused(length):
    causal = masking_utils.causal_mask_function
    window = masking_utils.sliding_window_causal_mask_function(20)
    first = masking_utils.or_masks(window, masking_utils.and_masks(causal, lambda b, h, q, k: k < 4))
    holes = masking_utils.and_masks(causal, lambda b, h, q, k: (q - k) % 16 < 8)
    prefix = masking_utils.or_masks(causal, lambda b, h, q, k: k < 10)
    for function in (first, holes, prefix):
        with pytest.raises(memo.UnsupportedModel):
            visibility.of_function(function, False, 1, length, "cpu")
    first_keys = visibility.of_function(window, True, 2, length, "cpu")
    assert torch.equal(first_keys, (torch.arange(length) - 19).clamp_min(0).expand(2, -1))


def test_a_model_that_computes_with_its_mask_is_told():
    ids, model = tokens(2, 40), make("llama")
    padding = torch.ones_like(ids)
    padding[0, :9] = 0

    def forward(self, hidden_states, attention_mask=None, **kwargs):
        if attention_mask is not None:
            attention_mask = 1 - attention_mask.float()
        return type(self).__mro__[1].forward(self, hidden_states, attention_mask=attention_mask, **kwargs)

    for layer in model.model.layers:
        layer.__class__ = type("Computes", (type(layer),), {"forward": forward})
    refuses(model, "computes with its attention mask", (memo.UnsupportedModel, RuntimeError), input_ids=ids, labels=ids,
            attention_mask=padding)


def test_a_window_is_that_of_the_whole_sequence_where_ranks_have_parts_of_it():
    window = masks.interface(1, 100, 100, mask_function=masking_utils.sliding_window_causal_mask_function(150), local_size=150)
    split, alone = masks.Masks(1, 100, 100, ranks=2), masks.Masks(1, 100, 100)
    for each, expected in ((split, 150), (alone, 0)):
        each.read(window)
        assert each.core(window, 0).window == expected
    chunks = masking_utils.chunked_causal_mask_function(150, torch.zeros(1, dtype=torch.long))
    with pytest.raises(ValueError, match="a split sequence is one document"):
        split.read(masks.interface(1, 100, 100, mask_function=chunks, local_size=150))


def test_a_gpu_is_given_padding_before_and_behind_a_row_s_tokens_and_no_loss_of_the_latter():
    step = masks.Masks(2, 6, 12)
    hidden = torch.tensor([1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1], dtype=torch.bool)
    sight = visibility.Sight(visibility.causal(2, 6, "cpu"), hidden.view(2, 6))
    document_starts, window, blind = visibility.documents_and_window(sight)
    assert document_starts == [0, 2, 6] and window == 0 and blind.nonzero().flatten().tolist() == [0, 1]
    step._check_gpu(document_starts, hidden, blind)
    assert step.unsure.nonzero().flatten().tolist() == [10, 11]
    for token, refused in ((9, False), (10, True)):
        output = torch.zeros(2, 6, 3, requires_grad=True).clone()
        step.watch(output)
        loss = output.view(12, 3)[token].sum()
        with pytest.raises(ValueError, match="set their labels to -100") if refused else contextlib.nullcontext():
            loss.backward()
    with pytest.raises(memo.UnsupportedModel, match="between the tokens of a row"):
        step._check_gpu([0, 6], hidden.roll(2), blind)
