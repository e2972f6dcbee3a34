"""``nomaflow logs`` and ``inspect``."""

from __future__ import annotations

import re
import shlex
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from nomaflow_api.log_levels import levels_from
from nomaflow_cli import pages
from nomaflow_cli.errors import CliError
from nomaflow_cli.invocation import Invocation, remote_command
from nomaflow_cli.kernel_access import talk
from nomaflow_cli.options import argument, flag, option
from nomaflow_cli.output import answer, console, print_json_line
from nomaflow_cli.parsers import level_number

if TYPE_CHECKING:
    from nomaflow.client import KernelClient
    from nomaflow.client.values import LogLine, RunView

_RUN = argument("The run's id.")


@remote_command("logs")
def logs(
    *,
    invocation: Invocation,
    run: str = _RUN,
    follow: bool = flag("Keep printing new lines until the run ends.", "-f"),
    step: str = option("Show only lines of this step."),
    attempt: int = option("Number of the try, from 1; 0 for all.", "--try", default=0, min=0),
    level: str = option("Show only lines of this level and above."),
    grep: str = option("Show only lines that match this regular expression (Python's).", "-g"),
    ignore_case: bool = flag("Let --grep ignore case.", "-i"),
    tail: int = option("Number of lines to show, from the end; 0 shows all.", "-n", default=0, min=0),
) -> None:
    """Print the log of a run.

    With -o json, each line is one object.
    """
    lowest = level_number(level) if level else 0
    pattern = _pattern(grep, ignore_case=ignore_case)

    async def ask(kernel: KernelClient) -> int:
        if step:
            _require_step(await kernel.get_run(run), step)
        out, shown = None if invocation.as_json else console(), 0
        read: Callable[..., AsyncIterator[list[LogLine]]]
        read = kernel.read_log_blocks if pattern is None else partial(_matching, kernel, pattern)
        async for block in read(run, follow=follow, step=step, attempt=attempt, min_level=lowest, tail=tail):
            shown += len(block)
            if out is not None:
                pages.log_lines.print_log(out, block)
            else:
                for line in block:
                    print_json_line(line.to_json())
        if attempt and not shown:
            _require_try(await kernel.get_run(run), step, attempt)
        return shown

    shown = talk(invocation, ask, retry_seconds=300)
    if not shown and not invocation.as_json:
        filtered = pattern is not None or step or attempt or level
        console(stderr=True).print("no line matches" if filtered else "the log has no lines")


def _pattern(text: str, *, ignore_case: bool) -> re.Pattern[str] | None:
    if not text:
        if ignore_case:
            raise CliError("-i needs --grep: it has no effect alone", fix="add --grep and a text")
        return None
    try:
        return re.compile(text, re.IGNORECASE if ignore_case else 0)
    except re.error as error:
        raise CliError(
            f"--grep {text!r} is no regular expression: {error}",
            fix=f"to look for it as it is: --grep {shlex.quote(re.escape(text))}",
        ) from None


async def _matching(
    kernel: KernelClient,
    pattern: re.Pattern[str],
    run: str,
    *,
    follow: bool,
    step: str,
    attempt: int,
    min_level: int,
    tail: int,
) -> AsyncIterator[list[LogLine]]:
    """Yield the matching lines: those stored now, the last ones of them with a tail, and then those that follow."""
    last: deque[LogLine] = deque(maxlen=tail or None)
    seen = 0
    levels = levels_from(min_level) if min_level else 0
    async for chunks in kernel.read_log_chunks(run, step=step, attempt=attempt, levels=levels):
        found = [line for chunk in chunks for line in chunk.search(pattern, min_level=min_level)]
        seen = chunks[-1].last_seq
        if tail:
            last.extend(found)
        elif found:
            yield found
    if last:
        yield list(last)
    if follow:
        new = kernel.read_log_blocks(run, follow=True, after_seq=seen, step=step, attempt=attempt, min_level=min_level)
        async with aclosing(new) as blocks:
            async for block in blocks:
                found = [line for line in block if pattern.search(line.message)]
                if found:
                    yield found


def _require_step(run: RunView, step: str) -> None:
    names = [one.name for one in run.steps]
    if step not in names:
        raise CliError(
            f"run {run.run_id} has no step {step!r}", fix=f"its steps are {', '.join(map(repr, names)) or 'none'}"
        )


def _require_try(run: RunView, step: str, attempt: int) -> None:
    tries = [each.attempt for one in run.steps if step in ("", one.name) for each in one.attempts]
    if attempt not in tries:
        what = f"step {step!r} of run {run.run_id}" if step else f"run {run.run_id}"
        raise CliError(
            f"{what} has no try {attempt}", fix=f"its newest is try {max(tries)}" if tries else "no try has begun yet"
        )


@remote_command("inspect")
def inspect(
    *,
    invocation: Invocation,
    run: str = _RUN,
    step: str = option("The step; without it the one in progress."),
    attempt: int = option("Number of the try; 0 for the newest.", "--try", default=0, min=0),
) -> None:
    """Show what a running step does now.

    Its processes, and the stacks of its Python code.
    """
    seen = talk(invocation, lambda kernel: kernel.inspect_attempt(run, step=step, attempt=attempt))
    answer(invocation, seen.to_json(), lambda: pages.attempts.inspection_page(seen))
