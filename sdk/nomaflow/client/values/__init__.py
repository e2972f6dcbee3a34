"""Values that the client returns: frozen, with a ``to_json`` in the shapes of docs/cli.md. Loads no gRPC.

Each name of these modules is a name of this package; those of `nomaflow.client.values.alerts` are of the alerts' own
client.
"""

from __future__ import annotations

from nomaflow.client.values.access import *
from nomaflow.client.values.attempts import *
from nomaflow.client.values.audit import *
from nomaflow.client.values.callables import *
from nomaflow.client.values.catalogue import *
from nomaflow.client.values.events import *
from nomaflow.client.values.figures import *
from nomaflow.client.values.kernel import *
from nomaflow.client.values.logs import *
from nomaflow.client.values.runs import *
from nomaflow.client.values.shapes import *
