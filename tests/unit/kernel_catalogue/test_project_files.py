"""Reading a project's folder, and checking it whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nomaflow_project.check.project import check_project
from nomaflow_project.reading.files import parse_toml_file

JOB = '[[jobs]]\nid = "%s"\n[[jobs.steps]]\ncallable = "m:f"\n'


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("body", "says", "line"),
    [
        (b'a = 1\nb = "x\n', "illegal character", 2),
        (b"a = \n", "invalid value", 1),
        (b"a = 1\na = 2\n", "has a value already", 2),
        (b"[a.b]\n[a.b]\n", "the table [a.b] is given twice", 2),
        (b"[t", "expected", 1),
        (b"a = 1\n\xff\xfe\n", "not UTF-8", 2),
        (b"d = 2026-02-31\n", "invalid date", 1),
        (b"\xef\xbb\xbfa = 1\n", "byte order mark", 1),
        (b"a = 1\ni = " + b"9" * 5000, "an integer of 5000 digits", 2),
    ],
)
def test_what_is_not_toml_is_told_with_its_line(tmp_path: Path, body: bytes, says: str, line: int) -> None:
    """One sentence in lower case, the line where the parser knows it, no exception."""
    path = tmp_path / "jobs.toml"
    path.write_bytes(body)
    file = parse_toml_file(path)
    assert file.error is not None
    assert says in file.error.message
    assert line in (0, file.error.line)
    problem = file.error
    assert problem is not None
    assert (problem.code, problem.file) == ("bad_toml", str(path))


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    """A bomb of brackets is an error of the file, not of the reader."""
    file = parse_toml_file(_write(tmp_path / "a.toml", "a = " + "[" * 100_000 + "]" * 100_000))
    assert file.error is not None
    deep = parse_toml_file(_write(tmp_path / "b.toml", "a = " + "[" * 90 + "]" * 90))
    assert deep.error is not None


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """Missing, a folder, too large."""
    missing = parse_toml_file(tmp_path / "no.toml")
    assert missing.error is not None
    assert missing.error.code == "missing_file"
    folder = parse_toml_file(tmp_path)
    assert folder.error is not None
    assert "directory" in folder.error.message
    large = parse_toml_file(_write(tmp_path / "large.toml", "#" * (1024 * 1024 + 1)))
    assert large.error is not None
    assert "larger than 1 MiB" in large.error.message


def test_references_are_resolved_but_below_params_and_op_kwargs(tmp_path: Path) -> None:
    """Set, defaulted and unset ones; an unset one stays, for the loader to name."""
    path = _write(
        tmp_path / "a.toml",
        'a = "${SET} and ${UNSET:-fallback}"\nb = "${UNSET}"\nc = "${EMPTY:-e}"\nd = ["${SET}"]\nf = "${UNSET:-}"\n'
        '[params]\np = "${SET}"\n[x.op_kwargs]\nq = "${SET:-1}"\n',
    )
    file = parse_toml_file(path, environ={"SET": "here", "EMPTY": ""})
    assert file.tree == {
        "a": "here and fallback",
        "b": "${UNSET}",
        "c": "e",
        "d": ["here"],
        "f": "",
        "params": {"p": "${SET}"},
        "x": {"op_kwargs": {"q": "${SET:-1}"}},
    }


def test_the_files_of_a_project_are_found(tmp_path: Path) -> None:
    """jobs.toml first, then those of the plugins by name; settings and connectors are optional."""
    _write(tmp_path / "jobs.toml", JOB % "main")
    _write(tmp_path / "plugins/b/jobs.toml", JOB % "b")
    _write(tmp_path / "plugins/a/jobs.toml", JOB % "a")
    found = ("jobs.toml", "plugins/a/jobs.toml", "plugins/b/jobs.toml")
    assert check_project(tmp_path, environ={}).files == found
    connectors = _write(tmp_path / "connectors.toml", "")
    assert check_project(tmp_path, environ={}).files == (*found, "connectors.toml")
    connectors.write_text("[")
    assert check_project(tmp_path, environ={}).files == found


def test_other_places_can_be_configured(tmp_path: Path) -> None:
    """Relative to the folder; one that is named must be there."""
    _write(
        tmp_path / "nomaflow.toml", '[jobs]\nconfig_path = "conf/j.toml"\n[connectors]\nconfig_path = "conf/c.toml"\n'
    )
    _write(tmp_path / "conf/j.toml", JOB % "main")
    report = check_project(tmp_path, environ={})
    assert report.files == ("nomaflow.toml", "conf/j.toml")
    assert [job.job_id for job in report.jobs] == ["main"]
    assert [(each.code, each.file) for each in report.problems] == [("missing_file", "conf/c.toml")]


def test_a_project_in_order_is_ok(tmp_path: Path) -> None:
    """A correct project has no problem, and the report is plain JSON."""
    _write(tmp_path / "jobs.toml", JOB % "main")
    _write(
        tmp_path / "nomaflow.toml", '[app]\nanything = [1, { a = 2026-01-01 }]\n[host]\nname = "team"\nmax_async = 5\n'
    )
    report = check_project(tmp_path, environ={})
    assert report.ok
    assert report.jobs[0].host == "team"
    assert json.loads(json.dumps(report.to_json()))["ok"] is True


def test_a_variable_of_an_env_file_wins_over_a_default(tmp_path: Path) -> None:
    """Settings are checked with the value that a host gets."""
    _write(tmp_path / "jobs.toml", JOB % "main")
    _write(tmp_path / "v.env", "NAME=team\n")
    _write(tmp_path / "nomaflow.toml", '[host]\nenv_file = "v.env"\nname = "${NAME:-no name}"\n')
    report = check_project(tmp_path, environ={})
    assert (report.problems, report.jobs[0].host) == ((), "team")


def test_a_reference_without_its_end_is_told(tmp_path: Path) -> None:
    """Each text that an open or nested reference leaves as it is gets a warning, without the text; others get none."""
    texts = 'params = { a = "${TOKEN", b = "${TOKEN:-x}", c = "$TOKEN", d = "${A:-1}/${B", e = "${A:-${B:-x}}"'
    texts += ', literal = "$${A:-${B}}" }'
    _write(tmp_path / "jobs.toml", f'[[jobs]]\nid = "main"\n{texts}\n[[jobs.steps]]\ncallable = "m:f"\n')
    report = check_project(tmp_path, environ={"TOKEN": "x"})
    found = [(each.path, each.severity, each.fix) for each in report.problems if each.code == "unclosed_reference"]
    fixes = {"a": "write ${NAME}", "d": "write ${NAME}", "e": "give the default as plain text"}
    assert found == [(f"jobs[0].params.{key}", "warning", fix) for key, fix in fixes.items()]


def test_a_folder_without_jobs_says_so(tmp_path: Path) -> None:
    """A folder without jobs is reported with the way out; plugins with jobs are enough."""
    report = check_project(tmp_path, environ={})
    assert not report.ok
    assert (report.problems[0].code, report.problems[0].file) == ("missing_file", "jobs.toml")
    assert "nomaflow init" in report.problems[0].fix
    _write(tmp_path / "plugins/a/jobs.toml", JOB % "a")
    assert check_project(tmp_path, environ={}).ok
    assert not check_project(tmp_path / "nowhere", environ={}).ok


def test_a_malformed_file_leaves_the_others_alone(tmp_path: Path) -> None:
    """The jobs of the other file load."""
    _write(tmp_path / "jobs.toml", "[[jobs]\n")
    _write(tmp_path / "plugins/a/jobs.toml", JOB % "a")
    report = check_project(tmp_path, environ={})
    assert not report.ok
    assert [(job.job_id, job.valid) for job in report.jobs] == [("a", True)]
    assert report.problems[0].place == "jobs.toml:1"


@pytest.mark.parametrize(
    ("text", "code", "path"),
    [
        ("[hots]\n", "unknown_key", "hots"),
        ('["odd.name"]\n', "unknown_key", '"odd.name"'),
        ('[host]\nname = "Team A"\n', "bad_host_name", "host.name"),
        ("[host]\nmax_async = 0\n", "out_of_range", "host.max_async"),
        ("[host]\nmemory_mb = true\n", "wrong_type", "host.memory_mb"),
        ("[kernel]\nheartbeat_secs = 5\n", "unknown_key", "kernel.heartbeat_secs"),
        ('[kernel]\nlog_format = "xml"\n', "bad_choice", "kernel.log_format"),
        ('[kernel]\nlisten = "unix:, tls://127.0.0.1:99999"\n', "bad_address", "kernel.listen"),
        ('[kernel]\nlisten = "unix:run/kernel.sock"\n', "bad_address", "kernel.listen"),
        (f'[kernel]\nlisten = "unix:/{"d" * 107}"\n', "bad_address", "kernel.listen"),
        ('[kernel]\nlisten_hosts = "unix:/tmp/hosts.sock"\n', "bad_address", "kernel.listen_hosts"),
        ('[kernel]\nadvertise = "kernel.example.org"\n', "bad_address", "kernel.advertise"),
        ('[kernel]\nlisten = "${NO_SUCH}"\n', "unset_variable", "kernel.listen"),
        ('[kernel]\nstore = "mysql://kernel@db/nomaflow"\n', "bad_url", "kernel.store"),
        ('[kernel]\nstore = "history.db"\n', "bad_url", "kernel.store"),
        ('[kernel]\nstore = "sqlite://"\n', "bad_url", "kernel.store"),
        ('[kernel]\nstore = "sqlite:///:memory:"\n', "bad_url", "kernel.store"),
        ("[kernel.retention]\ndays = -1\n", "out_of_range", "kernel.retention.days"),
        ("kernel = 5\n", "wrong_type", "kernel"),
        ('[access.roles]\nnight = ["read *", "fly *"]\n', "bad_grant", "access.roles.night[1]"),
        ('[access.roles]\nnight = ["cancel job:a/../b"]\n', "bad_grant", "access.roles.night[0]"),
        ('[access.roles]\nadmin = ["read *"]\n', "reserved_role", "access.roles.admin"),
        ('[access.roles]\nNight = ["read *"]\n', "bad_role_name", "access.roles.Night"),
        ("[access.quotas]\nstreams = 0\n", "out_of_range", "access.quotas.streams"),
        ('[host]\nname = "${NO_SUCH}"\n', "unset_variable", "host.name"),
        ('[host]\nkernel = "kernel.example.org"\n', "bad_address", "host.kernel"),
        ("[kernel]\nlease_seconds = 5\n", "conflicting_keys", "kernel.lease_seconds"),
        ('[kernel]\nlisten = "127.0.0.1:0"\ntls_cert = "a"\n', "conflicting_keys", "kernel.tls_cert"),
        ('[kernel]\nlisten = "127.0.0.1:0"\ntls_ca = "a"\n', "conflicting_keys", "kernel.tls_ca"),
        ('[kernel]\ntls_cert = "a"\ntls_key = "b"\n', "conflicting_keys", "kernel.tls_cert"),
        ('[kernel]\nlisten = "127.0.0.1:65535"\n', "conflicting_keys", "kernel.listen"),
        ('[kernel]\nlisten = "127.0.0.1:65534"\n', "conflicting_keys", "kernel.listen"),
        (
            '[kernel]\nlisten = "127.0.0.1:1"\nlisten_hosts = "127.0.0.1:65535"\n',
            "conflicting_keys",
            "kernel.listen_hosts",
        ),
        ('[kernel]\nlisten = "127.0.0.1:7001,127.0.0.1:7002"\n', "conflicting_keys", "kernel.listen"),
    ],
)
def test_nomaflow_toml_is_checked(tmp_path: Path, text: str, code: str, path: str) -> None:
    """Unknown keys, types, bounds and choices, each at its place."""
    _write(tmp_path / "jobs.toml", JOB % "main")
    _write(tmp_path / "nomaflow.toml", text)
    report = check_project(tmp_path, environ={})
    assert [(each.code, each.path, each.file) for each in report.problems] == [(code, path, "nomaflow.toml")]
    assert not report.ok


def test_a_manifest_adds_its_own_problems_and_types(tmp_path: Path) -> None:
    """The report includes the host's findings from loading the code."""
    _write(tmp_path / "jobs.toml", '[[jobs]]\nid = "x"\nsteps = [{ type = "http", url = "u" }]\n')
    told = {"severity": "warning", "code": "NF001", "file": "a.py", "path": "", "message": "loops", "fix": "await"}
    manifest = {
        "host": "team",
        "callables": {"p:call": {"kind": "sync", "parameters": [], "catch_all": "kwargs", "error": None}},
        "step_types": [{"name": "http", "callable": "p:call"}],
        "problems": [told],
    }
    report = check_project(tmp_path, manifest=manifest, environ={})
    assert report.ok
    assert [each.code for each in report.problems] == ["NF001"]
    assert report.jobs[0].valid


