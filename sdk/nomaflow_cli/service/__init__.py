"""The implementation of ``nomaflow service``: writes, shows and removes systemd units for a project."""
