"""Text from the data, made fit to show: what is invisible or turns text around is written out; HTML stays text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from markupsafe import Markup, escape

_KEPT = frozenset("\n\t\u200c\u200d")
"""Line breaks and tabs, and the joiners that scripts and emoji need."""


def _is_hidden(character: str) -> bool:
    """Control, format (which holds the bidirectional overrides), lone surrogate, line or paragraph separator."""
    return character not in _KEPT and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _split_hidden(text: str) -> Iterator[tuple[str, bool]]:
    shown: list[str] = []
    for character in text.replace("\r\n", "\n").replace("\r", "\n"):
        if not _is_hidden(character):
            shown.append(character)
            continue
        yield "".join(shown), False
        yield f"U+{ord(character):04X}", True
        shown = []
    yield "".join(shown), False


def spell_out_hidden(text: object) -> str:
    """Text with every hidden character written as its code, for places where no markup can stand.

    >>> spell_out_hidden("safe" + chr(0x202E) + "txt")
    'safe⟨U+202E⟩txt'
    """
    return "".join(f"⟨{part}⟩" if hidden else part for part, hidden in _split_hidden(str(text)))


def show_untrusted(text: object) -> Markup:
    """HTML that shows exactly the characters of `text` and does nothing else.

    >>> show_untrusted("<b>" + chr(7))
    Markup('&lt;b&gt;<span class="hidden-character">U+0007</span>')
    """
    parts = [Markup('<span class="hidden-character">{}</span>').format(part) if hidden else escape(part) for part, hidden in _split_hidden(str(text))]
    return Markup("").join(parts)


def cut_text(text: str, num_shown: int, num_kept: int) -> tuple[str, str, int]:
    """Cuts a long text for the page: what stands open, what unfolds, and how many characters are left out.

    >>> cut_text("a long text", 6, 9)
    ('a long', ' te', 2)
    """
    if len(text) <= num_shown:
        return text, "", 0
    return text[:num_shown], text[num_shown:num_kept], max(0, len(text) - num_kept)
