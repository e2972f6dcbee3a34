"""The measures of the product: real kernels, hosts and workers, every acknowledgement durable."""

from __future__ import annotations
