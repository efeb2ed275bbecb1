"""Turns text files into token ids by the tokenizers library. `memo` runs this as a process (memo/corpus/tokenizer_process.h).

python -c THIS TOKENIZER END_TOKEN writes the library's version and a zero byte. Then, for each path that standard input names,
ended by a zero byte, it writes the bytes of an id (2 or 4), runs of ids, each behind its length in bytes, and a length of 0.
These integers have 4 bytes; everything is little endian. A failure is one line on standard error and exit code 2.
"""

import bisect
import codecs
import functools
import itertools
import json
import os
import re
import signal
import sys
from array import array

if sys.path[:1] == [""]:  # the folder where the command runs, which is no place for libraries
    del sys.path[0]

WINDOW, OVERLAP = 1 << 18, 1 << 14  # characters that are encoded at a time, and those that two neighbours share


class Refusal(Exception):
    """A failure that the user can fix; the message says how."""


def read_text(path):
    """The text of a file, in parts."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    begin, part = 0, b"."  # `begin`: where the bytes decoded next begin in the file
    with open(path, "rb") as file:
        while part:
            part = file.read(1 << 20)
            begin = file.tell() - len(part) - len(decoder.getstate()[0])
            try:
                yield decoder.decode(part, final=not part)
            except UnicodeDecodeError as error:
                raise Refusal(f"{path}: byte {begin + error.start} is not UTF-8; convert the file to UTF-8") from None


def windows(parts, size, overlap):
    """(start, text): the text in windows, each `size` characters behind the one before and longer by the overlap."""
    text, start = "", 0
    for part in parts:
        text += part
        while len(text) > size + overlap:
            yield start, text[: size + overlap]
            text, start = text[size:], start + size
    if start == 0 or len(text) > overlap:
        yield start, text


# Where windows meet. The library's steps run from left to right, and usually depend only on nearby characters. `reach` finds out
# for a step whether this is true, and how near these characters are.

_ATOM = re.compile(
    r"(\[\^?\]?(?:\\.|\[(?:\\.|[^\]\\])*\]|[^\[\]\\])*\]|\\[pP]\{[^}]*\}|\\x\{[^}]*\}|\\.|\(\?[^:=!>)]*[:=!>)]|.)"
    r"([*+]|\{\d*,?\d*\})?[?+]?", re.DOTALL)
_WORD = re.compile(r"[^\W\d_][^ \n]*[ \n]")  # a letter and the next white space
_LOCAL = {"ByteLevel", "Digits", "Metaspace", "Punctuation", "BertPreTokenizer", "Whitespace", "WhitespaceSplit",
          "CharDelimiterSplit", "UnicodeScripts", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Prepend", "Strip",
          "StripAccents", "BertNormalizer", "Nmt", "Precompiled"}  # fmt: skip
_HIDE_BLANKS = {"Replace", "ByteLevel", "Metaspace", "Precompiled"}  # from the patterns of later steps


@functools.cache
def letters():
    return "".join(filter(str.isalpha, map(chr, range(sys.maxunicode + 1))))


def pattern_reach(pattern):
    """The most words (_WORD) that a search for the pattern examines, or None if there is no bound.

    A repeated part of a pattern matches a run of a class of characters. If the class has no letters, or neither blank nor line
    break, a run ends within a word.
    """
    import tokenizers

    def matches(atom, text):
        split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(atom), "removed")
        return sum(len(piece) for piece, _ in split.pre_tokenize_str(text)) < len(text)

    depth, longest, count = 0, 0, 0
    for atom, repeated in _ATOM.findall(pattern):
        if atom == "]" or re.fullmatch(r"\(\?([<~(].*|.*x.*)|\\[1-9kgGKRX]", atom):  # looks behind, compares, or was not understood
            return None
        if repeated and (atom in ".)" or (matches(atom, " \n") and matches(atom, letters()))):
            return None
        depth += (atom[0] == "(" and not atom.endswith(")")) - (atom == ")")
        count = 0 if atom == "|" and depth == 0 else count + 1
        longest = max(longest, count)
    return longest


def described(step):
    """The steps of a normalizer or pre-tokenizer, as in tokenizer.json."""
    if step is None:
        return []
    about = json.loads(step.__getstate__())
    return about.get("normalizers", about.get("pretokenizers", [])) if about["type"] == "Sequence" else [about]


def reach(step):
    """The most words that a step of a normalizer or pre-tokenizer examines, or None without a bound."""
    if step["type"] in ("Split", "Replace"):
        ((kind, pattern),) = step["pattern"].items()
        return pattern_reach(pattern) if kind == "Regex" else len(pattern)
    return 4 if step["type"] in _LOCAL else None


def makes_words(normalizers, pre_tokenizers):
    """Whether the pre-tokenizers split text into words at all."""
    if not pre_tokenizers:
        return False
    (first, *more), last = pre_tokenizers, normalizers[-1:]
    if first["type"] == "Split" and "String" in first["pattern"]:  # at what is not there any more, as Gemma's
        replaced = [step["pattern"] for step in last if step["type"] == "Replace"]
        return bool(more) or first["pattern"] not in replaced
    return bool(more) or first["type"] != "Metaspace" or first.get("split", True)


class Window:
    """A part of the text, encoded separately."""

    def __init__(self, start, text, encoding):
        self.start, self.text, self.ids = start, text, encoding.ids
        self._offsets, self._words = encoding.offsets, encoding.word_ids

    def tokens(self, begin, end):
        """The index of the first token in these characters; and of each token there id, place, and whether it begins a word."""
        first, last = (bisect.bisect_left(self._offsets, (place - self.start,)) for place in (begin, end))
        return first, [
            (self.ids[i], *(self.start + place for place in self._offsets[i]), i == 0 or self._words[i] != self._words[i - 1])
            for i in range(first, last)
        ]


class Encoder:
    """Token ids of texts of any length, a window at a time: exactly those of tokenizer.encode(text, add_special_tokens=False).

    Two windows are joined where they agree on everything over half of their overlap, at a token that begins a word: from there on
    pre-tokenizers do the same in both. A BPE without words is joined between any two tokens: that no merge crosses there follows
    from the tokens on both sides. Windows that do not agree are encoded as one; so is a text when a step has no bound on how
    far it looks.
    """

    def __init__(self, tokenizer, window=WINDOW, overlap=OVERLAP):
        import tokenizers

        self._tokenizer, self._window, self._overlap = tokenizer, window, overlap
        self._steps = [described(tokenizer.normalizer), described(tokenizer.pre_tokenizer)]
        self._between_any = isinstance(tokenizer.model, tokenizers.models.BPE) and not makes_words(*self._steps)
        self._at_once = min(os.cpu_count() or 1, 8)

    @functools.cached_property
    def _reach(self):
        """The number of words that all steps together examine."""
        added = max((len(token.content) for token in self._tokenizer.get_added_tokens_decoder().values()), default=0)
        steps = list(itertools.chain(*self._steps))
        hidden = [step["type"] in _HIDE_BLANKS for step in steps]
        if added > self._overlap // 8 or any("Regex" in step.get("pattern", "") and any(hidden[:n]) for n, step in enumerate(steps)):
            return None
        reaches = [reach(step) for step in steps]
        return None if None in reaches else sum(reaches)

    def _encode(self, windows):
        texts = [text for _, text in windows]
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [Window(*window, encoding) for window, encoding in zip(windows, encodings)]

    def _seam(self, left, right):
        """An index into each window's tokens at which both agree; tokens before it are taken from the left window."""
        quarter = self._overlap // 4
        if min(len(_WORD.findall(text)) for text in (left.text[-quarter:], right.text[:quarter])) < self._reach:
            return None
        middle = right.start + quarter, right.start + self._overlap - quarter
        (first, tokens), (other, others) = left.tokens(*middle), right.tokens(*middle)
        if tokens != others:
            return None
        places = (i for i in range(len(tokens) - 1, 0, -1) if self._between_any or tokens[i][3])
        return next(((first + i, other + i) for i in places), None)

    def encode(self, parts):
        """Lists of ids."""
        waiting = windows(parts, self._window, self._overlap)
        first = list(itertools.islice(waiting, 2))
        if len(first) == 2 and self._reach is None:
            text = first[0][1] + "".join(text[self._overlap :] for _, text in itertools.chain(first[1:], waiting))
            first, waiting = [(0, text)], iter(())
        waiting = itertools.chain(first, waiting)
        left, sent = None, 0  # a window, and the number of its tokens that were returned
        while True:
            count = self._at_once if left is None else max(self._at_once, len(left.text) // self._window)
            encoded = self._encode(list(itertools.islice(waiting, count)))
            if not encoded:
                break
            for n, right in enumerate(encoded):
                if left is not None and (seam := self._seam(left, right)) is None:
                    text = left.text + "".join(window.text[self._overlap :] for window in encoded[n:])
                    (longer,) = self._encode([(left.start, text)])
                    assert longer.ids[:sent] == left.ids[:sent], "a longer window begins as the shorter one did"
                    left = longer
                    break
                if left is not None:
                    yield left.ids[sent : seam[0]]
                    sent = seam[1]
                left = right
        if left is not None:
            yield left.ids[sent:]


def requested(requests):
    """Paths from standard input, one by one."""
    path = b""
    while byte := requests.read(1):
        if byte == b"\0":
            yield os.fsdecode(path)
            path = b""
        else:
            path += byte


def open_tokenizer(path, end_token):
    import tokenizers

    try:
        tokenizer = tokenizers.Tokenizer.from_file(path)
    except Exception as error:  # the library has no type of its own
        raise Refusal(f"{path}: tokenizers {tokenizers.__version__} cannot read it: {error}") from None
    if getattr(tokenizer.model, "dropout", None):
        raise Refusal(f"{path}: model.dropout {tokenizer.model.dropout:.3g} draws tokens at random; set it to null")
    if end_token >= 0 and tokenizer.id_to_token(end_token) is None:
        raise Refusal(f"data.end_token: {path} has no token {end_token}; take the id of one that ends documents there")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def main(path, end_token, requests, out):
    try:
        import tokenizers
    except ImportError as error:
        raise Refusal(f"data.tokenizer: {sys.executable} has no tokenizers library ({error}); install it: "
                      f"{sys.executable} -m pip install tokenizers") from None  # fmt: skip

    def write(number):
        out.write(array("I", [number]).tobytes())

    tokenizer = open_tokenizer(path, end_token) if end_token >= 0 else None
    out.write(tokenizers.__version__.encode() + b"\0")
    out.flush()
    encoder = None
    for request in requested(requests):
        if encoder is None:
            tokenizer = tokenizer or open_tokenizer(path, end_token)
            code = "H" if max(tokenizer.get_vocab().values(), default=0) < 1 << 16 else "I"
            encoder = Encoder(tokenizer)
        write(array(code).itemsize)
        for ids in encoder.encode(read_text(request)):
            for begin in range(0, len(ids), 1 << 20):
                run = array(code, ids[begin : begin + (1 << 20)]).tobytes()
                write(len(run))
                out.write(run)
        write(0)
        out.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # ends with the command
    try:
        main(sys.argv[1], int(sys.argv[2]), sys.stdin.buffer, sys.stdout.buffer)
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(2)
