import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoem.errors import InputError
from cryoem.io.star import read_star
from cryoem.io.star_words import quoted

PLAIN = """\
data_optics

loop_
_rlnOpticsGroup #1
_rlnVoltage #2
1 300.0
2 200.0


# version 30001

data_particles

loop_
_rlnImageName #1
_rlnDefocusU #2
000001@a.mrcs 1.5e4
  000002@a.mrcs\t-2.5

"""


def blocks(tmp_path, text):
    path = tmp_path / "x.star"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return {block.name: block for block in read_star(path)}


VARIANTS = {
    "plain": PLAIN,
    "blanks at the ends of lines, as RELION writes": PLAIN.replace("\n", " \n"),
    "CRLF": PLAIN.replace("\n", "\r\n"),
    "no numbers": PLAIN.replace(" #1", "").replace(" #2", ""),
    "bracketed comments": PLAIN.replace("#1", "#1 [Image name, per particle]"),
    "no blank lines": "\n".join(line for line in PLAIN.split("\n") if line.strip()),
    "no last newline": PLAIN.rstrip(),
    "quotes": PLAIN.replace("000001@a.mrcs", '"000001@a.mrcs"').replace("1.5e4", "'1.5e4'"),
    "comments among the rows": PLAIN.replace("1.5e4", "1.5e4 # checked").replace(
        "  000002", "# the second\n  000002"
    ),
    "blocks swapped": "data_particles" + PLAIN.split("data_particles")[1] + PLAIN.split("# ver")[0],
}


@pytest.mark.parametrize("text", VARIANTS.values(), ids=VARIANTS)
def test_every_dialect_gives_the_same_table(tmp_path, text):
    found = blocks(tmp_path, text)
    assert found["optics"].labels == ("_rlnOpticsGroup", "_rlnVoltage")
    np.testing.assert_array_equal(found["optics"].numbers("_rlnVoltage"), [300, 200])
    assert list(found["particles"].text("_rlnImageName")) == ["000001@a.mrcs", "000002@a.mrcs"]
    np.testing.assert_array_equal(found["particles"].numbers("_rlnDefocusU"), [1.5e4, -2.5])


def test_a_block_without_a_loop_is_one_row(tmp_path):
    block = blocks(tmp_path, "data_general\n\n_rlnA 3.5\n_rlnB 'two words' # why\n")["general"]
    assert block.numbers("_rlnA") == [3.5]
    assert list(block.text("_rlnB")) == ["two words"]


def test_quotes_and_hashes_inside_a_word_belong_to_it(tmp_path):
    block = blocks(tmp_path, "data_\nloop_\n_a\n_b\n/o'neil/x#3.mrc 1\n'a b' 2\n\"\" 3\n")[""]
    assert list(block.text("_a")) == ["/o'neil/x#3.mrc", "a b", ""]
    np.testing.assert_array_equal(block.numbers("_b"), [1, 2, 3])


def test_words_that_pandas_takes_for_missing_stay_words(tmp_path):
    block = blocks(tmp_path, "data_\nloop_\n_a\n_b\nNA 1\nnan 2\nnull nan\n")[""]
    assert list(block.text("_a")) == ["NA", "nan", "null"]
    np.testing.assert_array_equal(block.numbers("_b"), [1, 2, np.nan])


@pytest.mark.parametrize("row", ["000003@a.mrcs", "000003@a.mrcs 1.0 2.0", "a b c d e f"])
@pytest.mark.parametrize("quotes", ["", "'q' 1\n"])
def test_a_ragged_row_is_named_by_its_line(tmp_path, row, quotes):
    text = PLAIN.rstrip() + "\n" + quotes + row + "\n000004@a.mrcs 3\n"
    line = text.split("\n").index(row) + 1
    with pytest.raises(InputError, match=rf"x\.star: line {line} has \d values.*2 columns"):
        blocks(tmp_path, text)


def test_a_word_in_place_of_a_number_is_named_by_line_column_and_value(tmp_path):
    block = blocks(tmp_path, PLAIN.replace("-2.5", "abc"))["particles"]
    with pytest.raises(InputError, match=r"line 18, _rlnDefocusU: 'abc' is not a number"):
        block.numbers("_rlnDefocusU")


def test_a_repeated_label_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"data_particles has the column _rlnImageName twice"):
        blocks(tmp_path, PLAIN.replace("_rlnDefocusU", "_rlnImageName"))


@pytest.mark.parametrize("content", [b"", b"hello\n", b"data_\n", b"data_x\nloop_\n_a\n", b"\0\1"])
def test_what_is_no_star_file_is_said_so(tmp_path, content):
    with pytest.raises(InputError, match="not a STAR file"):
        blocks(tmp_path, content)


def test_the_line_count_holds_across_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("cryoem.io.star_words._CHUNK", 50)
    rows = "".join(f"{k:06d}@a.mrcs {k}\n" for k in range(500))
    block = blocks(tmp_path, "data_\nloop_\n_a\n_b\n" + rows)[""]
    np.testing.assert_array_equal(block.numbers("_b"), np.arange(500))
    with pytest.raises(InputError, match="line 405 has 1 values"):
        blocks(tmp_path, "data_\nloop_\n_a\n_b\n" + rows.replace(" 400\n", "\n"))


_WORDS = st.sampled_from(
    ["data_x", "data_particles", "loop_", "_a", "_b #2", "\n", "\n\n", " ", "\t", "'", '"', "#",
     "1", "2.5", "x@y", "nan", "\r\n", "\x0b", "\x0c", "\u00e9", ";", "'a b'"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(text=st.lists(_WORDS, max_size=25).map("".join) | st.text(max_size=60))
def test_any_text_gives_tables_or_an_input_error(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("star") / "x.star"
    path.write_bytes(text.encode(errors="surrogatepass"))
    try:
        for block in read_star(path):
            rows = list(block.raw_rows(range(block.n_rows)))
            assert all(len(row) == len(block.labels) for row in rows)
            for label in block.labels:
                assert len(block.text(label)) == block.n_rows
                block.numbers(label)
    except InputError:
        pass


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc", "Z"]), max_size=8))
def test_a_quoted_word_reads_back(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("star") / "x.star"
    path.write_text(f"data_\nloop_\n_a\n{quoted(value)}\n", encoding="utf-8")
    assert list(read_star(path)[0].text("_a")) == [value]
