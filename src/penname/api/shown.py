"""What shows itself in a notebook: figures, and lines of text."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Mapping
from pathlib import Path


class Lines(list[str]):
    """Lines for a person."""

    def __repr__(self) -> str:
        return "\n".join(self)


class Figure:
    """One figure of a report. PRIVATE."""

    def __init__(self, path: Path) -> None:
        self.path = path
        """Of the PNG; the SVG stands beside it."""

    @property
    def name(self) -> str:
        """Of the file, without its ending."""
        return self.path.stem

    def __repr__(self) -> str:
        return f"<Figure {self.path}>"

    def _repr_png_(self) -> bytes:
        return self.path.read_bytes()

    def to_html(self) -> str:
        """The picture with its name, as one element that needs no other file."""
        data = base64.b64encode(self.path.read_bytes()).decode()
        return f'<figure><img alt="{html.escape(self.name)}" src="data:image/png;base64,{data}"><figcaption>{html.escape(self.name)}</figcaption></figure>'


class Figures(Mapping[str, Figure]):
    """The figures of a report by name; shown together. PRIVATE."""

    def __init__(self, folder: Path) -> None:
        self._figures = {path.stem: Figure(path) for path in sorted(folder.glob("*.png"))}

    def __getitem__(self, name: str) -> Figure:
        return self._figures[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._figures)

    def __len__(self) -> int:
        return len(self._figures)

    def __repr__(self) -> str:
        return f"Figures: {', '.join(self._figures) or 'none'}"

    def _repr_html_(self) -> str:
        return "".join(figure.to_html() for figure in self._figures.values())
