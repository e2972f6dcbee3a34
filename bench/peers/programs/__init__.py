"""A program for each peer, as a user of that peer would write it; none of them imports the product."""

from __future__ import annotations
