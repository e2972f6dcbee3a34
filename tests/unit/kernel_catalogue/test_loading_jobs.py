"""jobs.toml to definitions: what loads, what is refused, and that a malformed job disables nothing but itself."""

from __future__ import annotations

import pytest
from job_texts import GOOD, load, load_one, the_problem

from nomaflow_project.jobs.definitions import IsolationChoice, Misfire, Overlap, RetentionPolicy
from nomaflow_project.jobs.retry_policy import Backoff
from nomaflow_project.reading.problems import Problem

EVERY_KEY = """
[[jobs]]
id = "nightly"
host = "other"
description = "All of it"
schedule = "30 2 * * *"
timezone = "Europe/Paris"
enabled = false
tags = ["etl", "night"]
params = { apps_id = 10, since = 2026-01-31, token = "${TOKEN}" }
log_level = "DEBUG"
timeout_seconds = 7200
overlap = "queue"
max_queued = 5
misfire = "all"
misfire_window_seconds = 60
retry_on_lost = true
lost_after_seconds = 120
isolation = "exclusive"
cancel_grace_seconds = 1.5
max_parallel = 2
priority = -3
queue_timeout_seconds = 30
max_log_bytes = 1000000
[jobs.retry]
attempts = 3
backoff = "exponential"
base_seconds = 10
max_seconds = 100
retry_on = ["ConnectionError", "httpx.HTTPError"]
no_retry_on = ["ValueError"]
[jobs.alerts]
on_long_run_minutes = 60
recipients = ["ops"]
[[jobs.presets]]
name = "eu"
schedule = "@daily"
enabled = false
params = { apps_id = 2 }
op_kwargs = { copy = { table = "b" } }
steps = { copy = false }
step_enabled = { run = true }
log_level = "ERROR"
[[jobs.steps]]
type = "python"
name = "copy"
enabled = false
callable = "app.copy:Copier.run"
op_kwargs = { table = "a", at = 07:30:00 }
timeout_seconds = 60
isolation = "shared"
cancel_grace_seconds = 0
retry = { attempts = 5 }
[[jobs.steps]]
callable = "app.work:run"
"""


def test_every_field_arrives_in_the_definition() -> None:
    """All keys of a job, of its presets, its retries and its steps are carried over, times as tagged values."""
    job = load_one(EVERY_KEY)
    definition = job.definition
    assert job.valid
    assert not job.enabled
    assert definition is not None
    assert (definition.id, definition.host, definition.timezone) == ("nightly", "other", "Europe/Paris")
    assert definition.params == {"apps_id": 10, "since": {"$date": "2026-01-31"}, "token": "${TOKEN}"}
    assert (definition.overlap, definition.misfire) == (Overlap.QUEUE, Misfire.ALL)
    assert (definition.max_queued, definition.max_parallel, definition.priority) == (5, 2, -3)
    assert definition.isolation is IsolationChoice.EXCLUSIVE
    assert definition.alerts is not None
    assert definition.alerts.recipients == ("ops",)
    copy, run = definition.steps
    assert (copy.name, run.name) == ("copy", "run")
    assert copy.op_kwargs == {"table": "a", "at": {"$time": "07:30:00"}}
    assert definition.retry_of(run) == definition.retry
    own = definition.retry_of(copy)
    assert (own.attempts, own.backoff, own.base_seconds) == (5, Backoff.EXPONENTIAL, 10)
    assert definition.cancel_grace_of(copy) == 0
    assert definition.cancel_grace_of(run) == 1.5
    preset = definition.preset("eu")
    assert preset is not None
    assert preset.steps == {"copy": False, "run": True}
    assert list(definition.schedules()) == []


def test_defaults_are_those_of_the_design() -> None:
    """A job of one step has every default."""
    definition = load(GOOD).jobs[0].definition
    assert definition is not None
    assert (definition.host, definition.timezone, definition.log_level) == ("team", "UTC", "INFO")
    assert (definition.overlap, definition.max_queued) == (Overlap.SKIP, 100)
    assert (definition.misfire, definition.misfire_window_seconds) == (Misfire.LATEST, 3600)
    assert definition.retry.attempts == 1
    assert definition.retry.max_seconds == 3600
    assert not definition.retry_on_lost
    assert definition.max_parallel is definition.queue_timeout_seconds is definition.max_log_bytes is None


