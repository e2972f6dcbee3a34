"""The host's main process: its settings, its life from load to stop, and the service manager."""
