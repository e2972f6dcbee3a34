"""The prose of docs/configuration.md that no model holds."""

from __future__ import annotations

__all__ = ["INTRODUCTION", "PROBLEM_CODES", "SCHEDULES"]

INTRODUCTION = """\
# Configuration

Every key of the three files of a project. This page and the JSON Schemas in `schemas/` are made from the models that
check the files; a test fails where they differ. `nomaflow check` reports what is wrong in a folder, each problem with
file, place, what was expected and the way out.

`${NAME}` and `${NAME:-default}` stand for environment variables in any text. Below `params` and `op_kwargs`, and in the
keys of a step type that a plugin contributes, they are resolved in the host at each attempt, elsewhere when the file is
read. The default also takes the place of an empty variable; `$${NAME}` is a literal `${NAME}`. Texts of numbers and of
true/false are read as such, so that a reference can give them.

- Where NAME is not set and NAME_FILE is, the content of the file that NAME_FILE names (an absolute path) stands for
  NAME, less its last newline. That is how Docker and Kubernetes hand over secrets.
- `[host] env_file` names files with variables of the project: `NAME=value` lines, with `export `, quotes and `#`
  comments as in a shell; nothing is expanded in them. The process's own environment wins, and a later file over an
  earlier one. A reload reads them again, and `up --watch` reloads where one whose name ends in `.env` is saved. The
  kernel does not read them, so they do not count in `[kernel]`.
- Workers see the variables of the environment and of these files, but for secret `NOMAFLOW_*` ones and those that
  connectors.toml names (and their `_FILE`), unless `[host] pass_env` lists them.

A malformed job is disabled, visibly; the other jobs go on. One that was valid before goes on with its last good
definition: only its absence from a file that can be read, or `enabled = false`, takes a job off the schedule
([operations](operations.md#a-file-is-broken)). Each pool and each connector of connectors.toml stands alone, too: what
is malformed, or needs a variable that is not set, fails where it is used, with the reason. Files have at most 1 MiB;
the `jobs.toml` of each folder of `plugins/` is read too.
"""

SCHEDULES = """\
### Schedules

Crontab's five fields (minute, hour, day of month, month, day of week), six with seconds last, or one of `@yearly`,
`@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight`, `@hourly`. Fields take `*`, lists, ranges, steps and names in
any case; 0 and 7 are Sunday; ranges may wrap (`fri-mon`); `5/15` counts from 5; `L` is the last day of the month, `L5`
its last Friday, `5#3` its third. In the day fields `?` is `*`.

- **Days.** Where day of month or day of week begins with `*` (also `*/2`) both must match; else either does.
- **Fixed times** (neither minute nor hour begins with `*`) fire once each: where clocks are put forward over them at
  the end of the gap, where clocks are put back at the first pass. Times that fall on one instant are one fire.
- **The others** follow real time: each instant whose wall clock matches, in both passes where clocks are put back.
- Refused: what never matches (`0 0 30 2 *`), seven fields, `@reboot`, `R`, `H`, `W`, ranges that wrap and have a step,
  a day of month beside `#` or `L5`.

`nomaflow cron EXPR --tz ZONE` prints the next fires.
"""

PROBLEM_CODES = {
    "bad_callable": "A callable is not named as `package.module:function`.",
    "bad_choice": "A value is not one of those allowed.",
    "bad_exception_name": "A name in `retry_on` or `no_retry_on` is not that of a class.",
    "bad_host_name": "A host name has other characters than lower-case letters, digits, `-` and `_`.",
    "bad_job_id": "A job id has other characters than letters, digits, `-`, `_` and `.`.",
    "bad_name": "The name of a step, preset, pool or connector is empty, too long or has characters it may not have.",
    "bad_schedule": "A cron expression is not valid, or never matches.",
    "bad_toml": "A file is not TOML; the message has line and column.",
    "bad_url": "A URL is not of the form that is expected.",
    "bad_value": "A value cannot be kept exactly, such as `inf`, or is nested too deeply.",
    "bad_variable": "A line of an `env_file` is not `NAME=value`.",
    "call_cycle": "A job calls itself, directly or through others; the message has the chain.",
    "callable_error": "A callable does not exist or cannot be a step, or its module cannot be imported.",
    "delay_capped": "Warning: `retry.max_seconds` is lower than `retry.base_seconds`.",
    "duplicate_job_id": "Two jobs have one id; the second is disabled.",
    "duplicate_name": "Two queries or endpoints of a connector have one name.",
    "duplicate_preset": "Two presets of a job have one name; an error where both have a schedule.",
    "duplicate_step_name": "Two steps of a job have one name.",
    "encrypted_value": "A value is encrypted in the original's way (`ENC:`), which cannot be read here.",
    "empty": "A list needs an entry.",
    "id_of_another_host": "The job's id belongs to another host.",
    "emptied_file": "A file that had jobs is empty: nobody says that they shall go.",
    "ignored_op_kwarg": "Warning: a key of `op_kwargs` lands in a `**` whose name begins with `_`, which nobody reads.",
    "missing_file": "A file that is named, or needed, is not there.",
    "missing_key": "A required key is missing.",
    "not_overridable": "A preset sets a field that the step's type does not open to presets and runs.",
    "missing_op_kwarg": "A callable needs a parameter that nothing gives; a warning where no schedule runs into it.",
    "misspelt_op_kwarg": "A key of `op_kwargs` is one edit away from a parameter that nothing gives.",
    "not_supported": "A connector needs what its pool cannot do here.",
    "odd_name": "Warning: the name of a step or preset has `/` in it, or blanks at its ends.",
    "open_credential": "A file that others may open has a credential; a warning in an `env_file`.",
    "out_of_range": "A number or a list is too small or too large.",
    "plugin_type": "Warning: a connector's type is not built in, so a plugin must contribute it.",
    "positional_only": "A callable takes a required parameter by position only.",
    "preset_still_fires": "Warning: the job is disabled and a preset of it still fires.",
    "second_retention": "Warning: two files have a `[meta.retention]`; the first one holds.",
    "unknown_callable": "The host does not offer the callable.",
    "unknown_key": "A key is not known; the near match is named.",
    "unknown_op_kwarg": "A callable does not take a key of `op_kwargs`; its signature is shown.",
    "unknown_pool": "A connector names a pool that connectors.toml does not have.",
    "unknown_step": "Warning: a preset names a step that the job does not have.",
    "unknown_step_type": "No plugin of the host contributes the step type.",
    "unknown_target": "Warning: a `call_job` step names a job that is not in these files.",
    "unknown_timezone": "A zone is not known; near names are given.",
    "unreadable_file": "A file cannot be read, or is too large.",
    "unset_variable": "An environment variable without default is not set.",
    "unusable_query": "Warning: a named query cannot run, such as one that writes without `writable = true`.",
    "unused_key": "Warning: a key has no effect where it stands.",
    "unused_param": "Warning: no step takes a param of the job, or of a `call_job` step.",
    "wrong_type": "A value is of another type than expected.",
}
