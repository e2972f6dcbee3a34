"""The prose of docs/configuration.md that is not in a model."""

from __future__ import annotations

__all__ = ["INTRODUCTION", "PROBLEM_CODES", "SCHEDULES"]

INTRODUCTION = """\
# Configuration

This page lists every key of a project's three files. It and the JSON Schemas in `schemas/` are generated from the
models that check the files; a test compares them. `nomaflow check` reports the problems of a folder, each with file,
line, the expected value and the way out.

`${NAME}` and `${NAME:-default}` stand for environment variables in any text. Below `params` and `op_kwargs`, and in the
keys of a contributed step type, the host resolves them at each attempt; elsewhere they are resolved when the file is
read. The default also replaces an empty variable. `$${NAME}` is a literal `${NAME}`. Where a key wants a number or
true/false, text such as `"5"` or `"true"` is accepted too, so that a reference can supply it. Secrets may also come
from files, encrypted values and vaults: [secrets](secrets.md).

- If NAME is not set and NAME_FILE is, NAME is the content of the file that NAME_FILE names (an absolute path), without
  its last newline. Docker and Kubernetes pass secrets this way. If both are set, NAME counts;
  if that file, or a file of `env_file`, cannot be read, no default counts in its place.
- `[host] env_file` names files with variables of the project: `NAME=value` lines, with `export `, quotes and `#`
  comments as in a shell; nothing is expanded in them. The environment of the process wins over the files, and a later
  file over an earlier one. A reload reads them again. `up --watch` reloads when one whose name ends in `.env` is saved.
  The host and the alerts read them; kernel, console and launcher do not, so they have no effect in `[kernel]`,
  `[access]`, `[console]` and `[launcher]`.
- The environment of a worker, which code reads with `os.environ`, has the variables of these files, those that `[app]`
  refers to, and of the host's own environment only what interpreters and libraries need: `PATH`, `HOME`, `USER`,
  `LOGNAME`, `SHELL`, `LANG`, `LANGUAGE`, `LC_*`, `TZ`, `TZDIR`, `TMPDIR`, `VIRTUAL_ENV`, `PYTHON*`, `LD_LIBRARY_PATH`,
  `CUDA_VISIBLE_DEVICES`, `*_NUM_THREADS`, `SLURM_*`, `OTEL_*`, `SSL_CERT_FILE`, `SSL_CERT_DIR`, `REQUESTS_CA_BUNDLE`,
  `CURL_CA_BUNDLE`, the variables of proxies and `NOMAFLOW_TRACE_HOOKS`. A name with a `*` leaves out variables that
  look like credentials, such as `SLURM_JWT` and `OTEL_EXPORTER_OTLP_HEADERS`. `[host] pass_env` adds others, and
  `nomaflow doctor` lists what is withheld.
- Variables that connectors.toml names (and their `_FILE`) and secret `NOMAFLOW_*` variables are withheld wherever they
  come from, and `${NAME}` in the values of steps does not find them either, unless `[host] pass_env` has their exact
  names. A `NAME*` there does not pass them on.

A malformed job is disabled, and says so; other jobs are not affected. A job that was valid before keeps its last good
definition: a job goes off the schedule only if it is absent from a readable file or says `enabled = false`
([operations](operations.md#a-file-is-broken)). Pools and connectors of connectors.toml are independent too: one that is
malformed, or needs a variable that is not set, fails only the steps that use it, with the reason. A file has at most
1 MiB. The `jobs.toml` of each folder of `plugins/` is read too.
"""

