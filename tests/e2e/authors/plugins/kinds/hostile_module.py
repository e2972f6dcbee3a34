"""A module whose attributes misbehave when they are looked at; its functions are fine."""

from __future__ import annotations


class Proxy:
    """Stands for nothing yet, like a web framework's request outside of one."""

    def __getattr__(self, name):
        raise RuntimeError("working outside of a request")

    def __call__(self):
        raise RuntimeError("working outside of a request")


class Unfriendly:
    """Cannot even be asked what it is."""

    @property
    def __class__(self):
        raise RuntimeError("no class")

    def __call__(self):
        return 1


proxy = Proxy()
unfriendly = Unfriendly()


def looped(**_):
    return 1


looped.__wrapped__ = looped


def bad_signature(**_):
    return 1


class _Raising:
    def __get__(self, instance, owner):
        raise RuntimeError("no signature today")


class Unsigned:
    """Raises when its signature is read."""

    __signature__ = _Raising()

    def __call__(self, **_):
        return 1


bad_signature.__signature__ = "not a signature"
unsigned = Unsigned()


class MetaHostile(type):
    """A class of classes that raise when they are compared, hashed or shown."""

    def _raise(cls, *_):
        raise RuntimeError("hands off")

    __eq__ = __hash__ = __repr__ = __instancecheck__ = __subclasscheck__ = _raise


class Untouchable(metaclass=MetaHostile):
    """Annotates a parameter."""


def fine(*, n: int = 1, odd: Untouchable = None, odder: unfriendly = unfriendly):
    return n


fine.__doc__ = proxy


def __getattr__(name):
    if name == "lazy":
        return fine
    if name == "lazily_broken":
        raise ValueError("the attribute cannot be made")
    raise AttributeError(name)
