"""Words and sentences, by rules that need no model and no language."""

from __future__ import annotations

import re

_WORD = re.compile(r"\w+(?:['’\-]\w+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])|\n+")


def split_words(text: str) -> list[str]:
    """The words of a text, casefolded, without punctuation; `don't` and `well-made` are one word.

    A run of letters without spaces is one word, so counts mean little for Chinese, Japanese or Thai.

    >>> split_words("It's WELL-made, I don’t lie!")
    ["it's", 'well-made', 'i', 'don’t', 'lie']
    """
    return _WORD.findall(text.casefold())


def split_sentences(text: str) -> list[str]:
    """The sentences of a text: parts between `.`, `!`, `?`, `…` before a space, and line ends. Parts without a word are dropped.

    >>> split_sentences("Great! Costs 4.99... worth it")
    ['Great!', 'Costs 4.99...', 'worth it']
    """
    return [part for part in _SENTENCE_END.split(text) if _WORD.search(part)]
