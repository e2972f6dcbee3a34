"""Jobs are learnt on the event loop while the ledger's thread goes through them."""

from __future__ import annotations

import pytest
from alerts_rig import section

from nomaflow_alerts.rules.policies import JobFacts, JobRules, Policies
from nomaflow_project.jobs.alert_policy import AlertPolicy


def facts(job_id: str, **given: object) -> JobFacts:
    """Return the facts of a job with some keys of alerts."""
    return JobFacts(job_id, "team", given=AlertPolicy.given(given))


def test_a_job_may_be_learnt_while_a_rule_goes_through_all_of_them() -> None:
    """It ended the whole process, in the moment of a reload."""
    policies = Policies(section())
    policies.learn(facts("first"))
    for job in policies.jobs:
        policies.learn(facts(f"after-{job.job_id}"))
    assert [job.job_id for job in policies.jobs] == ["first", "after-first"]


def test_rules_that_are_made_while_the_job_changes_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the definition of before would be kept until the next change of any job."""
    policies = Policies(section())
    policies.learn(facts("nightly", failures=1))
    make = policies._effective

    def meanwhile(job: JobFacts) -> JobRules:
        made = make(job)
        monkeypatch.undo()
        policies.learn(facts("nightly", failures=5))
        return made

    monkeypatch.setattr(policies, "_effective", meanwhile)
    assert policies.rules("nightly").failures == 1
    assert policies.rules("nightly").failures == 5