BAD_JOBS = [
    ('id = "a b"', "bad_job_id", "jobs[0].id", "is not a job id"),
    ('id = "../x"', "bad_job_id", "jobs[0].id", "is not a job id"),
    ('id = "caf\\u00e9"', "bad_job_id", "jobs[0].id", "is not a job id"),
    ("id = 5", "wrong_type", "jobs[0].id", "expected a text in quotes, got 5"),
    ("", "missing_key", "jobs[0].id", "'id' is required"),
    ('id = "x"\nschedul = "@daily"', "unknown_key", "jobs[0].schedul", "unknown key 'schedul'"),
    ('id = "x"\nschedule = "61 * * * *"', "bad_schedule", "jobs[0].schedule", "61 is out of range"),
    ('id = "x"\nschedule = "0 0 30 2 *"', "bad_schedule", "jobs[0].schedule", "no date ever matches"),
    ('id = "x"\nschedule = "{0} {fix}"', "bad_schedule", "jobs[0].schedule", "fields"),
    ('id = "x"\ntimezone = "Europe/Pariss"', "unknown_timezone", "jobs[0].timezone", "no zone of this name"),
    ('id = "x"\nenabled = "maybe"', "wrong_type", "jobs[0].enabled", "expected true or false"),
    ('id = "x"\ntags = "etl"', "wrong_type", "jobs[0].tags", "expected an array, got 'etl'"),
    ('id = "x"\ntags = [1]', "wrong_type", "jobs[0].tags[0]", "expected a text in quotes, got 1"),
    ('id = "x"\nparams = [1]', "wrong_type", "jobs[0].params", "expected a table, got an array"),
    ('id = "x"\ndescription = 2026-01-31', "wrong_type", "jobs[0].description", "got the date or time 2026-01-31"),
    ('id = "x"\nlog_level = "info"', "bad_choice", "jobs[0].log_level", "is not one of DEBUG, INFO"),
    ('id = "x"\noverlap = "skipp"', "bad_choice", "jobs[0].overlap", "is not one of skip, queue, allow"),
    ('id = "x"\nmisfire = "none"', "bad_choice", "jobs[0].misfire", "is not one of"),
    ('id = "x"\ntimeout_seconds = 0', "out_of_range", "jobs[0].timeout_seconds", "expected more than 0"),
    ('id = "x"\ntimeout_seconds = inf', "bad_value", "jobs[0].timeout_seconds", "inf"),
    ('id = "x"\ntimeout_seconds = nan', "bad_value", "jobs[0].timeout_seconds", "nan"),
    ('id = "x"\ntimeout_seconds = true', "wrong_type", "jobs[0].timeout_seconds", "expected a number, got true"),
    ('id = "x"\ntimeout_seconds = "soon"', "wrong_type", "jobs[0].timeout_seconds", "expected a number, got 'soon'"),
    ('id = "x"\nmax_parallel = 1.5', "wrong_type", "jobs[0].max_parallel", "expected a whole number, got 1.5"),
    ('id = "x"\nmax_parallel = 0', "out_of_range", "jobs[0].max_parallel", "expected at least 1"),
    ('id = "x"\npriority = 1001', "out_of_range", "jobs[0].priority", "expected at most 1,000"),
    ('id = "x"\nretry = { attempts = 0 }', "out_of_range", "jobs[0].retry.attempts", "expected at least 1"),
    ('id = "x"\nretry = { tries = 3 }', "unknown_key", "jobs[0].retry.tries", "unknown key 'tries'"),
    ('id = "x"\nretry = { jitter = 1.5 }', "out_of_range", "jobs[0].retry.jitter", "expected at most 1"),
    ('id = "x"\nretry = { retry_on = ["not a name"] }', "bad_exception_name", "jobs[0].retry.retry_on", "exception"),
    ('id = "x"\nhost = "Bad Host"', "bad_host_name", "jobs[0].host", "is not a host name"),
    ('id = "x"\nretry = 3', "wrong_type", "jobs[0].retry", "expected a table, got 3"),
    ('id = "x"\nalerts = { on_fail = true }', "unknown_key", "jobs[0].alerts.on_fail", "unknown key"),
    ('id = "x"\npresets = [{ }]', "missing_key", "jobs[0].presets[0].name", "'name' is required"),
    ('id = "x"\npresets = [{ name = "p", schedule = "x" }]', "bad_schedule", "jobs[0].presets[0].schedule", "1 field"),
    (
        'id = "x"\npresets = [{ name = "p", schedule = "@daily" }, { name = "p", schedule = "@hourly" }]',
        "duplicate_preset",
        "jobs[0].presets[1].name",
        "'p'",
    ),
    ('id = "x"\npresets = [{ name = "p\\n" }]', "bad_name", "jobs[0].presets[0].name", "is not a name"),
    ('id = "x"\ntimeout_seconds = "${UNSET}"', "unset_variable", "jobs[0].timeout_seconds", "'UNSET'"),
]


