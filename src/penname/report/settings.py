"""Every setting of a run with its explanation, and whether it differs from the default."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape
from pydantic import BaseModel

from penname.config import Config


@dataclass(frozen=True)
class Setting:
    """One key of the config."""

    key: str
    value: str
    default: str
    changed: bool
    explanation: str


@dataclass(frozen=True)
class SettingsSection:
    """One section of the config."""

    name: str
    explanation: str
    settings: list[Setting]

    @property
    def num_changed(self) -> int:
        return sum(setting.changed for setting in self.settings)


def list_settings(config: Config) -> list[SettingsSection]:
    """The whole config by section; keys outside a section come last, under `run`."""
    sections, loose = [], []
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            sections.append(SettingsSection(name, (type(value).__doc__ or "").strip(), _list_section(value)))
        else:
            loose.append(_describe(config, name))
    return [*sections, SettingsSection("run", "Keys that belong to no section.", loose)] if loose else sections


def _list_section(section: BaseModel) -> list[Setting]:
    return [_describe(section, name) for name in type(section).model_fields]


def _describe(section: BaseModel, name: str) -> Setting:
    model_field = type(section).model_fields[name]
    value, default = getattr(section, name), model_field.get_default(call_default_factory=True)
    return Setting(name, _show(value), _show(default), value != default, model_field.description or "")


def _show(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def mark_code(explanation: str) -> Markup:
    """An explanation from a docstring, with what stands in backticks as code.

    >>> mark_code("`none` means < 1")
    Markup('<code>none</code> means &lt; 1')
    """
    parts = explanation.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if num % 2 else escape(part) for num, part in enumerate(parts))
