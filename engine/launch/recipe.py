"""What is written for a program, and where: a Recipe is data, with places for the facts of the port.

A value may name a fact: "{base_url}" alone becomes the fact itself, whatever type it has; in the middle of a text it is
put in. An entry of a mapping whose fact is None (a key where none is asked for) is left out.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

SettingsFormat = Literal["json", "toml", "yaml", "env"]
FACT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Item:
    """The entry of a list whose `field` has this value."""

    field: str
    value: str


PathStep = str | Item


@dataclass(frozen=True, slots=True)
class Setting:
    """One value, and the way to it from the top of its file. is_default: written only where there is none yet.
    is_secret: not to be shown, though its name does not say so (engine.launch.shown)."""

    path: tuple[PathStep, ...]
    value: Any
    is_default: bool = False
    is_secret: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a program looks for a file: below the first of these environment variables that is set, else in `folder`.

    variables: (name, folder below it). mac_folder: instead of folder on a Mac.
    """

    name: str
    folder: str
    variables: tuple[tuple[str, str], ...] = ()
    mac_folder: str | None = None

    def path(self, environment: Mapping[str, str]) -> Path:
        """The file's path. It may not exist."""
        for variable, below in self.variables:
            if environment.get(variable):
                return Path(environment[variable]).expanduser() / below / self.name
        folder = self.mac_folder if self.mac_folder and sys.platform == "darwin" else self.folder
        home = Path(environment["HOME"]) if environment.get("HOME") else Path.home()
        return home / folder.removeprefix("~/") / self.name


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """A file of a program and what goes into it."""

    place: Place
    format: SettingsFormat
    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A program that can use the port.

    command: what starts it; what its files of the format "env" hold becomes its environment. install: how it is
    installed. note: what a person should know after the files are written.
    """

    name: str
    title: str
    command: tuple[str, ...]
    install: str
    files: tuple[SettingsFile, ...]
    note: str = ""

    def filled(self, facts: Mapping[str, Any]) -> Recipe:
        """The same with the facts of a port in it. Settings whose value is a missing fact are left out."""
        files = []
        for file in self.files:
            filled = [replace(setting, value=fill(setting.value, facts)) for setting in file.settings]
            kept = tuple(setting for setting in filled if setting.value is not None)
            if kept:
                files.append(replace(file, settings=kept))
        return replace(
            self,
            files=tuple(files),
            command=tuple(fill(list(self.command), facts)),
        )


def fill(value: Any, facts: Mapping[str, Any]) -> Any:
    """A value with its facts, see above."""
    if isinstance(value, str):
        if match := FACT.fullmatch(value):
            return facts[match[1]]
        return FACT.sub(lambda match: str(facts[match[1]]), value)
    if isinstance(value, Mapping):
        filled = {fill(name, facts): fill(inner, facts) for name, inner in value.items()}
        return {name: inner for name, inner in filled.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [fill(inner, facts) for inner in value]
    return value