@pytest.mark.parametrize(
    ("keys", "code", "path"),
    [
        ('presets = [{ name = "p", steps = { rum = true } }]', "unknown_step", "presets[0].steps.rum"),
        ('presets = [{ name = "p", op_kwargs = { rum = { a = 1 } } }]', "unknown_step", "presets[0].op_kwargs.rum"),
        ('presets = [{ name = "p" }, { name = "p" }]', "duplicate_preset", "presets[1].name"),
        ('presets = [{ name = "IN / OUT only" }]', "odd_name", "presets[0].name"),
        ('presets = [{ name = " p" }]', "odd_name", "presets[0].name"),
        ("install_step = 3", "unused_key", "install_step"),
    ],
)
def test_what_the_original_takes_is_a_warning(keys: str, code: str, path: str) -> None:
    """The job runs, without what has no effect."""
    job = load_one(f'[[jobs]]\nid = "x"\n{keys}\n[[jobs.steps]]\ncallable = "app.work:run"\n')
    problem = the_problem(job)
    assert (problem.code, problem.path, problem.severity) == (code, f"jobs[0].{path}", "warning")
    assert job.definition is not None
    assert all(not preset.steps and not preset.op_kwargs for preset in job.definition.presets)


def test_of_presets_of_one_name_the_scheduled_one_stands() -> None:
    """The original's rule: a name may repeat, and a schedule fires its own preset."""
    two = '[{ name = "p", params = { a = 1 } }, { name = "p", params = { a = 2 }, schedule = "@daily" }]'
    job = load_one(f'[[jobs]]\nid = "x"\npresets = {two}\n[[jobs.steps]]\ncallable = "app.work:run"\n')
    assert the_problem(job).path == "jobs[0].presets[0].name"
    assert job.definition is not None
    preset = job.definition.preset("p")
    assert preset is not None
    assert preset.params == {"a": 2}


@pytest.mark.parametrize(
    ("keys", "code", "path", "says"), BAD_JOBS, ids=[f"{case[1]}-{i}" for i, case in enumerate(BAD_JOBS)]
)
def test_a_bad_job_is_disabled_with_its_problem(keys: str, code: str, path: str, says: str) -> None:
    """Each mistake is one problem with its code, its place and what was expected; the job beside it loads."""
    problem = the_problem(load_one(f'[[jobs]]\n{keys}\n[[jobs.steps]]\ncallable = "app.work:run"\n'))
    assert (problem.code, problem.path, problem.severity) == (code, path, "error")
    assert says in problem.message
    assert problem.file == "jobs.toml"


BAD_STEPS = [
    ('callable = "app.work"', "bad_callable", "callable", "no colon"),
    ('callable = "app:work:run"', "bad_callable", "callable", "2 colons"),
    ('callable = "app/work.py:run"', "bad_callable", "callable", "file path"),
    ('callable = "../x:f"', "bad_callable", "callable", "file path"),
    ('callable = "m:f.__globals__"', "bad_callable", "callable", "two underscores"),
    ('callable = "m:__import__"', "bad_callable", "callable", "two underscores"),
    ('callable = "m\\u0430:f"', "bad_callable", "callable", "dotted name of ASCII"),
    ('callable = "' + "." * 10_000 + ':f"', "bad_callable", "callable", "10002 characters"),
    ('callable = ":f"', "bad_callable", "callable", "missing"),
    ('callable = "m:f()"', "bad_callable", "callable", "dotted name"),
    ('callable = "m: f"', "bad_callable", "callable", "dotted name"),
    ("", "missing_key", "callable", "'callable'"),
    ('callable = "m:f"\nop_kwarg = { a = 1 }', "unknown_key", "op_kwarg", "'op_kwarg'"),
    ('callable = "m:f"\nop_kwargs = "a"', "wrong_type", "op_kwargs", "expected a table"),
    ('callable = "m:f"\nname = ""', "bad_name", "name", "is not a name"),
    ('callable = "m:f"\nname = "a\\nb"', "bad_name", "name", "is not a name"),
    ('callable = "m:f"\nisolation = "thread"', "bad_choice", "isolation", "by_kind, shared, exclusive"),
    ('type = "pyton"\ncallable = "m:f"', "unknown_step_type", "type", "call_job, python"),
    ('type = "call_job"', "missing_key", "target_job_id", "'target_job_id'"),
]


