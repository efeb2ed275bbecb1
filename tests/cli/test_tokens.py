"""Text becomes tokens as the tokenizers library says, and stays so for the next run; what is no text is refused."""

import functools
import gzip
import json
import os
import shutil
import signal
import struct
import sys
import time
import unicodedata
from array import array

import pytest
from conftest import COMMAND, SMALL, memo, start, write_job
from tokenizer_styles import BOOK, SENTENCES, SPECIAL, STYLES
from tokenizers import Tokenizer, models, pre_tokenizers

TEXT = "\n".join([BOOK[:3000], *SENTENCES, unicodedata.normalize("NFD", SENTENCES[0] + SENTENCES[2]), SPECIAL, "  end "])
HEADER = struct.Struct("<16s4QQ2q")  # docs/formats.md
VOCABULARY = 1100

made = functools.cache(lambda style: STYLES[style]())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small model of more tokens than any tokenizer here has."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "book.txt").write_text(BOOK[:2000])
    job = write_job(folder / "job.toml", SMALL | {"vocab": VOCABULARY, "layers": 2}, {"steps": 1})
    assert memo("train", job, "--out", folder / "run").code == 0
    return folder / "run" / "checkpoint-1"


@pytest.fixture
def text(folder):
    """book.txt, and beside it the tokenizer of Qwen's style."""
    made("qwen").save(str(folder / "tokenizer.json"))
    (folder / "book.txt").write_text(TEXT, newline="")
    return folder / "book.txt"


def evaluate(model, text, *more, **options):
    tokenizer = [] if "--tokenizer" in more else ["--tokenizer", text.parent / "tokenizer.json"]
    return memo("eval", model, "--data", text, "--context", 50, "--json", *tokenizer, *more, **options)


def expected(text):
    tokenizer = Tokenizer.from_file(str(text.parent / "tokenizer.json"))
    return tokenizer.encode(text.read_bytes().decode(), add_special_tokens=False).ids


def kept(text):
    """The file of ids beside a text."""
    (found,) = text.parent.glob(f"{text.name}.*.tokens")
    return found


def ids_in(file):
    data = file.read_bytes()
    format, *_, tokens, width = HEADER.unpack_from(data)
    assert format == b"memo-tokens 1\n\0\0" and len(data) == HEADER.size + tokens * width
    return list(array({2: "H", 4: "I"}[width], data[HEADER.size :]))


@pytest.mark.parametrize("style", STYLES)
def test_ids_are_those_of_the_library(folder, text, model, style):
    """In the kept file, and in what is computed with them."""
    made(style).save(str(folder / "tokenizer.json"))
    found = evaluate(model, text).json()
    ids = expected(text)
    assert ids_in(kept(text)) == ids
    (folder / "ids.bin").write_bytes(array("H", ids).tobytes())
    assert found == memo("eval", model, "--data", folder / "ids.bin", "--context", 50, "--json").json()


def test_training_reads_them_too(folder, text):
    """Ids above 65535 as well."""
    words = {word: 60_000 + 10_000 * i for i, word in enumerate(sorted(set(BOOK[:20_000].split()))[:3])} | {"?": 0}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = expected(text)
    assert max(ids) > 65535
    (folder / "ids.bin").write_bytes(array("I", ids).tobytes())
    model, digests = SMALL | {"hidden": 32, "vocab": 80_001}, []
    for data in {"files": ["book.txt"], "tokenizer": "tokenizer.json"}, {"files": ["ids.bin"], "bin_dtype": "uint32"}:
        job = write_job(folder / "job.toml", model, {"context": 100}, data=data)
        digests.append(memo("train", job, "--out", folder / f"run{len(digests)}", "--json").json()["loss_digest"])
    assert digests[0] == digests[1]
    assert ids_in(kept(text)) == ids


