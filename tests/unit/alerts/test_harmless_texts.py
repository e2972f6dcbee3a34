"""Hostile text in messages: it steers no terminal, pings nobody, is cut and masked; templates that fail give way."""

from __future__ import annotations

import json

from alerts_rig import Rig, section

from nomaflow.client.values import LogLine, RunView
from nomaflow_alerts.messages.details import Details
from nomaflow_alerts.messages.harmless_text import Masker, cut, plain
from nomaflow_alerts.messages.templates import Templates

HOSTILE = "<!channel> <@U123> @everyone @here <b>x</b> \x1b[31mred\x1b[0m\r\n\u202eabc"


def test_a_line_pings_nobody_and_obeys_nobody() -> None:
    """Mentions of Slack, Discord and Telegram, tags, escape sequences and directions."""
    shown = plain(HOSTILE)
    for text in ("<!channel", "<@U123", "@everyone", "@here", "<b>", "\x1b", "\n", "\r", "\u202e"):
        assert text not in shown, text
    assert "channel" in shown
    assert len(plain("x" * 1_000_000)) == 301


def test_a_message_is_at_most_8_kib() -> None:
    """Whole lines, and the end says so."""
    text = cut("\n".join(["ä" * 100] * 500))
    assert len(text.encode()) <= 8192
    assert text.endswith("ä\n… (cut)")


def test_secrets_of_channels_are_masked() -> None:
    """URLs, tokens in them, passwords, secrets; a server's name and the words of a path are none."""
    keys = {
        "slack": {"url": "slack://TOKENA12345678901/TOKENB12345678901/TOKENC"},
        "hook": {"type": "webhook", "url": "https://hooks.example.org/services/x", "secret": "whsec_abcdefgh",
                 "headers": {"a": "Bearer tok"}},
        "mail": {"type": "email", "host": "mx", "from": "a@x", "to": ["b@x"], "password": "hunter22"},
    }  # fmt: skip
    masker = Masker.of(section(channels=keys, heartbeat_url="https://hc-ping.com/123-456"))
    hook = "https://hooks.example.org/services/x"
    text = f"TOKENA12345678901 {hook} whsec_abcdefgh Bearer tok hunter22 https://hc-ping.com/123-456 mx"
    assert masker.masked(text) == "*** *** *** *** *** *** mx"
    assert masker.masked("services of hooks.example.org") == "services of hooks.example.org"


def test_a_secret_is_masked_where_it_was_cut_or_made_harmless() -> None:
    """A secret is told in no part: neither its half before the cut of a long line, nor the URL whose @ pings nobody."""
    url, secret = "mailtos://jobs:hunter22@example.org", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    hook = {"type": "webhook", "url": "https://x.example/hook", "secret": secret}
    for why in (f"HTTPError for {url}", "x" * 580 + secret, "x" * 280 + url + "y" * 900):
        rig = Rig(alerts=section(channels={"ops": {"url": url}, "hook": hook}))
        rig.ends("FAILED", why=why)
        told = rig.wait(40)[0]
        for text in (told.body, str(told.data)):
            assert "hunter22" not in text
            assert "whsec_" not in text


def test_a_hostile_log_in_a_message() -> None:
    """A megabyte, a mention, markup and a secret in the lines of a run."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    channels = {"hook": {"type": "webhook", "url": "https://x.example/hook", "secret": secret}}
    rig = Rig(alerts=section(channels=channels))
    rig.job()
    run_id = rig.ends("FAILED", why=f"{HOSTILE} {secret}")
    texts = [HOSTILE, "y" * 1_000_000, f"key {secret}", "a\n" * 100_000 + "end"]
    lines = tuple(
        LogLine(seq=n, at_us=0, level=40, logger="x", step="one", attempt=1, message=text)
        for n, text in enumerate(texts)
    )
    number = rig.incident("failed").id
    rig.details = {number: Details(run=RunView(run_id=run_id, job_id="nightly", state="FAILED"), lines=lines)}
    [told] = rig.wait(40)
    everything = told.subject + told.body + str(told.data)
    for text in ("<!channel", "@everyone", "\x1b", secret, "\u202e"):
        assert text not in everything, text
    assert len(told.body.encode()) <= 8192
    assert "It said last:" in told.body


def test_templates_of_ones_own() -> None:
    """They get what webhooks get, and the built-in texts."""
    templates = {"subject": "[{{ severity }}] {{ subject }}", "body": "{{ incidents[0].job_id }}: {{ text }}"}
    rig = Rig(alerts=section(templates=templates))
    rig.job()
    rig.ends("FAILED")
    [told] = rig.wait(40)
    assert told.subject == "[warning] nightly failed"
    assert told.body.startswith("nightly: nightly failed\n")


def test_a_body_of_ones_own_is_sent_whole() -> None:
    """A body from a template is sent whole or, above the limit, refused: half a JSON object is useless."""
    templates = Templates({"pager": '{"text": {{ text | tojson }}}', "endless": "{{ text * 40 }}"})
    text = 'a "quoted" <line>\n' * 400
    body, problem = templates.rendered("pager", {"text": text})
    assert (json.loads(body), problem) == ({"text": text}, "")
    body, problem = templates.rendered("endless", {"text": text})
    assert body == ""
    assert "at most 262,144 are sent" in problem


def test_a_template_that_fails_gives_way() -> None:
    """The built-in text goes out, and says what was wrong; the sandbox lets nothing out."""
    for text in ("{{ nothing.at_all }}", "{{ ''.__class__.__mro__ }}", "{% for x in range(10**9) %}{% endfor %}"):
        rig = Rig(alerts=section(templates={"body": text}))
        rig.job()
        rig.ends("FAILED")
        [told] = rig.wait(40)
        assert told.body.startswith("nightly failed\n")
        assert "Note: the template 'body' failed" in told.body
