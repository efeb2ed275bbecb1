"""Makes tests/data/tokenizers: small byte-level BPE tokenizers in the styles of GPT-2, Llama 3 and Qwen, texts of many
kinds, and the ids that the tokenizers library gives them.

Run from anywhere: python tests/data/make_tokenizers.py
"""

import json
import random
import unicodedata
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = Path(__file__).parent
OUT = HERE / "tokenizers"
BOOK = (HERE.parents[1] / "examples/text/kjv.txt").read_text()

# As in the tokenizer.json of the released models.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

SENTENCES = [
    "Grüße aus Köln, schöne Straße! L'été arrive, ça ira; où est-il né? ¿Dónde está el niño? İstanbul’da ılık.",
    "Привет, мир! Как дела? Ёлка и щука. Γειά σου Κόσμε. שלום עולם مرحبا بالعالم १२३ ๑๒๓ ٣٤٥",
    "日本語のテキストです。中文文本，没有空格。한국어 문장입니다. ｆｕｌｌｗｉｄｔｈ　１２３",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 👍🏽 ☃️ naïve café — “quotes” … ½ Ⅳ ² ﬁ ﬂ ſ K",
    "def f(x: int) -> str:\n    if x >= 10:\n\t\treturn f'{x!r:>8}'\r\n    return \"no\"  # TODO: 1234567890\n\n\n",
    "#include <vector>\nint main() { std::vector<int> v(1'000'000); return v[0] != 0 ? 1 : 0; }\n",
    "I'll say we've they're he'd it's I'm don't I'LL WE'VE THEY'RE HE'D IT'S I'M DON'T 'Sst 'ſ",
    "tabs\t\tand   runs     of  spaces   \n  \n\n   \r\n\r\r\n end  ",
    "3.14159 1,000,000 0x1F 12345678901234567890 2024-01-31T23:59:59Z v1.2.3-rc4",
]
SPECIAL = "a<|endoftext|>b <|endoftext|> <|end<|endoftext|>of|><|endoftext|><|im_start|>user\nhi<|im_end|> <tool> <tools>"


def random_texts(seed, count, longest):
    """Strings of assigned characters (as of Python's Unicode, and old enough for everyone) in NFC, from many blocks."""
    rng = random.Random(seed)
    blocks = [(0x20, 0x7E)] * 4 + [(0x09, 0x0D), (0x20, 0x20), (0x80, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x600, 0x6FF)]
    blocks += [(0x900, 0xDFF), (0x1680, 0x180E), (0x2000, 0x206F), (0x2070, 0x218F), (0x3000, 0x30FF), (0x4E00, 0x9FA5)]
    blocks += [(0xAC00, 0xD7A3), (0xFB00, 0xFB06), (0xFEFF, 0xFEFF), (0xFF01, 0xFF9E), (0x10400, 0x1044F), (0x1F300, 0x1F64F)]
    texts = []
    while len(texts) < count:
        low, high = rng.choice(blocks)
        text = ""
        for _ in range(rng.randint(1, longest)):
            if rng.random() < 0.3:
                low, high = rng.choice(blocks)
            character = chr(rng.randint(low, high))
            if unicodedata.category(character) not in ("Cn", "Cs") and unicodedata.ucd_3_2_0.category(character) != "Cn":
                text += character
        if text:
            texts.append(unicodedata.normalize("NFC", text))
    return texts


def train(tokenizer, vocabulary, added):
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    corpus = BOOK[:200_000].splitlines(keepends=True) + 20 * SENTENCES
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_tokens(added)
    return json.loads(tokenizer.to_str())


def gpt2():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    about = train(tokenizer, 600, [AddedToken("<|endoftext|>", special=True, normalized=True)])
    # As its file was written: merges in one string, keys that are now explicit left out.
    about["model"]["merges"] = [" ".join(pair) for pair in about["model"]["merges"]]
    del about["model"]["type"], about["pre_tokenizer"]["use_regex"]
    return about


def split_then_bytes(pattern):
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False)
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def llama3():
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = split_then_bytes(LLAMA3)
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|endoftext|>", "<|end"]
    about = train(tokenizer, 800, [])
    # A token that no merge makes: only ignore_merges finds it.
    about["model"]["vocab"]["ĠNebuchadnezzar"] = len(about["model"]["vocab"])
    tokenizer = Tokenizer.from_str(json.dumps(about))
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return json.loads(tokenizer.to_str())


def qwen():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = split_then_bytes(QWEN)
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    added = [AddedToken(name, special=True, normalized=False) for name in names]
    return train(tokenizer, 700, added + [AddedToken("<tool>", normalized=True), AddedToken("<tools>", normalized=False)])


def several_splits():
    """Digits in threes, then ideographs, then the rest, as some models cut; a literal Split."""
    tokenizer = Tokenizer(models.BPE())
    steps = [Regex(r"\p{N}{1,3}"), Regex(r"[一-龥぀-ゟ゠-ヿ]+"), "--", Regex(QWEN)]
    splits = [pre_tokenizers.Split(step, behavior="isolated", invert=False) for step in steps]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        splits + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    return train(tokenizer, 500, [])


def main():
    book = [BOOK[:1500], "And Nebuchadnezzar the king, Nebuchadnezzar said -- unto them--them", SPECIAL]
    texts = ["", " ", "  ", "\n", "a", "é", *SENTENCES, *book, " " * 300 + "x", "ab" * 200, "日本" * 100]
    texts += random_texts(1, 100, 60)
    OUT.mkdir(exist_ok=True)
    (OUT / "texts.json").write_text(json.dumps(texts, ensure_ascii=False, separators=(",", ":")) + "\n")
    for make in (gpt2, llama3, qwen, several_splits):
        folder = OUT / make.__name__
        folder.mkdir(exist_ok=True)
        (folder / "tokenizer.json").write_text(json.dumps(make(), ensure_ascii=False, separators=(",", ":")) + "\n")
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        (folder / "ids.json").write_text(json.dumps(ids, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
