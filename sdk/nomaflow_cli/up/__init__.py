"""The implementation of ``nomaflow up``: runs a kernel, a host and a console as children, restarts and stops them."""
