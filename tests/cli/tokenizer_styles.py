"""Small tokenizers built as those of released models are, and texts that tell them apart."""

import json
import unicodedata

from conftest import REPOSITORY
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

BOOK = (REPOSITORY / "examples/text/kjv.txt").read_text()
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{ENDING}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{ENDING}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SENTENCES = [
    "Grüße aus Köln, schöne Straße! L'été arrive, ça ira; où est-il né? ¿Dónde está el niño? İstanbul’da ılık.",
    "Привет, мир! Как дела? Ёлка и щука. Γειά σου Κόσμε. שלום עולם مرحبا بالعالم १२३ ๑๒๓ ٣٤٥",
    "日本語のテキストです。中文文本，没有空格。한국어 문장입니다. ｆｕｌｌｗｉｄｔｈ　１２３",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 👍🏽 ☃️ naïve café — “quotes” … ½ Ⅳ ² ﬁ ﬂ ſ K",
    "def f(x: int) -> str:\n    if x >= 10:\n\t\treturn f'{x!r:>8}'\r\n    return \"no\"  # TODO: 1234567890\n\n\n",
    "I'll say we've they're he'd it's I'm don't I'LL WE'VE THEY'RE HE'D IT'S I'M DON'T 'Sst 'ſ",
    "tabs\t\tand   runs     of  spaces   \n  \n\n   \r\n\r\r\n end  ",
    "3.14159 1,000,000 0x1F 12345678901234567890 2024-01-31T23:59:59Z v1.2.3-rc4 -- // --",
]
SPECIAL = "a<|endoftext|>b <|endoftext|> <|end<|endoftext|>of|><|endoftext|> <tool> <tools> word sword\n <tool> \n"


def draw(rng, size):
    """About `size` characters of what tokenizers care about, not in any normal form."""
    text = ""
    while len(text) < size:
        kind = rng.random()
        if kind < 0.4:
            begin = rng.randrange(len(BOOK))
            text += BOOK[begin : begin + rng.randrange(3000)]
        elif kind < 0.7:
            text += unicodedata.normalize(rng.choice(["NFC", "NFD"]), rng.choice(SENTENCES))
        elif kind < 0.85:
            text += rng.choice([" ", "\n", "\n\n  ", " \r\n", "a", "9", "日本", "é", "e\u0301"]) * rng.randrange(1, 1500)
        else:
            text += rng.choice([SPECIAL, "<tool>", "\u0301\u0301", "<|endoftext|>", "\u00a0", "\ufeff"])
    return text


def trained(pre_tokenizer, normalizer=None, alphabet=True):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.normalizer = normalizer or normalizers.Sequence([])
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()) if alphabet else [], show_progress=False
    )
    tokenizer.train_from_iterator(BOOK[:100_000].splitlines(keepends=True) + 10 * SENTENCES, trainer)
    names = [AddedToken(name, special=True, normalized=False) for name in ("<|endoftext|>", "<|end")]
    tokenizer.add_tokens([*names, AddedToken("<tool>", lstrip=True, rstrip=True), AddedToken("word", single_word=True)])
    return tokenizer


def bytes_after(*steps, **options):
    steps = [pre_tokenizers.Split(step, "isolated") if isinstance(step, (str, Regex)) else step for step in steps]
    options = dict(add_prefix_space=False, use_regex=False) | options
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(**options)])


def byte_fallback(normalizer, pre_tokenizer):
    """Text whose words begin with U+2581; characters without a token become bytes."""
    about = json.loads(trained(pre_tokenizers.Metaspace(), alphabet=False).to_str())["model"]
    vocabulary = about["vocab"]
    for name in ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]:
        vocabulary.setdefault(name, len(vocabulary))
    merges = [tuple(merge) for merge in about["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.add_tokens([AddedToken("<|endoftext|>", special=True, normalized=False)])
    return tokenizer


def bert():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=500, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(BOOK[:50_000].splitlines(), trainer)
    return tokenizer


def unigram(split):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=500, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(BOOK[:50_000].splitlines(), trainer)
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=split)
    return tokenizer


LLAMA2_STEPS = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
DIGITS = pre_tokenizers.Digits(individual_digits=True)
STYLES = {
    "gpt2": lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "llama3": lambda: trained(bytes_after(Regex(LLAMA3))),
    "qwen": lambda: trained(bytes_after(Regex(QWEN)), normalizers.NFC()),
    "o200k": lambda: trained(bytes_after(Regex(O200K))),
    "deepseek": lambda: trained(bytes_after(Regex(r"\p{N}{1,3}"), Regex("[一-龥぀-ゟ゠-ヿ]+"), "--", Regex(QWEN))),
    "smollm": lambda: trained(bytes_after(DIGITS, use_regex=True)),
    "prefix space": lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "removed": lambda: trained(bytes_after(pre_tokenizers.Split(Regex(r"\s+"), "removed"))),
    "merged with previous": lambda: trained(bytes_after(pre_tokenizers.Split(Regex(r"\s"), "merged_with_previous"))),
    "scripts": lambda: trained(bytes_after(pre_tokenizers.UnicodeScripts(), DIGITS)),
    "hidden blanks": lambda: trained(bytes_after(Regex(r"[^\s]+")), normalizers.Replace(" ", "▁")),
    "quotes": lambda: trained(bytes_after(Regex('"[^"]*"|[^"]'))),
    "llama2": lambda: byte_fallback(normalizers.Sequence(LLAMA2_STEPS), None),
    "mistral": lambda: byte_fallback(None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False)),
    "gemma": lambda: byte_fallback(normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous")),
    "bert": bert,
    "t5": lambda: unigram(split=True),
    "unigram without words": lambda: unigram(split=False),
}
# Those whose patterns may look anywhere, or whose model has no place to cut.
ENCODED_WHOLE = {"quotes", "hidden blanks", "unigram without words"}
