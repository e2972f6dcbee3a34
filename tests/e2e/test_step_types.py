"""Step types that plugins contribute: what run params reach, what is checked, and where no secret ever goes."""

from __future__ import annotations

import base64
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from contract_stage import Ran, Stage, open_stage
from google.protobuf.message import Message

from cli_command import run_command
from nomaflow.client import ClientError, ReplayOrder
from nomaflow.client.values.runs import AttemptView
from nomaflow_api.v1 import kernel_service_pb2 as pb
from nomaflow_api.v1.kernel_service_pb2_grpc import KernelServiceStub
from real_system import PATIENCE

pytestmark = pytest.mark.e2e

TOKEN = "tök'en\"&%/S3cret+\\value"
PHRASE = "correct-horse-battery"
PLAIN = "named-like-nothing-secret"
EARLY = "set-by-a-plugin-at-import"
PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0\nBAQEFAASCBKcwggSjAgEAAo\n-----END KEY-----"
_WHOLE = (TOKEN, PHRASE, PLAIN, EARLY, *PEM.splitlines()[1:3])


def _forms(secret: str) -> set[bytes]:
    """Return what a secret is recognised by: the whole of it in its usual forms, and a piece of its beginning and end."""
    raw = secret.encode()
    encoded = base64.b64encode(b"user:" + raw)[8 : (5 + len(raw)) * 8 // 6 - 1]
    coded = {raw.hex().encode(), raw.hex().upper().encode(), base64.b32encode(raw).rstrip(b"=")[:-1]}
    return {raw, quote(secret, safe="").encode(), repr(secret)[1:-1].encode(), encoded, raw[:9], raw[-9:], *coded}


STEPS = ("contributed", "plain", "async")
NEEDLES = set[bytes]().union(*map(_forms, _WHOLE))


def found_in(data: bytes) -> list[bytes]:
    """Return the secrets that can be read in some bytes."""
    return sorted(needle for needle in NEEDLES if needle in data)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Start a kernel and a host on the project of step types; stop them when the tests are over."""
    folder = tmp_path_factory.mktemp("types")
    project = folder / "project"
    shutil.copytree(Path(__file__).parent / "step_types", project)
    environ = {"MY_TOKEN": TOKEN, "my_passphrase": PHRASE, "PLAIN_NAME": PLAIN, "SIGNING_KEY": PEM}
    with open_stage(project, folder, {**environ, "TEST_SET_AT_IMPORT": EARLY, "NOMAFLOW_TRACE_HOOKS": "1"}) as opened:
        yield opened


def attempt_of(ran: Ran) -> AttemptView:
    """Return the attempt of the only step of a run that was not switched off."""
    [attempt] = [each for step in ran.run.steps for each in step.attempts if each.state != "SKIPPED"]
    return attempt


def problems_of(stage: Stage, job_id: str) -> list[tuple[str, str, str, str]]:
    """Return severity, code, path and way out of what is wrong with a job."""
    job = stage.client.get_job(job_id)
    return [(each.severity, each.code, each.path, each.fix) for each in job.problems]


def _told(message: Message) -> bytes:
    """Return all that a message says, in the forms in which it is kept and shown."""
    return message.SerializeToString() + str(message).encode() + _decoded(message)


def _decoded(message: Message) -> bytes:
    texts = []
    for field, value in message.ListFields():
        values = value if field.is_repeated else [value]
        texts += [_decoded(each) if isinstance(each, Message) else repr(each).encode() for each in values]
        texts += [each.encode() for each in values if isinstance(each, str)]
    return b"\n".join(texts)


def _answers(stage: Stage, run_ids: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the kernel's answers to requests for jobs, runs, logs, hosts and events."""
    with grpc.insecure_channel((stage.project / ".nomaflow" / "address").read_text().split()[0]) as channel:
        stub: Any = KernelServiceStub(channel)
        yield "ListJobs", _told(stub.ListJobs(pb.ListJobsRequest()))
        yield "ListHosts", _told(stub.ListHosts(pb.ListHostsRequest()))
        yield "ListRuns", _told(stub.ListRuns(pb.ListRunsRequest()))
        for job in stub.ListJobs(pb.ListJobsRequest()).jobs:
            yield f"GetJob {job.job_id}", _told(stub.GetJob(pb.GetJobRequest(job_id=job.job_id)))
        for run_id in run_ids:
            yield "GetRun", _told(stub.GetRun(pb.GetRunRequest(run_id=run_id)))
            yield "ReadLogs", b"".join(map(_told, stub.ReadLogs(pb.ReadLogsRequest(run_id=run_id))))
        events = []
        for each in stub.WatchEvents(pb.WatchEventsRequest(from_start=True), timeout=PATIENCE):
            if each.bookmark_seq:
                break
            events.append(_told(each))
        assert events
        yield "WatchEvents", b"".join(events)


def test_no_secret_leaves_the_host(stage: Stage) -> None:
    """Given in every place, told in every way: no secret is in a file of ours, nor in any answer."""
    stage.client.wait(stage.start_job("reaching"))
    modes = ("return", "fail", "raise", "cancel", "wrong")
    run_ids = []
    for mode in modes:
        for step in STEPS:
            only = {name: name == step for name in STEPS}
            run_ids += [stage.start_job("secrets", preset="preset", steps=only, op_kwargs={step: {"mode": mode}})]
    runs = {run_id: stage.ended(run_id) for run_id in run_ids}
    ends = {"return": "SUCCEEDED", "fail": "FAILED", "raise": "FAILED", "cancel": "CANCELED", "wrong": "FAILED"}
    assert [attempt_of(each).state for each in runs.values()] == [ends[mode] for mode in modes for _ in range(3)], [
        attempt_of(each).error for each in runs.values()
    ]
    for each in runs.values():
        told = "\n".join(each.messages)
        for way in ("log ***", "library {", "printed ***", "printed to stderr ***", "warned ***", "written ***",
                    "written to 2 ***", "thread ***", "base64 ", "RuntimeError: ***", "hex *** *** base32 ***",
                    "two writes ***", "two lines ***", "*** is the rest", "pieces ***"):  # fmt: skip
            assert way in told, (way, [line for line in told.splitlines() if way.split()[0] in line])
    leaks = {name: found for name, told in _answers(stage, run_ids) if (found := found_in(told))}
    assert leaks == {}
    for run_id, each in runs.items():
        assert found_in("\n".join(each.messages).encode("utf-8", "replace")) == [], run_id
    state = stage.project / ".nomaflow"
    files = [path for path in state.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files)
    for path in files:
        with contextlib.suppress(OSError):  # its owner has removed it meanwhile
            assert found_in(path.read_bytes()) == [], path
    assert found_in(stage.logs.joinpath("host.log").read_bytes()) == []
    assert found_in(stage.logs.joinpath("kernel.log").read_bytes()) == []
    shown = run_command("job", "secrets", "-o", "json", folder=stage.project, environ=stage.environ)
    assert (shown.code, "https://user:${MY_TOKEN}@x" in shown.out) == (0, True)
    assert found_in(shown.out.encode()) == []


def test_what_the_step_gets_is_the_secret(stage: Stage) -> None:
    """Masking changes the output, never the callable's value: a count of its letters is right."""
    ran = stage.run_job("secrets", steps={"plain": False, "async": False})
    extras = attempt_of(ran).extras
    headers = {"Authorization": f"Bearer {TOKEN}", "list": [TOKEN, {"deep": f"a {PHRASE} b"}]}
    fields = {"url": f"https://user:{TOKEN}@x/?key={TOKEN}", "pin": PLAIN, "deep": {"in": [PLAIN]}, "pem": PEM}
    expected = {"common_token": TOKEN, "headers": headers, **fields, "early": EARLY, "extra": TOKEN}
    assert extras["n"] == len(repr({key: value for key, value in expected.items() if key != "common_token"}))
    assert extras["params"] == {"common_token": "***"}


@pytest.mark.parametrize("given", [{"params": {"url": "http://evil/"}}, {"op_kwargs": {"contributed": {"url": "x"}}}])
def test_a_run_cannot_change_a_typed_field(stage: Stage, given: dict[str, Any]) -> None:
    """Params and op_kwargs of a run for a field that is not overridable are refused by name, with those that are."""
    with pytest.raises(ClientError) as refused:
        stage.start_job("reaching", **given)
    assert "'url'" in str(refused.value)
    assert "'tries'" in str(refused.value)


def test_params_reach_overridable_fields_alone(stage: Stage) -> None:
    """Params of the job and of the run reach what the type calls overridable, and nothing beside it."""
    assert stage.run_job("reaching").extras == {"url": "https://good/", "tries": 2, "others": []}
    assert stage.run_job("reaching", params={"tries": 5}).extras["tries"] == 5
    assert stage.run_job("reaching", params={"headers": "evil"}).extras["others"] == []
    assert stage.run_job("reaching", op_kwargs={"contributed": {"tries": 6}}).extras["tries"] == 6
    run_id = stage.start_job("reaching")
    stage.ended(run_id)
    with pytest.raises(ClientError, match="'url'"):
        stage.client.replay(ReplayOrder(run_id=run_id, op_kwargs={"contributed": {"url": "http://evil/"}}))


def test_a_preset_cannot_change_a_typed_field(stage: Stage) -> None:
    """A preset that tries to is an error of its job, by name."""
    [(severity, code, path, fix)] = problems_of(stage, "preset-for-a-field")
    assert (severity, code) == ("error", "not_overridable")
    assert path == "jobs[2].presets[0].op_kwargs.contributed.url"
    assert "'tries'" in fix


def test_bind_values_stay_out_of_errors(stage: Stage) -> None:
    """A statement that fails does not show the values bound to it, unless its pool says so."""
    hidden = stage.run_job("binding")
    assert "IntegrityError" in hidden.error
    assert "the-bound-value" not in hidden.error + hidden.log
    assert "the-bound-value" in stage.run_job("binding", preset="open").error


def test_a_model_finds_typos_with_path_and_near_match(stage: Stage) -> None:
    """The host checks steps against the model of their type; text that the environment still changes is not judged."""
    found = {path: (severity, code, fix) for severity, code, path, fix in problems_of(stage, "typo")}
    step = "jobs[5].steps[1]"
    assert found.pop(f"{step}.source.conector") == ("error", "unknown_key", "did you mean 'connector'?")
    assert found.pop(f"{step}.source.connector")[:2] == ("error", "missing_key")
    assert found.pop(f"{step}.columns[0]")[:2] == ("error", "wrong_type")
    assert found.pop(f"{step}.mode") == ("error", "bad_choice", "did you mean 'append'?")
    assert found == {}


def test_step_defaults_go_where_they_are_taken(stage: Stage) -> None:
    """A default reaches the steps whose type has its key; one that none has is an error with the near match."""
    ran = stage.run_job("mixed")
    outputs = {step.name: step.last.extras for step in ran.run.steps if step.attempts}
    assert ran.state == "SUCCEEDED", ran.run
    assert outputs["copy"] == {"source": {"connector": "erp"}, "columns": ["a"], "mode": "append"}
    assert outputs["plain"]["source"] == {"connector": "own"}
    assert problems_of(stage, "no-step-takes-it") == [
        ("error", "unknown_key", "jobs[4].step_defaults.sorce", "did you mean 'source'?")
    ]