def test_a_value_without_exact_form_disables_its_job_only(tmp_path: Path) -> None:
    """``inf`` and deep nesting have no encoding; the job beside it loads."""
    deep = "[" * 70 + "]" * 70
    _write(
        tmp_path / "jobs.toml",
        f'[[jobs]]\nid = "a"\nparams = {{ x = inf }}\n[[jobs]]\nid = "b"\nparams = {{ x = {deep} }}\n' + JOB % "good",
    )
    report = check_project(tmp_path, environ={})
    assert [(job.job_id, job.valid) for job in report.jobs] == [("a", False), ("b", False), ("good", True)]
    assert [job.problems[0].code for job in report.jobs[:2]] == ["bad_value", "bad_value"]
    assert report.jobs[0].problems[0].path == "jobs[0].params.x"


@pytest.mark.parametrize(
    ("text", "code", "path", "severity"),
    [
        ("[pool.a]\n", "unknown_key", "pool", "error"),
        ('[pools.a]\nurl = "sqlite:///x"\npool_sise = 5\n', "unknown_key", "pools.a.pool_sise", "error"),
        ("[pools.a]\npool_size = 5\n", "missing_key", "pools.a.url", "error"),
        ('[pools.a]\nurl = "sqlite:///x"\npool_size = "many"\n', "wrong_type", "pools.a.pool_size", "error"),
        ("pools = 5\n", "wrong_type", "pools", "error"),
        ("[connectors]\nc = 5\n", "wrong_type", "connectors.c", "error"),
        ("[connectors.c]\n", "missing_key", "connectors.c.type", "error"),
        ('[connectors.c]\ntype = "sql"\npool = "a"\n', "unknown_pool", "connectors.c.pool", "error"),
        ('[connectors.c]\ntype = "api"\n', "missing_key", "connectors.c.base_url", "error"),
        (
            '[connectors.c]\ntype = "api"\nbase_url = "http://x"\nauth = { type = "basik" }\n',
            "bad_choice",
            "connectors.c.auth.type",
            "error",
        ),
        ('[pools.a]\nurl = "sqlite:///x"\npassword = "${NO}"\n', "unset_variable", "pools.a.password", "warning"),
        ("[pools.a\n", "bad_toml", "", "error"),
    ],
)
def test_connectors_toml_is_checked(tmp_path: Path, text: str, code: str, path: str, severity: str) -> None:
    """The file is checked without the host as far as possible; a secret set only on the host is a warning."""
    _write(tmp_path / "jobs.toml", JOB % "main")
    _write(tmp_path / "connectors.toml", text)
    report = check_project(tmp_path, environ={})
    assert [(each.code, each.path, each.severity) for each in report.problems] == [(code, path, severity)]
    assert report.ok is (severity == "warning")


