"""An index by which definitions that no run has are found, and their removal."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the index, in the order in which all keys are compared, and remove what earlier versions have left."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute('ALTER TABLE runs ALTER COLUMN definition_digest TYPE text COLLATE "C"')
    op.create_index("runs_by_definition", "runs", ["definition_digest"])
    op.execute("DELETE FROM definitions WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runs.definition_digest = digest)")