def test_nothing_of_truncation_padding_and_special_tokens(folder, text, model):
    about = json.loads((folder / "tokenizer.json").read_text())
    about["truncation"] = {"max_length": 20, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    about["padding"] = {"strategy": {"Fixed": 100_000}, "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>",
                        "pad_to_multiple_of": None}  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(about))
    evaluate(model, text).json()
    assert ids_in(kept(text)) == made("qwen").encode(TEXT, add_special_tokens=False).ids


class TestTheNextRun:
    def test_takes_what_is_kept(self, text, model):
        first = evaluate(model, text)
        assert "to tokens by tokenizers" in first.err and kept(text).name in first.err
        about = kept(text).stat()
        second = evaluate(model, text)
        assert second.json() == first.json() and "to tokens" not in second.err
        assert (kept(text).stat().st_ino, kept(text).stat().st_mtime_ns) == (about.st_ino, about.st_mtime_ns)

    def test_of_another_text_makes_them_anew(self, text, model):
        evaluate(model, text)
        about = text.stat()
        text.write_text(TEXT.replace("God", "dog"), newline="")
        os.utime(text, ns=(about.st_atime_ns, about.st_mtime_ns))  # as long and as old
        assert "to tokens" in evaluate(model, text).err
        assert ids_in(kept(text)) == expected(text)

    def test_by_another_tokenizer_has_a_file_of_its_own(self, folder, text, model):
        evaluate(model, text)
        qwen = kept(text)
        made("gpt2").save(str(folder / "tokenizer.json"))
        evaluate(model, text)
        (gpt2,) = set(folder.glob("*.tokens")) - {qwen}
        assert ids_in(gpt2) == expected(text) != ids_in(qwen)

    @pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-2] + b"??", lambda data: data[:10]])
    def test_makes_what_is_damaged_anew(self, text, model, damage):
        found = evaluate(model, text).json()
        file = kept(text)
        file.write_bytes(damage(file.read_bytes()))
        assert evaluate(model, text).json() == found
        assert ids_in(file) == expected(text)

    def test_leaves_what_is_not_memos(self, folder, text, model):
        found = evaluate(model, text).json()
        file = kept(text)
        file.write_text("the user's own")
        again = evaluate(model, text)
        assert again.json() == found and "in memory only" in again.err
        assert file.read_text() == "the user's own"


class TestNothingIsLeft:
    def test_when_the_tier_is_encrypted(self, folder, text, disk):
        data = {"files": ["book.txt"], "tokenizer": "tokenizer.json", "documents": "apart"}
        for encrypt in True, False:
            job = write_job(
                folder / "job.toml", SMALL | {"vocab": VOCABULARY}, {"context": 100}, {"disk": disk, "encrypt": encrypt}, data
            )
            assert memo("train", job, "--out", folder / str(encrypt)).code == 0
            assert len(list(folder.glob("*.tokens*"))) == (not encrypt)

    @pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
    def test_by_a_command_that_is_killed_on_the_way(self, folder, text, model, sign):
        """Nor does the Python go on without it."""
        text.write_text(TEXT * 1000, newline="")
        before = set(folder.iterdir())
        process = start("eval", model, "--data", text, "--context", 50, "--tokenizer", folder / "tokenizer.json")
        assert "to tokens" in process.stderr.readline()
        (child,) = children(process.pid)
        time.sleep(0.5)  # some ids are written
        process.send_signal(sign)
        process.communicate()
        assert process.returncode != 0 and set(folder.iterdir()) == before
        for _ in range(600):
            if not is_running(child):
                break
            time.sleep(0.1)
        else:
            raise AssertionError("the Python goes on")

    def test_beside_a_text_that_is_refused(self, folder, text, model):
        text.write_bytes(b"good \xff")
        evaluate(model, text).refusal(2)
        assert list(folder.glob("*.tokens*")) == []


def children(pid):
    return [int(child) for child in open(f"/proc/{pid}/task/{pid}/children").read().split()]


