"""From prompt and completion to tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class TokenizedRecord:
    """One record as tokens. PRIVATE."""

    token_ids: list[int]
    """(T,) prompt, completion, and the end-of-text token unless the record was cut."""
    num_prompt_tokens: int
    """At least 1: the first token has none before it that could predict it."""

    @property
    def num_completion_tokens(self) -> int:
        """Tokens that the loss counts."""
        return len(self.token_ids) - self.num_prompt_tokens


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Tokens of a prompt, with the special tokens that the tokenizer puts in front of a text."""
    return tokenizer(prompt)["input_ids"]


def encode_record(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str, *, max_tokens: int) -> TokenizedRecord | None:
    """Tokens of a training example, cut at `max_tokens`.

    Args:
      tokenizer: With an eos token.
      prompt: Text of the prompt.
      completion: What the model must write. PRIVATE.
      max_tokens: A public constant. A longer record is cut and gets no end-of-text token, so that the model does not learn to stop in
        the middle of a sentence.
    Returns:
      None when no token is left to learn: the prompt leaves no room for a completion, or the record has one token. An empty completion teaches
      to stop at once.
    """
    prompt_ids = encode_prompt(tokenizer, prompt)
    completion_ids = tokenizer(completion, add_special_tokens=False)["input_ids"]
    token_ids = [*prompt_ids, *completion_ids, tokenizer.eos_token_id][:max_tokens]
    num_given = max(1, len(prompt_ids))
    return TokenizedRecord(token_ids, num_given) if len(token_ids) > num_given else None
