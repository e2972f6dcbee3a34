"""Alerts: a client of the kernel that tells people what needs them."""
