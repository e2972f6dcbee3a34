"""The values of an order's references, resolved in the host's main process for the worker that runs it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nomaflow_api.v1.sealing import open_order
from nomaflow_host.injection.credentials_to_mask import references_of
from nomaflow_host.injection.reference_values import GivenValues
from nomaflow_project.reading.sources import ENCRYPTED, FILE, VARIABLE, Reference, ReferenceMissing

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from nomaflow_host.supervisor.secrets_link import SecretsLink
    from nomaflow_host.supervisor.serving_generation import ServingGeneration
    from nomaflow_project.reading.sources import ValueSource

_BUILT_IN = frozenset({VARIABLE, FILE, ENCRYPTED})


class OrderValues:
    """Resolves the references of orders.

    :param plugins: resolves those for plugins
    :param environ: the host's own variables, for plugins
    """

    def __init__(self, *, plugins: SecretsLink, environ: Mapping[str, str]) -> None:
        self._plugins = plugins
        self._environ = environ

    async def of(self, order: bytes, generation: ServingGeneration, connectors: bool) -> GivenValues:  # noqa: FBT001
        """Return the values for an order.

        :param order: a sealed AttemptOrder
        :param connectors: whether to add those of the references for plugins in connectors.toml
        """
        wanted = references_of(open_order(order))
        if connectors:
            wanted |= {*generation.project.connectors.deferred.values()}
        ours = [each for each in wanted if each.scheme in _BUILT_IN]
        source, variables = generation.values(), generation.variables.references
        if all(each.scheme == VARIABLE and each.rest in variables for each in ours):
            found = _values(ours, source)
        else:  # in a thread, since a file may be on a disk that is slow or away
            found = await asyncio.to_thread(_values, ours, source)
        theirs = wanted.difference(ours)
        if theirs:
            environ = {**generation.project.variables, **self._environ}
            found.update(await self._plugins.values(theirs, environ))
        return GivenValues(found)


def _values(wanted: Collection[Reference], source: ValueSource) -> dict[Reference, str | ReferenceMissing]:
    found: dict[Reference, str | ReferenceMissing] = {}
    for each in wanted:
        try:
            found[each] = source.value_of(each)
        except ReferenceMissing as error:
            found[each] = error
    return found
