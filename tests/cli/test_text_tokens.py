"""Long texts in windows: the ids are exactly those of the whole text, wherever the windows end (memo/corpus/text_tokens.py)."""

import functools
import importlib.util
import itertools
import random

import pytest
from conftest import REPOSITORY
from tokenizer_styles import BOOK, ENCODED_WHOLE, LLAMA3, O200K, QWEN, STYLES, draw, trained
from tokenizers import AddedToken, pre_tokenizers

spec = importlib.util.spec_from_file_location("text_tokens", REPOSITORY / "memo/corpus/text_tokens.py")
text_tokens = importlib.util.module_from_spec(spec)
spec.loader.exec_module(text_tokens)

made = functools.cache(lambda style: STYLES[style]())
EVERY_STYLE = pytest.mark.parametrize("style", STYLES)


def in_parts(rng, text):
    """As a file is read: in parts that end anywhere."""
    ends = sorted(rng.randrange(len(text)) for _ in range(5)) if text else []
    return [text[begin:end] for begin, end in zip([0, *ends], [*ends, len(text)])]


def encoded(encoder, parts):
    return list(itertools.chain(*encoder.encode(parts)))


@EVERY_STYLE
def test_texts_of_every_kind(style):
    tokenizer = made(style)
    encoder = text_tokens.Encoder(tokenizer, window=1500, overlap=1200)
    rng = random.Random(5)
    for size in (0, 1, 1000, 2700, 2701, *(rng.randrange(20_000) for _ in range(6))):
        text = draw(rng, size)[:size]
        assert encoded(encoder, in_parts(rng, text)) == tokenizer.encode(text, add_special_tokens=False).ids


@EVERY_STYLE
def test_windows_that_end_inside_of_what_belongs_together(style):
    """A letter and its accent, the words of an added token, a run of blanks, a number: at every place near a border."""
    tokenizer = made(style)
    encoder = text_tokens.Encoder(tokenizer, window=1500, overlap=1200)
    pieces = "e\u0301 ", "<|endoftext|>", "  \n\n ", "1234567", "\r\n", " word", "한국", "'s "
    for shift, piece in enumerate(pieces):
        text = BOOK[:shift] + "and so " * 150 + piece * 400 + "and so on " * 300
        assert encoded(encoder, [text]) == tokenizer.encode(text, add_special_tokens=False).ids, piece


@EVERY_STYLE
def test_no_more_than_windows_are_in_memory(style):
    """A book is never encoded as a whole, but by tokenizers that might look anywhere."""
    text, longest = BOOK[:60_000], 0

    class Watched(text_tokens.Encoder):
        def _encode(self, windows):
            nonlocal longest
            longest = max([longest, *(len(text) for _, text in windows)])
            return super()._encode(windows)

    ids = encoded(Watched(made(style), window=4000, overlap=2000), [text])
    assert ids == made(style).encode(text, add_special_tokens=False).ids
    assert longest == (len(text) if style in ENCODED_WHOLE else 6000)


@pytest.mark.parametrize("pattern, words", [
    (r"\s+", 1), (r"a|bb", 2), (LLAMA3, 19), (QWEN, 19), (O200K, 23), (r"[a&&[^b]]+", 1), (r"\p{N}{1,3}", 1),
    (r".*", None), (r".+?x", None), (r"(ab )+", None), (r'"[^"]*"', None), (r"[^<]{2,}", None), (r"(?<=a)b", None),
    (r"(a)\1", None), (r"(?x) a +", None), (r"[\p{L} ]+", None), (r"(?s:.*)", None), (r"(?~END)", None),
])  # fmt: skip
def test_how_far_a_pattern_looks(pattern, words):
    """In words; None: there is no bound."""
    found = text_tokens.pattern_reach(pattern)
    assert (found is None) == (words is None) and (words is None or words <= found <= 3 * words)


def test_ids_of_an_added_token_longer_than_what_windows_share():
    tokenizer = trained(pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.add_tokens([AddedToken("x" * 300, normalized=False)])
    text = ("and so on " * 37 + "x" * 300) * 20
    assert (
        encoded(text_tokens.Encoder(tokenizer, window=1500, overlap=1200), [text])
        == tokenizer.encode(text, add_special_tokens=False).ids
    )
