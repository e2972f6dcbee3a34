"""The plugin manager of one process: built-in plugins, entry points, and modules of the plugins folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

import pluggy

from nomaflow import hookspecs
from nomaflow_host.hooks.builtin import builtin_plugins
from nomaflow_host.hooks.installed_plugins import EntryPoint, installed_plugins
from nomaflow_host.hooks.tracing import TRACE_VARIABLE, trace_hooks
from nomaflow_host.injection.references import ImportReport, functions_of, import_module, near
from nomaflow_project.reading.problems import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType

_ENTRY_POINTS = "nomaflow.plugins"

_MARK = f"{hookspecs.PROJECT_NAME}_impl"


class HookHost:
    """The hooks of a process.

    A plugin that does not fit the hooks is dropped with a problem that says why; the others are kept.

    :ivar problems: a problem for each dropped plugin, in order
    """

    def __init__(self, manager: pluggy.PluginManager) -> None:
        """Take a manager with the specs and the built-in plugins registered."""
        self._manager = manager
        self.call: Any = manager.hook
        """The hooks; call them by name with keyword arguments."""
        self.problems: list[Problem] = []

    def add(self, plugin: Any, *, name: str, file: str = "") -> None:
        """Register a plugin, or drop it with a problem.

        :param name: the plugin's name in messages and traces
        :param file: its file, for the problem
        """
        try:
            self._manager.register(plugin, name=name)
            self._check_known(plugin)
        except Exception as error:  # noqa: BLE001 - reading a plugin's attributes may run its code
            if self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            expected = isinstance(error, (pluggy.PluginValidationError, ValueError))
            self._drop(name, file, ("" if expected else f"{type(error).__name__}: ") + _one_line(error))

    def add_entry_points(self, entry_points: Iterable[EntryPoint]) -> None:
        """Load and register plugins of installed distributions; an import that fails drops its plugin."""
        for point in sorted(entry_points, key=lambda each: each.name):
            try:
                plugin = point.load()
            except BaseException as error:  # noqa: BLE001 - sys.exit() of a plugin's import is reported as well
                self._drop(point.name, point.value, f"{type(error).__name__}: {_one_line(error)}")
                continue
            self.add(plugin, name=point.name, file=point.value)

    def add_modules(self, modules: Mapping[str, ModuleType]) -> None:
        """Register the modules that define hooks."""
        for name, module in sorted(modules.items()):
            if defines_hooks(module):
                self.add(module, name=name, file=getattr(module, "__file__", None) or "")

    def _check_known(self, plugin: Any) -> None:
        """Refuse implementations of hooks that do not exist."""
        for caller in self._manager.get_hookcallers(plugin) or []:
            needed = any(impl.plugin is plugin and not impl.optionalhook for impl in caller.get_hookimpls())
            if needed and not caller.has_spec():
                known = (name for name in vars(hookspecs) if name.startswith(f"{hookspecs.PROJECT_NAME}_"))
                raise ValueError(f"there is no hook {caller.name!r}{near(caller.name, known)}")

    def _drop(self, name: str, file: str, why: str) -> None:
        self.problems.append(
            Place(file).error(
                "plugin_dropped",
                f"the plugin {name!r} is not used: {why}",
                fix="correct it to match nomaflow.hookspecs, then reload the host",
            )
        )


def build_hooks(
    *,
    environ: Mapping[str, str],
    trace_stream: TextIO,
    importer: Callable[[str], ModuleType | ImportReport] = import_module,
    entry_points: Iterable[EntryPoint] | None = None,
) -> HookHost:
    """Return the hooks of this process, with the built-in plugins and those of installed distributions.

    :param environ: variables in which `TRACE_VARIABLE` is looked up
    :param trace_stream: destination of traces
    :param importer: the import function of the built-in resolver
    :param entry_points: in place of those of the installed distributions
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT_NAME)
    manager.add_hookspecs(hookspecs)
    for name, plugin in builtin_plugins(importer).items():
        manager.register(plugin, name=name)
    manager.check_pending()
    if environ.get(TRACE_VARIABLE, "") not in ("", "0"):
        trace_hooks(manager, trace_stream)
    hooks = HookHost(manager)
    if entry_points is None:
        entry_points = installed_plugins(_ENTRY_POINTS)
    hooks.add_entry_points(entry_points)
    return hooks


def defines_hooks(module: ModuleType) -> bool:
    """Return True if a module has a function marked with ``nomaflow.hookimpl``.

    Only true functions are inspected: other objects in a module, such as lazy proxies, may raise on inspection.
    """
    return any(isinstance(getattr(value, _MARK, None), dict) for _, value in functions_of(module))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
