"""memo estimate --sweep: the table, the CSV and the page."""

import csv

import pytest
from conftest import memo
from pages import PHONE, browser, look  # noqa: F401

CONFIG = (
    '{"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 2, "num_attention_heads": 32,'
    ' "num_key_value_heads": 8, "intermediate_size": 16384, "vocab_size": 32000, "max_position_embeddings": 4096}'
)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """(what was printed, the CSV, the page)"""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "config.json").write_text(CONFIG)
    files = folder / "sweep.csv", folder / "sweep.html"
    done = memo(
        "estimate", "--model", folder, "--hardware", "A10x2", "--sweep", "--gpus", "1,2", "-o", files[0], "--plot", files[1]
    )
    assert done.code == 0, done.err
    return done.out, *files


def test_the_table_and_the_csv_have_the_same_contexts(sweep):
    out, file, _ = sweep
    with open(file) as lines:
        rows = list(csv.DictReader(lines))
    table = {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:]}
    assert len(rows) == 2 * len(table)
    for row in rows:
        longest = int(row["longest_context"])
        shown = table[row["strategy"]][int(row["gpus"]) - 1]
        assert shown == (f"{longest // 1024}K" if longest else "none")
        assert (float(row["tok_s_gpu"]) > 0) if longest else row["tok_s_gpu"] == ""
    assert int(next(row for row in rows if row["strategy"] == "memo")["longest_context"]) > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_draws_every_strategy_and_has_a_table_behind(sweep, look, scheme):  # noqa: F811
    out, _, page = sweep
    seen = look(page, color_scheme=scheme)
    assert seen.colours("#chart")[0] > 10
    rows = seen.page.locator("#table tr").all_inner_texts()
    assert [row.split()[0] for row in rows[1:]] == [line.split()[0] for line in out.splitlines()[1:]]
    seen.screenshot(f"sweep-{scheme}")


def test_the_page_fits_a_phone(sweep, look):  # noqa: F811
    seen = look(sweep[2], viewport=PHONE, is_mobile=True)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
