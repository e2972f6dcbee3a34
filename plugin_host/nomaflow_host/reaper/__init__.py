"""The reaper: the process of a host that is the parent of templates and workers, waits for them and signals them.

It uses the standard library only, has one thread, and never blocks. A host's main process starts it as
``python -P -m nomaflow_host.reaper`` and talks to it in frames. When their connection ends it kills everything below
itself and exits, so that a killed host leaves nothing behind.
"""
