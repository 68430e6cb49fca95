"""Writes docs/cli.md from the program's own --help, so that the manual cannot say anything else. `make docs` runs it; a test compares."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from penname.cli import app

TARGET = Path(__file__).parent / "cli.md"

_HEAD = """# The command line

This page is written from `penname --help` by `make docs`; do not edit it.

Results go to standard output, progress and errors to standard error. An error is one line that says what is wrong and what to do.

| exit code | means |
| --- | --- |
| 0 | done, or nothing to do |
| 1 | the run failed, or `verify` found something that does not hold |
| 2 | the command or the config is wrong; nothing was started |
| 130 | interrupted; what was finished is kept, and the same command goes on there |

Config, settings and their defaults: [the run folder](run-folder.md) says what each stage writes, `src/penname/config.py` explains every key.
"""


def render_manual() -> str:
    """The whole page: help of the program, then of each command in the order in which the program lists them, then of the commands in groups."""
    sections = [_HEAD, _render("penname", [])]
    for command in app.registered_commands:
        name = command.name or command.callback.__name__  # pyright: ignore[reportOptionalMemberAccess]
        sections.append(_render(f"penname {name}", [name]))
    for group in app.registered_groups:
        for command in group.typer_instance.registered_commands if group.typer_instance else []:
            words = [str(group.name), str(command.name)]
            sections.append(_render(f"penname {' '.join(words)}", words))
    return "\n".join(sections)


def _render(title: str, words: list[str]) -> str:
    # The width must not depend on the terminal of whoever runs this.
    env = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
    result = CliRunner().invoke(app, [*words, "--help"], prog_name="penname", env=env)
    if result.exit_code != 0:
        raise SystemExit(f"{title} --help failed: {result.output}")
    text = "\n".join(line.rstrip() for line in result.output.strip("\n").splitlines())
    return f"## {title}\n\n```\n{text}\n```\n"


if __name__ == "__main__":
    TARGET.write_text(render_manual(), encoding="utf-8")
    print(TARGET)