@pytest.mark.parametrize(
    ("keys", "code", "path", "says"), BAD_STEPS, ids=[f"{case[1]}-{i}" for i, case in enumerate(BAD_STEPS)]
)
def test_a_bad_step_disables_its_job(keys: str, code: str, path: str, says: str) -> None:
    """Each mistake in a step is one problem at the step's key."""
    problem = the_problem(load_one(f'[[jobs]]\nid = "x"\n[[jobs.steps]]\n{keys}\n'))
    assert (problem.code, problem.path) == (code, f"jobs[0].steps[0].{path}")
    assert says in problem.message


@pytest.mark.parametrize(
    "text",
    [
        '[[jobs]]\nid = "x"\n',
        '[[jobs]]\nid = "x"\nsteps = []\n',
        '[[jobs]]\nid = "x"\nstep_defaults = { log_level = "DEBUG" }\n',
        '[[jobs]]\nid = "x"\nsteps = [1, "a"]\n',
        '[[jobs]]\nid = "x"\nsteps = { a = 1 }\n',
        '[[jobs]]\nid = "x"\nstep_defaults = 5\nsteps = [{ callable = "m:f" }]\n',
    ],
)
def test_steps_of_another_shape_are_refused(text: str) -> None:
    """Missing or malformed steps disable the job and no other."""
    job = load_one(text)
    assert not job.valid
    assert job.problems


def test_jobs_that_are_no_tables_are_refused() -> None:
    """``jobs = [1]`` and ``[jobs]`` are problems, never exceptions."""
    loaded = load('jobs = [1, "a", []]')
    assert [job.valid for job in loaded.jobs] == [False, False, False]
    assert load('[jobs]\nid = "x"').problems[0].code == "wrong_type"
    assert load("jobs = 5").problems[0].code == "wrong_type"


def test_an_unknown_table_of_the_file_is_a_problem_of_the_file() -> None:
    """``[[job]]`` is answered with the near match, and the jobs of the file still load."""
    loaded = load('[[job]]\nid = "x"\n' + GOOD)
    assert loaded.jobs[0].valid
    assert [(each.code, each.path, each.fix) for each in loaded.problems] == [
        ("unknown_key", "job", "did you mean 'jobs'?")
    ]


def test_the_second_of_two_jobs_with_one_id_is_disabled() -> None:
    """The first one stands; the second says where the first is."""
    first, second = load(GOOD + GOOD).jobs
    assert first.valid
    assert not second.valid
    assert the_problem(second).code == "duplicate_job_id"
    assert "jobs[0] of jobs.toml" in the_problem(second).message


def test_several_mistakes_of_a_job_are_told_at_once() -> None:
    """An author sees all of them in one go, errors before warnings."""
    job = load_one(
        '[[jobs]]\nid = "x"\nschedul = "a"\noverlap = "b"\nretry = { attempts = 0 }\n[[jobs.steps]]\nnam = "a"\n'
    )
    assert [problem.path.partition(".")[2] for problem in job.problems] == [
        "retry.attempts",
        "overlap",
        "schedul",
        "steps[0].nam",
        "steps[0].callable",
    ]


def test_unnamed_steps_are_named_after_their_callable() -> None:
    """``-2``, ``-3`` if the name is taken, also by a later explicit one; a call is named after its target."""
    job = load_one(
        """
        [[jobs]]
        id = "x"
        steps = [
          { callable = "a.b:run" }, { callable = "c:Some.run" }, { name = "run-2", callable = "d:other" },
          { callable = "e:run" }, { type = "call_job", target_job_id = "good" },
        ]
        """
    )
    assert job.definition is not None
    assert [step.name for step in job.definition.steps] == ["run", "run-3", "run-2", "run-4", "good"]


