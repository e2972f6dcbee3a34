"""A step that does something: it opens a pool, reads 1,000 rows and logs 50 lines.

The product and the peers run this same file, and read from one PostgreSQL server.
"""

from __future__ import annotations

import logging
import os

import psycopg
from sqlalchemy import create_engine, text

__all__ = ["LINES", "ROWS", "real_step"]

ROWS = 1_000
LINES = 50

log = logging.getLogger(__name__)


def real_step() -> int:
    """Return how many rows there were."""
    engine = create_engine(os.environ["REAL_STEP_URL"], module=psycopg)
    try:
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT id, name FROM things ORDER BY id")).all()
    finally:
        engine.dispose()
    for row in rows[: LINES * 20 : 20]:
        log.info("row %d is named %s", row.id, row.name)
    return len(rows)
