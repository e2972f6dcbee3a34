"""The parser of a process's options: it takes whole names only, and names the option that a misspelt one may mean."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import takewhile

from nomaflow_api.near_names import near_names


class OptionParser(argparse.ArgumentParser):
    """The options of one of our processes. argparse by itself would take ``--ca`` of a host as ``--capacity``."""

    def __init__(self, *, prog: str, description: str | None = None, epilog: str | None = None) -> None:
        super().__init__(prog=prog, description=description, epilog=epilog, allow_abbrev=False)

    def parse(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:
        """Return the values of the options, by default of this process's; end it with exit code 2 if one is wrong."""
        given = sys.argv[1:] if arguments is None else arguments
        for each in takewhile(lambda each: each != "--", given):
            name = each.partition("=")[0]
            if name.startswith("--") and " " not in name and name not in self._option_string_actions:
                self.error(f"no such option: {name}; {self._meant(name)}")
        return self.parse_args(given)

    def _meant(self, name: str) -> str:
        known = [each for each in self._option_string_actions if each.startswith("--")]
        meant = [each for each in known if each.startswith(name)]
        meant = meant or [f"--{each}" for each in near_names(name[2:], (each[2:] for each in known), most=1)]
        return f"did you mean {' or '.join(meant)}?" if meant else "--help lists the options"
