"""Makes kjv.txt and tokenizer.json of this folder (see README.md).

Needs Debian's packages bible-kjv and bible-kjv-text, and the Python package tokenizers.
"""

import re
import subprocess
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 8192
here = Path(__file__).parent

# One verse a line, "  12 In the beginning ...", under headings "Genesis 1": the numbers of the verses go, the rest stays.
printed = subprocess.run(
    ["bible", "-l100000", "Gen1:1-Rev22:21"], stdin=subprocess.DEVNULL, check=True, capture_output=True, text=True
).stdout
text = re.sub(r"^ +\d+ ", "", printed, flags=re.MULTILINE).strip() + "\n"
(here / "kjv.txt").write_text(text, encoding="ascii")

tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.train_from_iterator(
    text.splitlines(keepends=True),
    trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    ),
)
tokenizer.save(str(here / "tokenizer.json"), pretty=False)
print(f"{len(text)} bytes, {len(tokenizer.encode(text).ids)} tokens, vocabulary {tokenizer.get_vocab_size()}")