def test_two_steps_given_one_name_disable_the_job() -> None:
    """The problem is at the second one and names the first."""
    job = load_one('[[jobs]]\nid = "x"\nsteps = [{name="a",callable="m:f"}, {name="a",callable="m:g"}]\n')
    problem = the_problem(job)
    assert (problem.code, problem.path) == ("duplicate_step_name", "jobs[0].steps[1].name")
    assert "steps[0]" in problem.message


def test_step_defaults_are_merged_key_by_key() -> None:
    """A step's own key wins, tables are merged, a tagged date is a value and not a table."""
    job = load_one(
        """
        [[jobs]]
        id = "x"
        [jobs.step_defaults]
        timeout_seconds = 5
        op_kwargs = { a = 1, day = 2026-01-01 }
        retry = { attempts = 4 }
        [[jobs.steps]]
        callable = "m:f"
        [[jobs.steps]]
        callable = "m:g"
        timeout_seconds = 6
        op_kwargs = { b = 2, day = 2026-02-02 }
        """
    )
    assert job.definition is not None
    first, second = job.definition.steps
    assert (first.timeout_seconds, second.timeout_seconds) == (5, 6)
    assert second.op_kwargs == {"a": 1, "b": 2, "day": {"$date": "2026-02-02"}}
    assert second.retry is not None
    assert second.retry.attempts == 4


def test_a_mistake_in_step_defaults_is_told_there() -> None:
    """The path is that of the defaults, where the author has to mend it: once, however many steps have them."""
    steps = 'steps = [{ callable = "m:f" }, { callable = "m:g" }]'
    job = load_one(f'[[jobs]]\nid = "x"\nstep_defaults = {{ timeout_seconds = -1 }}\n{steps}\n')
    assert [problem.path for problem in job.problems] == ["jobs[0].step_defaults.timeout_seconds"]


def test_texts_from_the_environment_are_read_as_numbers_and_switches() -> None:
    """Text from a reference is converted to the type of its key."""
    job = load_one(
        '[[jobs]]\nid = "x"\nenabled = "false"\ntimeout_seconds = "60"\npriority = "5"\nsteps=[{callable="m:f"}]\n'
    )
    assert job.definition is not None
    assert (job.definition.enabled, job.definition.timeout_seconds, job.definition.priority) == (False, 60, 5)


def test_retention_is_read() -> None:
    """The load has the file's retention, or none if it has none, or one that no database could count to."""
    assert load(GOOD).retention is None
    loaded = load("[meta.retention]\ndays = 30\nkeep_last_per_job = 100\n" + GOOD)
    assert loaded.retention == RetentionPolicy(days=30, keep_last_per_job=100)
    bad = load("[meta.retention]\ndays = 0\n" + GOOD)
    assert (bad.problems[0].code, bad.problems[0].path) == ("out_of_range", "meta.retention.days")
    assert bad.jobs[0].valid
    endless = load(f"[meta.retention]\nkeep_last_per_job = {10**30}\n" + GOOD)
    assert ([each.code for each in endless.problems], endless.retention) == (["out_of_range"], None)


def test_a_problem_reads_well_on_a_terminal() -> None:
    """One screen: severity, file, path in the file with the job's id, what is wrong, the way out."""
    problem = the_problem(load_one('[[jobs]]\nid = "nightly"\n[[jobs.steps]]\ncallable = "m:f"\ntimeout_second = 5\n'))
    assert str(problem) == (
        'error: jobs.toml: jobs[0] "nightly" › steps[0] › timeout_second\n'
        "  unknown key 'timeout_second'\n"
        "  way out: did you mean 'timeout_seconds'?"
    )
    assert Problem.from_json(problem.to_json()) == problem


def test_keys_with_dots_and_quotes_keep_their_place() -> None:
    """A path stays readable for keys that TOML quotes."""
    job = load_one('[[jobs]]\nid = "x"\n"a.b\\"c" = 1\n[[jobs.steps]]\ncallable = "m:f"\n')
    assert the_problem(job).path == 'jobs[0]."a.b\\"c"'
    assert '› "a.b\\"c"' in str(the_problem(job))


def test_hostile_texts_are_shown_short() -> None:
    """A value of ten thousand characters does not fill the terminal."""
    job = load_one('[[jobs]]\nid = "x"\nlog_level = "' + "A" * 10_000 + '"\n[[jobs.steps]]\ncallable = "m:f"\n')
    assert len(str(the_problem(job))) < 500