def is_running(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class TestRefused:
    @pytest.mark.parametrize("tokenizer", [[], None], ids=["with a tokenizer", "bytes"])
    @pytest.mark.parametrize("name, data", [
        ("book.txt", gzip.compress(TEXT.encode())), ("book.gz", TEXT.encode()), ("book.parquet", b"PAR1" + bytes(99) + b"PAR1"),
        ("book.zip", b""), ("book.jsonl.zst", b"x" * 99), ("b.xz", b"x" * 99), ("b.bz2", b"x" * 99), ("b", b"PK\3\4" + bytes(99)),
    ])  # fmt: skip
    def test_what_is_no_text(self, folder, text, job, tokenizer, name, data):
        (folder / name).write_bytes(data)
        data = {"files": [name]} | ({} if tokenizer is None else {"tokenizer": "tokenizer.json"})
        line = memo("train", job(data=data), "--out", folder / "run").refusal(2)
        assert f"{folder / name}: is a " in line and "no text; " in line
        assert not (folder / "run").exists()

    def test_text_that_is_not_utf8(self, text, model):
        for byte in 5, (1 << 20) - 1, 3 << 20:
            text.write_bytes((b"to be " * (byte // 6 + 1))[: byte - 2] + "é".encode() + b"\xe2\x82 ")
            assert f"{text}: byte {byte} is not UTF-8" in evaluate(model, text).refusal(2)

    @pytest.mark.parametrize("token, data, part", [
        (VOCABULARY, {}, f"{VOCABULARY} is no token of the model, whose vocabulary has {VOCABULARY}"),
        (VOCABULARY - 1, {}, f"tokenizer.json has no token {VOCABULARY - 1}"),
        (256, {"tokenizer": None}, "256 is no byte"),
    ])  # fmt: skip
    def test_an_end_token_that_no_text_has(self, folder, text, job, token, data, part):
        data = {"files": ["book.txt"], "tokenizer": "tokenizer.json", "documents": "apart", "end_token": token} | data
        data = {key: value for key, value in data.items() if value is not None}
        line = memo("train", job(model=SMALL | {"vocab": VOCABULARY}, data=data), "--out", folder / "run").refusal(2)
        assert "data.end_token: " in line and part in line

    def test_a_tokenizer_that_cannot_be_read(self, folder, text, model):
        for content in "{}", "", '{"model": {"type": "Unknown"}}':
            (folder / "tokenizer.json").write_text(content)
            assert f"{folder}/tokenizer.json: tokenizers " in evaluate(model, text).refusal(2)
        (folder / "tokenizer.json").unlink()
        assert f"{folder}/tokenizer.json: cannot read" in evaluate(model, text).refusal(2)

    def test_a_tokenizer_that_draws(self, folder, text, model):
        tokenizer = Tokenizer.from_str(made("gpt2").to_str())
        tokenizer.model.dropout = 0.1
        tokenizer.save(str(folder / "tokenizer.json"))
        assert "tokenizer.json: model.dropout 0.1 draws tokens at random" in evaluate(model, text).refusal(2)

    def test_a_python_without_the_library(self, folder, text, model):
        """The Python beside the command comes first: that of the environment where it is installed."""
        program = folder / "bin" / "memo"
        program.parent.mkdir()
        for command in (COMMAND, COMMAND.with_name("memo-tensors")):
            shutil.copy(command, program.parent)
        python = program.parent / "python3"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
        python.chmod(0o755)
        arguments = ["--data", text, "--context", "50", "--tokenizer", folder / "tokenizer.json"]
        line = memo("eval", model, *arguments, executable=program).refusal(2)
        assert "has no tokenizers library" in line and "-m pip install tokenizers" in line


def test_libraries_do_not_come_from_where_the_command_runs(folder, text, model):
    (folder / "tokenizers.py").write_text("raise SystemExit('not this one')")
    assert evaluate(model, text, cwd=folder).code == 0