SCHEDULES = """\
### Schedules

A schedule is a crontab expression of five fields (minute, hour, day of month, month, day of week), of six with seconds
last, or one of `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight`, `@hourly`. Fields take `*`, lists,
ranges, steps, and names in any case. 0 and 7 are Sunday. Ranges may wrap (`fri-mon`), and `5/15` counts from 5. `L` is
the last day of the month, `L5` its last Friday, `5#3` its third Friday. In the day fields `?` means `*`.

- **Days.** If day of month or day of week begins with `*` (also `*/2`), both must match; else either one suffices.
- **Fixed times** (neither minute nor hour begins with `*`) fire once each. If clocks are put forward over a time, it
  fires at the end of the gap; if clocks are put back, it fires in the first pass. Times that fall on the same instant
  are one fire.
- **All other schedules** follow real time: they fire at each instant whose wall clock matches, in both passes if clocks
  are put back.
- Refused: expressions that never match (`0 0 30 2 *`), seven fields, `@reboot`, `R`, `H`, `W`, ranges that wrap and
  have a step, a day of month or a plain weekday beside `#` or `L5`.

`nomaflow cron EXPR --tz ZONE` prints the next fires.
"""

PROBLEM_CODES = {
    "access_revoked": "The access of the host that brings the job was revoked, and the host has not joined again.",
    "bad_address": "An address is neither `unix:PATH` nor `tls://HOST:PORT`, or the kernel cannot listen on it.",
    "bad_callable": "A callable is not written as `package.module:function`.",
    "bad_choice": "A value is not one of those allowed.",
    "bad_exception_name": "A name in `retry_on` or `no_retry_on` is not that of a class.",
    "bad_grant": "A grant is not of the form `VERB SCOPE`.",
    "bad_host_name": "A host name has characters other than lower-case letters, digits, `-` and `_`.",
    "bad_image": "`image` of a step is not the name of a container image.",
    "bad_job_id": "A job id has characters other than letters, digits, `-`, `_` and `.`.",
    "bad_label": "A label has capital letters or other characters that labels cannot have.",
    "bad_metrics": "Metrics cannot be served with these keys of `[kernel]` or `[host]`: the process would not start.",
    "bad_name": "The name of a step, preset, pool, connector or channel is empty, too long or has invalid characters.",
    "bad_role_name": "The name of a role has characters other than lower-case letters, digits, `-` and `_`.",
    "bad_schedule": "A cron expression is not valid, or never matches.",
    "bad_template": "Warning: a template of `[alerts]` cannot be parsed, is not there, or is not used.",
    "bad_toml": "A file is not TOML; the message has line and column.",
    "bad_url": "A URL does not have the expected form.",
    "bad_value": "A value cannot be kept exactly, such as `inf`, or is nested too deeply.",
    "bad_variable": "A line of an `env_file` is not of the form `NAME=value`, or its value has a NUL byte.",
    "call_cycle": "A job calls itself, directly or through others; the message has the chain.",
    "callable_not_offered": "The host that a job names does not offer the callable to jobs of other hosts.",
    "callable_error": "A callable does not exist or cannot be a step, or its module cannot be imported.",
    "conflicting_keys": "Keys of `[kernel]` whose values are good one by one and cannot be used together.",
    "delay_capped": "Warning: `retry.max_seconds` is lower than `retry.base_seconds`.",
    "doubtful_value": "Warning: a default stands in for a variable that an `env_file` without any text may have set.",
    "duplicate_job_id": "Two tables have the same id. The one that was the job before counts, otherwise the first one.",
    "duplicate_name": "Two queries or endpoints of a connector have the same name.",
    "duplicate_preset": "Two presets of a job have the same name; an error if both have a schedule.",
    "duplicate_step_name": "Two steps of a job have the same name.",
    "encrypted_value": "A value is encrypted (`ENC:`), but not by `nomaflow secret`.",
    "empty": "A list needs an entry.",
    "id_of_another_host": "The job's id belongs to another host, or is free and not claimed yet.",
    "fires_each_second": "Warning: a schedule fires each second; perhaps its seconds are in the first field.",
    "id_given_twice": "Warning: another table has the job's id, and is passed over.",
    "emptied_file": "A file that had jobs is empty; to remove its jobs, write `jobs = []`. Or an `env_file` is.",
    "ignored_op_kwarg": "Warning: a key of `op_kwargs` lands in a `**_`, which the callable ignores.",
    "incomplete_channel": "A channel of `[alerts]` lacks a key that its type needs.",
    "job_for_another_host": "Warning: a job names another host; it runs only if that host accepts it.",
    "job_not_accepted": "The host that a job names does not accept jobs of the host that brings it.",
    "late_fires_skipped": 'Warning: `misfire = "all"` catches up with fires that `overlap = "skip"` then skips.',
    "missing_file": "A file that is named or needed does not exist.",
    "missing_key": "A required key is missing.",
    "image_of_another_host": "A job of another host names an `image`; the host that runs it takes its own only.",
    "image_not_used": "Warning: a step has an `image`, and the launcher's engine starts no images.",
    "no_file_named": "The kernel is started without the jobs file it once had, and the file had jobs.",
    "no_channel": "Warning: `[alerts]` has no channel.",
    "no_fitting_instance": "Warning: an instance on this machine lacks what `resources` of a step ask for.",
    "not_imported": "Warning: the files keep the plugins from being imported, so the callables were not checked.",
    "not_overridable": "A preset sets a field that the step's type does not open to presets and runs.",
    "missing_op_kwarg": "A callable needs a parameter that nothing sets; a warning if no schedule runs the step.",
    "misspelt_op_kwarg": "A key of `op_kwargs` is one edit away from a parameter that nothing sets.",
    "not_supported": "A connector needs a feature that its pool lacks here.",
    "odd_name": "Warning: the name of a step or preset contains `/`, or begins or ends with a blank.",
    "open_credential": "A file that other users can read contains a credential; a warning in an `env_file`.",
    "out_of_range": "A number or a list is too small or too large.",
    "plugin_type": "Warning: a connector's type is not built in; a plugin must contribute it.",
    "no_step_enabled": "Warning: the job is scheduled, and all of its steps are disabled.",
    "preset_still_fires": "Warning: the job is disabled, but one of its presets still fires.",
    "reserved_role": "A role has the name of a built-in one.",
    "second_retention": "Warning: two files have a `[meta.retention]`; the first one applies.",
    "too_large": "A job is larger than what can be stored and sent.",
    "too_many_jobs": "A host brings more jobs than a kernel takes.",
    "too_many_labels": "An instance or a step has more labels than the kernel takes.",
    "unclosed_reference": "Warning: a `${` of a job refers to nothing: it has no `}`, or is in a default.",
    "unknown_callable": "The host does not offer the callable.",
    "unknown_key": "A key is unknown; the message names the near match.",
    "unknown_op_kwarg": "A callable does not take a key of `op_kwargs`; the message shows its signature.",
    "unknown_pool": "A connector names a pool that connectors.toml does not have.",
    "unknown_ping_host": "Warning: a job's check is not requested: `[alerts] ping_hosts` does not name its server.",
    "unknown_recipient": "Warning: a recipient of alerts is neither a channel nor an address; the default is told.",
    "unknown_step": "Warning: a preset names a step that the job does not have.",
    "unknown_step_type": "No plugin of the host contributes the step type.",
    "unknown_target": "Warning: a `call_job` step names a job that is not in these files.",
    "unknown_timezone": "A time zone is unknown; the message names similar ones.",
    "unreadable_file": "A file cannot be read, or is too large.",
    "left_out_by_copy": "An instance brings jobs that do not fire, since another copy of the host has none of them.",
    "literal_secret": "A secret param has a literal value in the file, where everybody who may read the job sees it.",
    "missing_secret": "A secret's file, or the key of encrypted values, is not there.",
    "unreadable_secret": "A secret's file or encrypted value cannot be read, or is used where none is allowed.",
    "unset_variable": "An environment variable is not set, and has no default or a file that may set it is unreadable.",
    "unusable_query": "Warning: a named query cannot run, for example one that writes without `writable = true`.",
    "unused_key": "Warning: a key has no effect in its place.",
    "unused_param": "Warning: no step takes a param of the job or of a `call_job` step, or a secret param.",
    "walltime_too_short": "Warning: a step may last longer than the instance that the launcher starts for it.",
    "wrong_type": "A value does not have the expected type.",
}
