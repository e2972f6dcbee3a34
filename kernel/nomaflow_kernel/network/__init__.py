"""The addresses a kernel listens on, its private sockets, and its certificate."""