def test_values_of_secret_keys_are_never_shown(tmp_path: Path) -> None:
    """A password of a wrong type is reported without its value; a type from a plugin is not checked."""
    _write(tmp_path / "jobs.toml", JOB % "main")
    _write(
        tmp_path / "connectors.toml",
        '[pools.a]\nurl = "sqlite:///x"\npassword = 12345678\n[connectors.c]\ntype = "ldap"\nhost = "x"\n',
    )
    problem, kind = check_project(tmp_path, environ={}).problems
    assert (problem.code, kind.code) == ("wrong_type", "plugin_type")
    assert "12345678" not in str(problem)


def test_variables_of_env_file_count_but_in_the_kernel(tmp_path: Path) -> None:
    """Hosts read the file, and kernels do not; a literal reference stays one."""
    _write(tmp_path / "jobs.toml", JOB.replace('id = "%s"', 'id = "main"\ndescription = "$${NOT_A_VARIABLE}"'))
    _write(tmp_path / ".env", "TEAM=ops\nLEVEL=DEBUG\nFILE=pools.db\n")
    _write(tmp_path / "connectors.toml", '[pools.a]\nurl = "sqlite:///${FILE}"\n')
    settings = '[host]\nenv_file = ".env"\nname = "${TEAM}"\n[app]\nkey = "$${TEAM}"\n'
    _write(tmp_path / "nomaflow.toml", settings)
    report = check_project(tmp_path, environ={})
    assert [str(each) for each in report.all_problems()] == []
    assert [job.host for job in report.jobs] == ["ops"]
    others = '[kernel]\nlog_level = "${LEVEL}"\n[access.roles]\nnight = ["${LEVEL}"]\n'
    others += '[console]\nlog_level = "${LEVEL}"\n[launcher]\nlog_level = "${LEVEL}"\n'
    _write(tmp_path / "nomaflow.toml", settings + others)
    unset = [each.path for each in check_project(tmp_path, environ={}).problems if each.code == "unset_variable"]
    assert unset == ["kernel.log_level", "access.roles.night[0]", "console.log_level", "launcher.log_level"]


