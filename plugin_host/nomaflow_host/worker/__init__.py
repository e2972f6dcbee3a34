"""A worker: the process that runs callables. Forked from a template, or started as ``-m nomaflow_host.worker``."""
