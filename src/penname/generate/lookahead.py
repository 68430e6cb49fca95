"""Draws before they are asked for: where slots are free, the draw that a text will be followed by if it is refused is written beside it.

Without it the last few records of a run, drawn one after the other until one parses, would keep the whole decoder waiting.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from penname.generate.decode import Decoded, NextDraw, OnText, Request

Key = tuple[int, ...]


class Lookahead:
    """Which draws are ahead. Nobody sees them unless they are asked for, so what is written is the same with and without."""

    def __init__(self, next_draw: NextDraw) -> None:
        self._next_draw = next_draw
        self._running: set[Key] = set()
        self._finished: dict[Key, Decoded] = {}

    def is_running(self, request: Request) -> bool:
        """Whether it is being written and nobody has asked for it yet."""
        return request.key in self._running

    def propose(self, texts: Iterable[tuple[int, Request]], count: int) -> list[tuple[int, Request]]:
        """What to write in `count` free slots: the nearest draws first, as those are the likeliest to be asked for.

        Args:
          texts: Slot and request of every text that is being written.
          count: At most so many.
        Returns:
          For each the slot of a text with the same prompt, and the request. They count as running from now on.
        """
        waiting: list[tuple[int, int, Request]] = []
        for slot, request in texts:
            if request.key not in self._running:
                self._push(waiting, 1, slot, self._next_draw(request))
        chosen: list[tuple[int, Request]] = []
        while waiting and len(chosen) < count:
            distance, slot, request = heapq.heappop(waiting)
            if request.key not in self._running and request.key not in self._finished:
                chosen.append((slot, request))
                self._running.add(request.key)
            self._push(waiting, distance + 1, slot, self._next_draw(request))
        return chosen

    @staticmethod
    def _push(waiting: list[tuple[int, int, Request]], distance: int, slot: int, request: Request | None) -> None:
        if request is not None:
            heapq.heappush(waiting, (distance, slot, request))

    def finish(self, request: Request, text: Decoded, on_text: OnText) -> tuple[Request | None, set[Key]]:
        """Takes a finished text: keeps one that is ahead, and hands over one that was asked for with those after it that are finished already.

        Args:
          request: Of the text.
          text: As it was written.
          on_text: Called for each text in its turn.
        Returns:
          What is to be written now, and the keys of texts that are being written and that nobody will ask for.
        """
        if request.key in self._running:
            self._running.remove(request.key)
            self._finished[request.key] = text
            return None, set()
        while True:
            again = on_text(request, text)
            ahead = self._next_draw(request)
            if again is None or ahead is None or again.key != ahead.key:
                return again, self._drop(ahead)
            if again.key in self._running:
                self._running.remove(again.key)
                return None, set()
            if again.key not in self._finished:
                return again, set()
            request, text = again, self._finished.pop(again.key)

    def _drop(self, request: Request | None) -> set[Key]:
        """Forgets a draw and those after it; the keys of those that are being written."""
        running: set[Key] = set()
        while request is not None and (request.key in self._running or request.key in self._finished):
            if self._finished.pop(request.key, None) is None:
                self._running.remove(request.key)
                running.add(request.key)
            request = self._next_draw(request)
        return running