def test_a_key_of_two_types_is_told_at_its_own_place(tmp_path: Path) -> None:
    """A value that is neither a text nor an array is a problem of the key, whatever types the reader tried."""
    _write(tmp_path / "nomaflow.toml", "[host]\nenv_file = 3\n")
    problems = check_project(tmp_path, environ={}).problems
    assert {each.path for each in problems if each.code == "wrong_type"} == {"host.env_file"}


def test_a_step_that_this_machine_cannot_run_is_told(tmp_path: Path) -> None:
    """A warning, since another instance may have it; what nomaflow.toml says of the host counts before what is here."""
    _write(
        tmp_path / "jobs.toml",
        '[[jobs]]\nid = "train"\n[[jobs.steps]]\ncallable = "m:fit"\n'
        'resources = { cpu = 4, gpus = 900, labels = { zone = "eu" } }\n',
    )
    _write(tmp_path / "nomaflow.toml", '[host]\nlabels = { zone = "us" }\ncapacity = { cpu = 8 }\n')
    (problem,) = check_project(tmp_path).all_problems()
    assert (problem.code, problem.is_error) == ("no_fitting_instance", False)
    assert "it lacks label zone = 'eu' (it has 'us'), gpus = 900 (it has 0)" in problem.message
    fitting = '[host]\nlabels = { zone = "eu" }\ncapacity = { cpu = 4, gpus = 1024 }\n'
    _write(tmp_path / "nomaflow.toml", fitting)
    assert check_project(tmp_path).all_problems() == ()
    shape = '[[launcher.shapes]]\nname = "gpu"\ncpu = 4\ngpus = 900\nlabels = { zone = "eu" }\n'
    _write(tmp_path / "nomaflow.toml", shape)
    assert check_project(tmp_path).all_problems() == ()


