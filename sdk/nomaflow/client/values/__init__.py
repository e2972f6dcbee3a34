"""Values that the client returns: frozen, with a ``to_json`` in the shapes of docs/cli.md. Loads no gRPC."""

from __future__ import annotations

from nomaflow.client.values.attempts import AttemptLogView, ExitView, RungView, StopView
from nomaflow.client.values.audit import AuditRowView, AuditVerdictView
from nomaflow.client.values.authority import AuthorityView
from nomaflow.client.values.callables import CallablesView, CallableView, ModuleView, ParameterView, StepTypeView
from nomaflow.client.values.catalogue import (
    CatalogueView,
    FireView,
    HostView,
    InstanceView,
    JobView,
    PauseView,
    ProblemView,
    RefusedLoadView,
    ReloadView,
    WorkerView,
)
from nomaflow.client.values.events import EventView, PrunedView, Replayed, Triggered, TriggerRefusal
from nomaflow.client.values.figures import (
    EventPageView,
    FirePageView,
    FrequentScheduleView,
    JobStatsView,
    ListedFireView,
    RecentRunView,
    RunCountView,
    RunPageView,
)
from nomaflow.client.values.inspection import InspectionView, ProcessView, StackView
from nomaflow.client.values.kernel import CallerView, KernelView
from nomaflow.client.values.logs import LogChunk, LogLine
from nomaflow.client.values.runs import (
    RUN_TERMINAL,
    AncestorView,
    AttemptView,
    CancelView,
    FoldView,
    ProgressView,
    ReasonView,
    RunRequestView,
    RunView,
    StepSwitchView,
    StepValuesView,
    StepView,
    TriggerView,
)
from nomaflow.client.values.shapes import from_micros, iso, iso_micros
from nomaflow.client.values.tokens import CertificateView, IssuedToken, TokenView, WithdrawnView

__all__ = [
    "RUN_TERMINAL",
    "AncestorView",
    "AttemptLogView",
    "AttemptView",
    "AuditRowView",
    "AuditVerdictView",
    "AuthorityView",
    "CallableView",
    "CallablesView",
    "CallerView",
    "CancelView",
    "CatalogueView",
    "CertificateView",
    "EventPageView",
    "EventView",
    "ExitView",
    "FirePageView",
    "FireView",
    "FoldView",
    "FrequentScheduleView",
    "HostView",
    "InspectionView",
    "InstanceView",
    "IssuedToken",
    "JobStatsView",
    "JobView",
    "KernelView",
    "ListedFireView",
    "LogChunk",
    "LogLine",
    "ModuleView",
    "ParameterView",
    "PauseView",
    "ProblemView",
    "ProcessView",
    "ProgressView",
    "PrunedView",
    "ReasonView",
    "RecentRunView",
    "RefusedLoadView",
    "ReloadView",
    "Replayed",
    "RunCountView",
    "RunPageView",
    "RunRequestView",
    "RunView",
    "RungView",
    "StackView",
    "StepSwitchView",
    "StepTypeView",
    "StepValuesView",
    "StepView",
    "StopView",
    "TokenView",
    "TriggerRefusal",
    "TriggerView",
    "Triggered",
    "WithdrawnView",
    "WorkerView",
    "from_micros",
    "iso",
    "iso_micros",
]
