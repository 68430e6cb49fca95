"""The task of the downstream model: read a review, then say its rating. One text for training, for scoring and for perplexity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penname.errors import ModelError
from penname.model.tokenize import encode_prompt
from penname.schemas import RATINGS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BEFORE, _AFTER = "Review:", "\nRating: {rating}"


@dataclass(frozen=True, slots=True)
class RatingExample:
    """A review as tokens, up to the token that says its rating. PRIVATE when the review is."""

    token_ids: list[int]
    """(T,) all but the rating."""
    num_before: int
    """Tokens before the text; at least 1, so that each token of the text has one before it that could predict it."""
    num_text: int
    """Tokens of the text, after the cut."""
    rating: int
    """1 to 5."""


@dataclass(frozen=True, slots=True)
class RatingTask:
    """The wording, in the tokens of one model."""

    before: list[int]
    after: list[int]
    label_ids: list[int]
    """(5,) the token of each rating, 1 first."""

    @classmethod
    def from_tokenizer(cls, tokenizer: PreTrainedTokenizerBase) -> RatingTask:
        """The wording in a tokenizer's tokens.

        Raises:
          ModelError: the ratings 1 to 5 do not differ in one token.
        """
        endings = [tokenizer(_AFTER.format(rating=rating), add_special_tokens=False)["input_ids"] for rating in RATINGS]
        after, labels = endings[0][:-1], [ending[-1] for ending in endings]
        if any(ending[:-1] != after for ending in endings) or len(set(labels)) != len(RATINGS):
            raise ModelError("evaluate.downstream_model: its tokenizer does not write the ratings 1 to 5 as one token each; choose another model")
        before = encode_prompt(tokenizer, _BEFORE)
        # Some tokenizers end every text with a mark of their own.
        while len(before) > 1 and before[-1] == tokenizer.eos_token_id:
            before = before[:-1]
        return cls(before, after, labels)

    def encode(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], ratings: Sequence[int], *, max_tokens: int) -> list[RatingExample]:
        """Reviews as tokens; of a text that is too long the end is cut, never the question after it.

        Args:
          tokenizer: The one the task was made with.
          texts, ratings: n each, ratings 1 to 5. PRIVATE when real.
          max_tokens: Of an example with its rating.
        """
        room = max(0, max_tokens - len(self.before) - len(self.after) - 1)
        encoded = tokenizer([f" {text}" for text in texts], add_special_tokens=False)["input_ids"] if texts else []
        cut = [ids[:room] for ids in encoded]
        return [RatingExample([*self.before, *ids, *self.after], len(self.before), len(ids), rating) for ids, rating in zip(cut, ratings, strict=True)]
