"""Options that were given and would do nothing beside others: they are refused, not taken in silence. Pure."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping

from engine.errors import BadRequest


def given(parser: argparse.ArgumentParser, args: argparse.Namespace) -> dict[str, str]:
    """dest -> option, of those whose value is not the one that they have without being given."""
    actions = [action for action in parser._actions if action.option_strings and hasattr(args, action.dest)]
    differing = [action for action in actions if getattr(args, action.dest) != parser.get_default(action.dest)]
    return {action.dest: action.option_strings[0] for action in differing}


def refuse(names: Iterable[str], options: Mapping[str, str], why: str) -> None:
    """options: as `given` returns them. Raises BadRequest where one of these names is among them."""
    found = sorted(options[name] for name in names if name in options)
    if found:
        raise BadRequest(f"{', '.join(found)}: {why}; leave {'it' if len(found) == 1 else 'them'} out.", param=found[0])
