"""The form of a completion, as its template says it: what stands between title and text, and after both."""

from __future__ import annotations


def completion_end(template: str) -> str:
    """The end mark of a completion: what stands after the text.

    >>> completion_end("{title}: {text} ###")
    ' ###'
    """
    return template.partition("{text}")[2]


def completion_separator(template: str) -> str:
    """What stands between title and text in a completion.

    >>> completion_separator("Title: {title} | Review: {text}")
    ' | Review: '
    """
    return template.partition("{title}")[2].partition("{text}")[0]
