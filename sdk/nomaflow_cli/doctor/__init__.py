"""The checks of ``nomaflow doctor``: the machine, a project's files, its store, and a running system."""
