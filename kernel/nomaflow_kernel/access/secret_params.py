"""Params that a job declares secret: encrypted from the moment a trigger is read until its host gets an order.

A sealed value takes the place of the value in a request's layers: ``{"$secret": token}``, a tag that no client can
send, since the values' codec does not know it. So everything that keeps, copies or shows layers sees only the sealed
form. The key is in the kernel's state folder, beside the history and not in it: a copy of the history alone reveals
nothing.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from nomaflow_api.private_file import create_private
from nomaflow_kernel.domain.errors import KernelError
from nomaflow_kernel.history.records import RunRequest

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

MASK = "***"
KEY_FILE = "secret-params.key"
_TAG = "$secret"
_MARK = '"$secret"'


class SecretParamsUnreadable(Exception):
    """Raised when a sealed value cannot be opened; the text names the key's file and the way out."""


class SecretParams:
    """Seals and opens the secret params of runs.

    :param state_dir: the folder with the key, which is made at the first use; None to seal nothing
    """

    def __init__(self, state_dir: Path | None = None) -> None:
        self._file = Path(os.devnull if state_dir is None else state_dir, KEY_FILE)
        self._key = b""

    def sealed(self, request: RunRequest, names: Collection[str]) -> RunRequest:
        """Return a request with the values of secret params sealed, in whichever layer they are.

        :param names: ``secret_params`` of the job; empty for none
        :raises KernelError: if there is no key, and none can be made
        """
        if not names:
            return request
        layers = (request.inherited, request.params, *request.op_kwargs.values())
        if not any(name in layer and not _is_sealed(layer[name]) for layer in layers for name in names):
            return request
        return replace(
            request,
            inherited=self._seal(request.inherited, names),
            params=self._seal(request.params, names),
            op_kwargs={step: self._seal(values, names) for step, values in request.op_kwargs.items()},
        )

    def opened(self, text: str) -> str:
        """Return a JSON object with its sealed values opened.

        :raises SecretParamsUnreadable: if the key is missing, or is a different one
        """
        if _MARK not in text:
            return text
        values = json.loads(text)
        opened = {key: self._open(key, value) if _is_sealed(value) else value for key, value in values.items()}
        return json.dumps(opened, separators=(",", ":"), allow_nan=False)

    def keyed(self, request_hash: str) -> str:
        """Return the hash under which a request with secret params is remembered; it helps nobody to guess the values.

        :raises KernelError: as `sealed`
        """
        return _keyed(self._make_key(), request_hash)

    def is_keyed(self, kept: str, request_hash: str) -> bool:
        """Return whether a kept hash is the keyed one of a request; False if there is no key to tell."""
        try:
            return hmac.compare_digest(_keyed(self._key or self._read(), request_hash), kept)
        except (OSError, ValueError):
            return False

    def _seal(self, values: Mapping[str, Any], names: Collection[str]) -> Mapping[str, Any]:
        return {
            key: {_TAG: self._encrypt(value)} if key in names and not _is_sealed(value) else value
            for key, value in values.items()
        }

    def _encrypt(self, value: Any) -> str:
        body = json.dumps(value, separators=(",", ":"), allow_nan=False)
        return _fernet(self._make_key()).encrypt(body.encode("utf-8", "surrogatepass")).decode("ascii")

    def _open(self, name: str, value: Mapping[str, str]) -> Any:
        from cryptography.fernet import InvalidToken

        try:
            key = self._key or self._read()
            return json.loads(_fernet(key).decrypt(value[_TAG].encode("ascii")).decode("utf-8", "surrogatepass"))
        except FileNotFoundError:
            why = "there is no such file"
        except InvalidToken:
            why = "it is a different key"
        except (OSError, ValueError) as error:
            why = f"it cannot be read: {getattr(error, 'strerror', None) or 'it is malformed'}".lower()
        raise SecretParamsUnreadable(
            f"the secret param {name!r} cannot be decrypted with the key {str(self._file)!r}: {why}; "
            "restore the key that the run was stored with, or start the run anew"
        )

    def _read(self) -> bytes:
        """Return the key of the file.

        :raises OSError: if it cannot be read
        :raises ValueError: if it holds no key
        """
        body = self._file.read_bytes()
        if len(base64.urlsafe_b64decode(body)) != 32:
            raise ValueError("a key has 32 bytes")
        self._key = body.strip()
        return self._key

    def _make_key(self) -> bytes:
        """Return the key; make one if there is none yet.

        :raises KernelError: if that is impossible
        """
        if self._key:
            return self._key
        from cryptography.fernet import Fernet

        try:
            with contextlib.suppress(FileNotFoundError):
                return self._read()
            create_private(self._file, Fernet.generate_key() + b"\n")  # unless another kernel of this folder was faster
            return self._read()
        except (OSError, ValueError) as error:
            why = (getattr(error, "strerror", None) or str(error)).lower()
            problem = f"secret params cannot be encrypted: the key {str(self._file)!r} cannot be used: {why}"
            raise KernelError(problem, reason="SECRETS_UNAVAILABLE") from None


def carries_sealed(request: RunRequest) -> bool:
    """Return whether a request has sealed values, in whichever layer."""
    layers = (request.inherited, request.params, *request.op_kwargs.values())
    return any(_is_sealed(value) for layer in layers for value in layer.values())


def secret_keys(text: str, names: Collection[str]) -> tuple[str, ...]:
    """Return the keys of a JSON object whose values are secret: sealed, or named so by the job."""
    if not names and _MARK not in text:
        return ()
    return tuple(key for key, value in json.loads(text).items() if key in names or _is_sealed(value))


def hidden(text: str, names: Collection[str]) -> str:
    """Return a JSON object with ``***`` in place of its secret values."""
    keys = secret_keys(text, names)
    if not keys:
        return text
    return json.dumps({**json.loads(text), **dict.fromkeys(keys, MASK)}, separators=(",", ":"), allow_nan=False)


def _keyed(key: bytes, request_hash: str) -> str:
    return hmac.new(key, request_hash.encode("ascii"), hashlib.sha256).hexdigest()


def _is_sealed(value: object) -> bool:
    return isinstance(value, dict) and len(value) == 1 and _TAG in value


def _fernet(key: bytes) -> Fernet:
    from cryptography.fernet import Fernet

    return Fernet(key)
