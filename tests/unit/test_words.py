"""The word tokenizer: what it writes can be read back, and what it does not know it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from fiftyone_isoclip.encoder.words import WordTokenizer
from fiftyone_isoclip.errors import CheckpointError

WORDS = ("a", "on", "red", "star")


def test_numbers_read_back_as_the_prompt() -> None:
    """Start, words in order, end, padding: the reverse of the table gives the prompt."""
    tokenizer = WordTokenizer(WORDS, context_length=8)
    row = tokenizer("A red, star!")[0].tolist()
    table = {0: "", 1: "?", **dict(enumerate(WORDS, start=2)), 6: "<", 7: ">"}
    assert [table[number] for number in row] == ["<", "a", "red", "star", ">", "", "", ""]


def test_the_end_has_the_highest_number_so_that_the_text_tower_finds_it() -> None:
    """open_clip reads a prompt at its highest number: that must be the end of it."""
    tokenizer = WordTokenizer(WORDS, context_length=6)
    rows = tokenizer(["red", "a red star on a star", "nonsense"])
    ends = rows.argmax(dim=1)
    assert ends.tolist() == [2, 5, 2]
    assert int(rows.max()) == tokenizer.vocab_size - 1


def test_a_long_prompt_is_cut_and_keeps_its_end() -> None:
    """Cutting drops words, never the end that the tower looks for."""
    tokenizer = WordTokenizer(WORDS, context_length=4)
    assert tokenizer("a red star on a star").tolist() == [[6, 2, 4, 7]]


def test_unknown_words_are_named_once_in_order() -> None:
    """A word it was never trained on is reported, whatever its case."""
    tokenizer = WordTokenizer(WORDS, 24)
    prompts = ["a red Zebra", "zebra on a bicycle"]
    assert tokenizer.unknown_words(prompts) == ["zebra", "bicycle"]
    assert tokenizer.unknown_words("a red star") == []
    assert tokenizer(prompts)[0].tolist()[:5] == [6, 2, 4, 1, 7]


def test_no_prompts_give_no_rows() -> None:
    """An empty list is not an error."""
    assert WordTokenizer(WORDS, 24)([]).shape == (0, 24)


@pytest.mark.parametrize("words", [("red", "red"), ("Red",), ("two words",), ("",)])
def test_a_bad_word_list_is_refused(words: tuple[str, ...]) -> None:
    """Twice the same word would give two numbers for one word."""
    with pytest.raises(CheckpointError, match="word list"):
        WordTokenizer(words, 24)


def test_reading_says_which_file_is_missing(tmp_path: Path) -> None:
    """A file reads back; an absent one is named."""
    path = tmp_path / "words.txt"
    path.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    assert WordTokenizer.read(path, 5).words == WORDS
    with pytest.raises(CheckpointError, match=r"absent\.txt"):
        WordTokenizer.read(tmp_path / "absent.txt", 5)