@pytest.mark.parametrize(
    ("resources", "code", "where"),
    [
        ("cpu = -1", "out_of_range", "cpu"),
        ("gpus = 1.5", "wrong_type", "gpus"),
        ("gpu = 1", "unknown_key", "gpu"),
        ('labels = { Zone = "eu" }', "bad_label", "labels"),
        ('labels = { zone = "" }', "bad_label", "labels"),
    ],
)
def test_resources_are_checked(tmp_path: Path, resources: str, code: str, where: str) -> None:
    """Amounts are numbers that are not negative, keys are known, labels have their form."""
    text = f'[[jobs]]\nid = "a"\n[[jobs.steps]]\ncallable = "m:f"\nresources = {{ {resources} }}\n'
    _write(tmp_path / "jobs.toml", text)
    (problem,) = check_project(tmp_path).all_problems()
    assert (problem.code, problem.is_error) == (code, True)
    assert problem.path.endswith(f"steps[0].resources.{where}")


def test_an_image_that_the_launcher_cannot_start_is_told(tmp_path: Path) -> None:
    """A warning where the project's launcher uses Slurm; without a launcher, somebody else may start the instance."""
    text = '[[jobs]]\nid = "train"\n[[jobs.steps]]\ncallable = "m:fit"\nimage = "ghcr.io/team/train:2.1"\n'
    _write(tmp_path / "jobs.toml", text)
    assert check_project(tmp_path).all_problems() == ()
    _write(tmp_path / "nomaflow.toml", '[launcher]\nhosts = ["team"]\n')
    (problem,) = check_project(tmp_path).all_problems()
    assert (problem.code, problem.is_error) == ("image_not_used", False)
    assert problem.path.endswith("steps[0].image")
    assert "on slurm, which has no images: none is started for step 'fit'" in problem.message


