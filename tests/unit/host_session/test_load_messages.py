"""The messages about a load."""

from __future__ import annotations

from nomaflow_host.session.encoding import load_message, loaded_message, reload_message
from nomaflow_host.supervisor.values import LoadOutcome
from nomaflow_project.reading.problems import Place


def test_a_load_names_fifty_jobs_of_each_kind_and_counts_all() -> None:
    """Whoever shows the message can say how many more there are."""
    names = {kind: tuple(f"{kind}-{number}" for number in range(60)) for kind in ("removed", "added", "stopped")}
    message = loaded_message(LoadOutcome(accepted=True, generation=2, digest="", **names))
    for listed, counted in (
        (message.removed_job_ids, message.removed_count),
        (message.added_job_ids, message.added_count),
        (message.stopped_schedules, message.stopped_count),
    ):
        assert (len(listed), counted) == (50, 60)


def test_a_load_that_serves_tells_the_problems_of_no_single_job() -> None:
    """At most twenty are told; the kernel knows those of single jobs from the manifest."""
    of_job = Place("jobs.toml", job_id="tick").error("bad_value", "no")
    of_files = tuple(Place("").warning("unknown_key", f"{number}") for number in range(30))
    load = LoadOutcome(accepted=True, generation=2, digest="", problems=(of_job, *of_files))
    told = load_message(load).load_state.problems
    assert [each.message for each in told] == [f"{number}" for number in range(20)]


def test_a_name_that_is_not_utf_8_does_not_hold_up_the_answer_to_a_reload() -> None:
    """The wire carries Unicode only, and a folder of plugins may have any name."""
    refused = LoadOutcome(accepted=False, generation=1, digest="sha256:1", reasons=("plugins/\udcff/jobs.toml: bad",))
    answer = reload_message(7, refused).reload_result
    assert (answer.command_seq, answer.message) == (7, "plugins/\\udcff/jobs.toml: bad")
    assert not answer.HasField("loaded")
