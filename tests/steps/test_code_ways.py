"""What the strategies `rsync` and `model-master` write, as pure functions of readings."""

from __future__ import annotations

import base64
import hashlib
import subprocess

import pytest
from runbook.steps import code_copies, code_model, code_r10k, code_rsync, code_schedule
from runbook.steps.layout import Seen

from runbook.model import CertificateAuthority, Facts, Host, HostFacts, Reading, Site

SOURCE, CM1, CM2 = "main.lab.test", "cm1.lab.test", "cm2.lab.test"


def site(strategy: str) -> Site:
    return Site(
        "site",
        tuple(Host(name, roles=frozenset({"server"})) for name in (SOURCE, CM1, CM2)),
        server=SOURCE,
        ca=CertificateAuthority(SOURCE, SOURCE),
        sections={"code": {"strategy": strategy, "source": SOURCE}},
    )


def known(**texts: str) -> Facts:
    """Facts of the source, cm1 and cm2 by the read that is asked for."""
    hosts = {"main": SOURCE, "cm1": CM1, "cm2": CM2}
    return Facts(
        {
            hosts[name]: HostFacts({read: Reading(0, text) for read in ("rsync", "model")})
            for name, text in texts.items()
        }
    )


def file(text: str) -> str:
    data = text.encode()
    return (
        f"mode=644\nowner=root:root\nstate=file\nsha256={hashlib.sha256(data).hexdigest()}\n"
        f"content={base64.b64encode(data).decode()}\n"
    )


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", ""),
        ("pubkeyauthentication yes\nallowusers root\nallowusers puppet-*", ""),
        ("allowusers root@192.0.2.1", "AllowUsers"),
        ("denyusers puppet-code", "DenyUsers"),
        ("allowgroups wheel code", ""),
        ("allowgroups wheel", "AllowGroups"),
        ("authenticationmethods publickey,password publickey", ""),
        ("authenticationmethods publickey,password", "AuthenticationMethods"),
        (
            "pubkeyauthentication no\nforcecommand internal-sftp",
            "PubkeyAuthentication, ForceCommand",
        ),
        ("authorizedkeysfile none", "AuthorizedKeysFile"),
        ("error no hostkeys available", "no hostkeys available"),
    ],
)
def test_an_sshd_that_would_not_let_the_account_in_is_told(said: str, why: str) -> None:
    lines = "".join(f"sshd={line}\n" for line in said.splitlines())
    facts = known(main=f"[source]\ngroup=puppet-code code\n{lines}")
    assert code_rsync.refusal(Seen(SOURCE, facts)) == why


def test_a_key_of_a_server_that_is_not_read_now_stays() -> None:
    command = 'restrict,command="rsync --server --daemon --config=/etc/puppet-code/rsyncd.conf ."'
    now = f"{command} ssh-ed25519 OLD puppet-code@cm2.lab.test\n{command} ssh-ed25519 X who@gone\n"
    facts = known(
        main=f"[authorized_keys]\npath=/k\n{file(now)}", cm1="key=ssh-ed25519 NEW who@ever\n"
    )
    assert code_rsync.authorized_keys(site("rsync"), facts).decode().splitlines()[1:] == [
        f"{command} ssh-ed25519 NEW puppet-code@cm1.lab.test",
        f"{command} ssh-ed25519 OLD puppet-code@cm2.lab.test",
    ]


@pytest.mark.parametrize(
    "before",
    [
        "",
        "[other]\n    path /srv",
        "[pmrunbook_environments]\n    path /old\n    allow *\n[other]\n    path /srv\n",
    ],
)
def test_fileserver_conf_lends_the_environments_once(before: str) -> None:
    there = file(before) if before else "state=absent\n"
    text = f"environments=/code/environments\n[fileserver.conf]\npath=/f\n{there}"
    facts = known(main=text)
    [change] = code_model.mounts(site("model-master"), Seen(SOURCE, facts))
    after = change.content.decode()
    assert after.count("[pmrunbook_environments]\n    path /code/environments\n") == 1
    assert "/old" not in after
    assert ("[other]\n    path /srv\n" in after) is ("other" in before)
    again = known(main=text.replace(there, file(after)))
    [same] = code_model.mounts(site("model-master"), Seen(SOURCE, again))
    assert same.content == change.content


@pytest.mark.parametrize("way", [code_copies, code_r10k])
def test_the_repository_is_read_with_its_own_key_also_where_caches_are_dropped(way) -> None:  # type: ignore[no-untyped-def]
    """The server's own key, with which it is told to drop them, opens no repository."""
    given = site("git")
    given.sections["code"].update(repository="ssh://git@git.lab.test/x.git", key="/root/.ssh/id")
    reads = {
        "code": "[trees]\ntimeout=production unlimited\n",
        "software": "[agent]\nhostprivkey=/ssl/own.pem\n",
    }
    facts = Facts({SOURCE: HostFacts({read: Reading(0, text) for read, text in reads.items()})})
    text = way.program(given, Seen(SOURCE, facts))
    assert "/ssl/own.pem" in text
    before, main, _ = text.partition('[ "$(id -u)" = 0 ]')
    assert main
    said = subprocess.check_output(["sh"], input=f'{before}echo "$GIT_SSH_COMMAND"', text=True)
    assert " -i /root/.ssh/id " in said


@pytest.mark.parametrize(
    ("result", "planned"),
    [("exit-code", ["schedule/main.lab.test/run"]), ("success", [])],
)
def test_a_deployment_that_failed_is_tried_again_without_waiting_for_the_timer(
    result: str, planned: list[str]
) -> None:
    given = site("git")
    given.sections["code"]["every"] = 600
    units = {
        "service": code_schedule.SERVICE,
        "timer": code_schedule.TIMER.format(seconds=600, delay=60),
    }
    text = "".join(f"[{kind}]\npath=/u.{kind}\n{file(unit)}" for kind, unit in units.items())
    text += f"[state]\ntimer=active enabled\nresult={result}\n"
    facts = Facts({SOURCE: HostFacts({"schedule": Reading(0, text)})})
    actions = code_schedule.plan(given, facts, (Seen(SOURCE, facts),))
    assert [action.id for action in actions] == planned  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("said", "ok"),
    [
        ("result=success\nago=700", True),
        ("result=success\nago=7000", False),
        ("result=exit-code\nstatus=1\nago=7", False),
        ("result=success\nactive=inactive", None),
        ("result=success\nactive=activating", True),
        ("result=success\nactive=activating\nago=7", True),
    ],
)
def test_a_last_run_has_to_be_clean_and_not_long_ago(said: str, ok: bool | None) -> None:
    given = site("rsync")
    given.sections["code"]["every"] = 600
    text = f"[state]\ntimer=active enabled\n{said}\n"
    facts = Facts({CM1: HostFacts({"schedule": Reading(0, text)})})
    [check] = code_schedule.checks(given, (CM1,))
    assert check.judge(facts).ok is ok