def test_a_step_that_outlives_its_instance_is_told(tmp_path: Path) -> None:
    """The kernel would send it to none: the launcher would start one after the other in vain."""
    step = '[[jobs.steps]]\nname = "{name}"\ncallable = "m:fit"\ntimeout_seconds = {seconds}\n{more}\n'
    own = 'isolation = "instance"'
    text = "".join(
        step.format(name=name, seconds=seconds, more=more)
        for name, seconds, more in (("long", 3600, own), ("short", 3599, own), ("anywhere", 9999, ""))
    )
    _write(tmp_path / "jobs.toml", f'[[jobs]]\nid = "train"\n{text}')
    assert check_project(tmp_path).all_problems() == ()
    _write(tmp_path / "nomaflow.toml", '[launcher]\nhosts = ["team"]\nwalltime_seconds = 3600\n')
    (problem,) = check_project(tmp_path).all_problems()
    assert (problem.code, problem.is_error) == ("walltime_too_short", False)
    assert problem.path.endswith("steps[0].timeout_seconds")


@pytest.mark.parametrize(
    ("image", "good"),
    [
        ("train", True),
        ("ghcr.io/team/train:2.1", True),
        ("localhost:5000/a/b_c/d-e:V1.0_x", True),
        (f"team/train@sha256:{'0' * 64}", True),
        ("a" * 513, False),
        ("team/Train", False),
        ("team/train:", False),
        ("team/train --privileged", False),
        ("-x", False),
        ("https://ghcr.io/train", False),
    ],
)
def test_the_name_of_an_image_is_checked(tmp_path: Path, image: str, good: bool) -> None:
    """A name that no engine could take is refused when the file is read."""
    _write(tmp_path / "jobs.toml", f'[[jobs]]\nid = "a"\n[[jobs.steps]]\ncallable = "m:f"\nimage = "{image}"\n')
    problems = check_project(tmp_path).all_problems()
    assert [(each.code, each.is_error) for each in problems] == ([] if good else [("bad_image", True)])
