"""Everything that can be called, and much that cannot."""

from __future__ import annotations

import asyncio
import functools
import threading


def where():
    """Return where the code runs: on a loop, and in which kind of thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        loop = False
    else:
        loop = True
    return {"loop": loop, "main": threading.current_thread() is threading.main_thread()}


async def plain_async(*, n: int = 0):
    return {"n": n, **where()}


def plain_sync(*, n: int = 0):
    return {"n": n, **where()}


partial_async = functools.partial(plain_async, n=5)
partial_sync = functools.partial(functools.partial(plain_sync), n=6)


def announced(function):
    @functools.wraps(function)
    def wrapper(**kwargs):
        return function(**kwargs)

    return wrapper


def announced_async(function):
    @functools.wraps(function)
    async def wrapper(**kwargs):
        return await function(**kwargs)

    return wrapper


def positional(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@announced
async def wrapped_async(*, n: int):
    await asyncio.sleep(0)
    return {"n": n, **where()}


@announced_async
async def wrapped_both(*, n: int):
    return {"n": n, **where()}


@positional
@announced
def wrapped_twice(n: int):
    return {"n": n, **where()}


class Tools:
    """A class with things to call."""

    factor = 3

    @staticmethod
    def static(*, n: int):
        return {"n": n}

    @classmethod
    async def klass(cls, *, n: int):
        return {"n": n * cls.factor}

    def method(self, *, n: int):
        return {"n": n * self.factor}

    class Inner:
        """One level down."""

        @staticmethod
        async def deep(n: int):
            return {"n": n}


tools = Tools()


class Sync:
    """Callable, sync."""

    def __call__(self, *, n: int):
        return {"n": n, **where()}


class Async:
    """Callable, async."""

    async def __call__(self, *, n: int):
        return {"n": n, **where()}


class Meta(type):
    """Makes calling a class surprising; the class stays one."""

    def __call__(cls, *args, **kwargs):
        return 5


class Tricky(metaclass=Meta):
    """A class that is called like a function."""


sync_object = Sync()
async_object = Async()
partial_of_async_object = functools.partial(Async.__call__, async_object, n=7)
partial_of_object = functools.partial(async_object, n=8)
shout = lambda *, n: {"n": n}  # noqa: E731 - as authors write it


def generator(**_):
    yield 1


async def async_generator(**_):
    yield 1


@announced
def wrapped_generator(**_):
    yield 1


def hands_back_a_generator(**_):
    return (n for n in range(3))


def nested_loop(*, n: int):
    return asyncio.run(plain_async(n=n))


async def loop_in_a_loop():
    coroutine = plain_async()
    try:
        asyncio.run(coroutine)
    finally:
        coroutine.close()


def own_loop():
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(plain_async(n=4))
    finally:
        loop.close()


not_callable = 5


def positional_only(n: int, /):
    return n
