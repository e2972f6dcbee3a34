"""The wire contract between the kernel, its hosts and its clients. It imports none of our packages.

Beside it are small leaves that every package shares: bounds, addresses, clocks, the event loop, sizes and times as
people read them.
"""
