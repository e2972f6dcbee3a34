"""The methods of all services of a leading kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nomaflow_kernel.hosts import HostGateway
from nomaflow_kernel.rpc.enrolment import Enrolment
from nomaflow_kernel.rpc.handlers import methods_of
from nomaflow_kernel.rpc.health import Health
from nomaflow_kernel.rpc.kernel_service import KernelService
from nomaflow_kernel.rpc.server import ACCESS, ENROLMENT, GATEWAY, HEALTH, KERNEL, Services

__all__ = ["served_services"]


def served_services(
    *, service: KernelService, gateway: HostGateway, enrolment: Enrolment, access: Sequence[object], health: Health
) -> tuple[Services, Mapping[str, Callable[..., Any]]]:
    """Return the methods of the kernel's services, and those of the health service.

    :param access: the parts of AccessService
    """
    services = {
        KERNEL: methods_of(KERNEL, *service.parts),
        ACCESS: methods_of(ACCESS, *access),
        GATEWAY: methods_of(GATEWAY, gateway, enrolment),
        ENROLMENT: methods_of(ENROLMENT, enrolment),
    }
    return services, methods_of(HEALTH, health)
