"""A plugin host: loads the callables of one team, runs them in worker processes, and reports to the kernel."""
