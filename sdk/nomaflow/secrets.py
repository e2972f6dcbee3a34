"""Errors that a plugin for secrets raises: whether another attempt may succeed is its decision."""

from __future__ import annotations

from nomaflow.errors import NomaflowError

__all__ = ["SecretRefused", "SecretUnavailable"]


class SecretUnavailable(NomaflowError):
    """Raised if the service with the secret is away, slow or sealed. The attempt fails; a retry may succeed.

    The text is shown to people who read the run, so it must hold no secret.
    """


class SecretRefused(NomaflowError):
    """Raised if there is no such secret, or it may not be read. A retry cannot help.

    The text is shown to people who read the run, so it must hold no secret.
    """
