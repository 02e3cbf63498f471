"""A tokenizer of whole words for the self-trained demo weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch

from fiftyone_isoclip.errors import CheckpointError

_WORD = re.compile(r"[a-z0-9]+")
_PADDING, _UNKNOWN, _FIRST_WORD = 0, 1, 2


class WordTokenizer:
    """Turns prompts into rows of word numbers: n prompts -> (n, context_length) LongTensor.

    Numbers: 0 padding, 1 a word it does not know, then the words in their order, then the
    start and the end of a prompt. The end has the highest number, which is where open_clip's
    text tower reads a prompt (pool_type "argmax").

    Args:
        words: The lower-case words it knows, each once.
        context_length: Numbers a prompt, start and end included; longer prompts are cut.

    Raises:
        CheckpointError: A word is written twice, or is not one lower-case word.
    """

    def __init__(self, words: Sequence[str], context_length: int) -> None:
        odd = [word for word in words if not _WORD.fullmatch(word)]
        if odd or len(set(words)) != len(words):
            raise CheckpointError(
                f"a word list needs lower-case words, each once; found {len(words)} entries, "
                f"{len(set(words))} different, {len(odd)} of them not words; repair the list"
            )
        self.words = tuple(words)
        self.context_length = context_length
        self._numbers = {word: row for row, word in enumerate(self.words, start=_FIRST_WORD)}

    @classmethod
    def read(cls, path: str | Path, context_length: int) -> WordTokenizer:
        """Read the words from a text file, one a line.

        Raises:
            CheckpointError: The file is absent or its lines are not words, each once.
        """
        file = Path(path)
        if not file.is_file():
            raise CheckpointError(
                f"the word list {file.name!r} was asked for, but there is no such file in "
                f"{file.parent}; reinstall fiftyone-isoclip"
            )
        return cls(file.read_text(encoding="utf-8").split(), context_length)

    @property
    def vocab_size(self) -> int:
        """How many different numbers it writes: what text_cfg.vocab_size must be."""
        return len(self.words) + _FIRST_WORD + 2

    def __call__(self, prompts: str | Sequence[str]) -> torch.Tensor:
        """Number the words of prompts: n prompts -> (n, context_length), int64."""
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        rows = torch.full((len(texts), self.context_length), _PADDING, dtype=torch.long)
        start, end = self.vocab_size - 2, self.vocab_size - 1
        for row, text in enumerate(texts):
            words = _WORD.findall(text.lower())[: self.context_length - 2]
            inner = [self._numbers.get(word, _UNKNOWN) for word in words]
            rows[row, : len(inner) + 2] = torch.tensor([start, *inner, end])
        return rows

    def unknown_words(self, prompts: str | Sequence[str]) -> list[str]:
        """Say which words of the prompts it does not know, each once, in order."""
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        asked = (word for text in texts for word in _WORD.findall(text.lower()))
        return list(dict.fromkeys(word for word in asked if word not in self._numbers))
