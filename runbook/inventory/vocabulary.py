"""What the words of an inventory look like: names, paths, times, secrets, logins, hosts."""

from __future__ import annotations

from runbook.inventory.hostnames import CERTNAME, MAX_HOSTS, fault
from runbook.inventory.shapes import Flag, Measure, Number, Text
from runbook.inventory.tables import Key, Many, NameOr, Secrecy, Table

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def _seconds(text: str) -> float:
    number = text.rstrip("dhms")
    return float(number) * _UNITS[text[len(number) :]]


def _mebibytes(text: str) -> int:
    return int(text.rstrip("mg")) * (1024 if text.endswith("g") else 1)


# --- words --------------------------------------------------------------------------------------

_SAFE = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}"  # a name ssh may be given: never an option
_V6 = r"\[[0-9A-Fa-f:.]{2,45}\]"
_REMOTE = r"/?(?!-)(?!(?:.*/)?\.\.(?:/|$))[A-Za-z0-9._/@+:-]+"

HOST = Text("a host name", "cm1.example.com", CERTNAME, fault)
NAME = Text("a DNS name", "puppet.example.com", CERTNAME, fault)
DOMAIN = Text("a domain", "example.com", CERTNAME, fault)
LABEL = Text("a short name", "site-a", r"[A-Za-z][A-Za-z0-9._-]{0,63}")
ADDRESS = Text(
    "a host name or an IP address",
    "192.0.2.11",
    rf"{_SAFE}|[0-9A-Fa-f:.]{{2,45}}(?:%[A-Za-z0-9]+)?",
)
FILE = Text("a path of a file here", "~/.ssh/id_ed25519", r"[^-\x00-\x1f\x7f][^\x00-\x1f\x7f]*")
REMOTE = Text("a path on the hosts", "/etc/puppet/code/environments", _REMOTE)
LINE = Text(
    "a line of text", "checked by hand", r"[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*"
)
HOP = Text(
    "a jump host as user@host:port",
    "operator@bastion.example.com:2222",
    rf"(?:[A-Za-z0-9_][A-Za-z0-9._@+-]{{0,63}}@)?(?:{_SAFE}|{_V6})(?::[0-9]{{1,5}})?",
)
USER = Text("a user name", "operator", r"[A-Za-z0-9_][A-Za-z0-9._@\\+-]{0,63}\$?")
SERVER_ADDRESS = Text(
    "the address of a name server, with or without a port",
    "192.0.2.53",
    rf"(?:[0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}}|{_V6})(?::[0-9]{{1,5}})?"
    r"|(?=[0-9A-Fa-f.]*:)[0-9A-Fa-f:.]{1,45}",
)
# No ":" before an "@": a password inside of an address would stand in the inventory.
URL = Text(
    "an http or https address without a password",
    "https://reports.example.com/upload",
    r"https?://(?!-)[^\s\x00-\x1f\x7f@]+",
    secret=True,
)
REPOSITORY = Text(
    "the address of a repository without a password",
    "git@git.example.com:puppet/control.git",
    r"(?!-)(?![A-Za-z0-9+.-]+://[^/@:]*:[^/]*@)[^\s\x00-\x1f\x7f]+",
    secret=True,
)
DURATION = Measure(
    "a time such as 15s, 2m or 1h", "15s", r"[0-9]{1,9}(?:\.[0-9]{1,3})?(?:ms|s|m|h|d)?", _seconds
)
FAILURES = Measure(
    "a number of hosts, or a share of them such as 5%", "5%", r"[0-9]{1,9}|(?:100|[0-9]{1,2})%", str
)
DATE = Text("a date", "2027-01-31", r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])")
ENVIRONMENT = Text("an environment", "production", "[a-z0-9_]+")
ROLE = Text("a name", "puppetdb", "[A-Za-z_][A-Za-z0-9_-]{0,62}")
PORT = Number("a port from 1 to 65535", "22", 1, 65_535)

SECRET = Secrecy(
    Table(
        "a reference to a secret",
        (
            Key(
                "env",
                Text(
                    "the name of a variable", "SUDO_PASSWORD", "[A-Za-z_][A-Za-z0-9_]*", secret=True
                ),
                "The environment variable that holds it.",
            ),
            Key(
                "file",
                Text("a path", "secrets/sudo", r"[^\x00-\x1f\x7f]+", secret=True),
                "The file that holds it, for your eyes only (mode 0600).",
            ),
            Key(
                "command",
                Text("a command line", "pass show puppet/sudo", r"[^\x00-\x1f\x7f]+", secret=True),
                "The command that prints it; run without a shell, its first line counts.",
            ),
            Key(
                "prompt",
                Text("a label", "sudo password", r"[^\x00-\x1f\x7f]+", secret=True),
                "The question to ask you, once per run.",
            ),
        ),
        one_of=("env", "file", "command", "prompt"),
        define="secret",
        secret=True,
    )
)

# --- hosts --------------------------------------------------------------------------------------

_LOGIN = (
    Key("user", USER, "The user to log in as.", otherwise="`ssh_config`, then your own name"),
    Key("port", PORT, "The port of sshd.", otherwise="`ssh_config`, then 22"),
    Key(
        "key",
        Many(FILE, "paths", single=True, most=16),
        "Private key files to offer.",
        otherwise="the agent's keys and those `ssh_config` names",
    ),
    Key(
        "jump",
        Many(HOP, "jump hosts", single=True, most=8),
        "Jump hosts to go through, the nearest to you first; `[]` drops those of the group.",
        otherwise="`ssh_config`",
    ),
    Key(
        "known_hosts",
        Many(FILE, "paths", single=True, most=16),
        "Files of known host keys; every hop is verified.",
        "~/.ssh/known_hosts",
        otherwise="`ssh_config`, then `~/.ssh/known_hosts`",
    ),
    Key(
        "ssh_config",
        Text("a path, or '' for none", "~/.ssh/config", r"[^\x00-\x1f\x7f]*"),
        "The OpenSSH client configuration to honour; `''` for none.",
        otherwise="`~/.ssh/config`",
    ),
    Key("agent", Flag(), "Whether the keys of ssh-agent are offered.", otherwise="true"),
    Key(
        "sudo",
        Flag(),
        "Whether root is reached through sudo; false where the user is root.",
        otherwise="false for the user root, else true",
    ),
    Key("sudo_password", SECRET, "Where sudo's password is found.", otherwise="sudo asks for none"),
    Key(
        "sudo_shell",
        Text("a path", "/usr/local/sbin/pmrunbook-look", r"(?!.*/\.\.(?:/|$))/[A-Za-z0-9._/-]+"),
        "What sudo starts in place of the shell, with its arguments: a wrapper that can only look "
        "is enough for reading.",
        otherwise="`/bin/sh`",
    ),
    Key("connect_timeout", DURATION, "How long a host may take to answer.", otherwise="15s"),
)
LOGIN = Table("a login", _LOGIN, define="login")
NETNS = Key(
    "netns",
    Text("a network namespace", "pmrb-default", r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"),
    "The Linux network namespace to enter first; the embedded lab has its own.",
    otherwise="none",
)
SSH = Table("the login of all hosts", (*_LOGIN, NETNS))

_OVERRIDE = (
    Key("address", ADDRESS, "What ssh dials.", otherwise="the name"),
    Key("group", LABEL, "The group it belongs to; one of `groups`.", otherwise="none"),
    Key("ssh", LOGIN, "What differs from the login of its group.", "{port: 2222}"),
)
OVERRIDE = Table("a host", _OVERRIDE, define="override")
SERVER = NameOr(
    Table(
        "a server",
        (Key("name", HOST, "Its certname.", required=True), *_OVERRIDE),
        define="server",
    ),
)
MAX_SERVERS = 1_000
SERVERS = Many(SERVER, "servers", most=MAX_SERVERS)
HEAP = Measure("a size such as 2g or 1536m", "2g", r"[1-9][0-9]{0,5}[mg]?", _mebibytes)
COMPILERS = Many(
    NameOr(
        Table(
            "a compile master",
            (
                Key("name", HOST, "Its certname.", required=True),
                *_OVERRIDE,
                Key(
                    "heap",
                    HEAP,
                    "The heap of its JVM.",
                    otherwise="512 MiB, and 512 MiB for each JRuby instance",
                ),
                Key(
                    "jruby_instances",
                    Number("a number of JRuby instances", "4", 1, 256),
                    "How many catalogs it compiles at a time.",
                    otherwise="one less than its processors, at most 4",
                ),
            ),
            define="compiler",
        ),
    ),
    "compile masters",
    most=MAX_SERVERS,
)
AGENT = NameOr(
    Table(
        "an agent or many",
        (
            Key("name", HOST, "One agent, by its certname.", "agent1.example.com"),
            Key(
                "file",
                FILE,
                f"A file with one certname a line, `#` starts a comment; at most {MAX_HOSTS:,}.",
                "agents.txt",
            ),
            Key(
                "pattern",
                Text("a pattern", "'web[001-120].example.com'", r"[a-z0-9_.\[\],-]{1,400}"),
                "Many agents: `[001-120]`, `[a-f]`, `[1,3,5-9]`; several ranges multiply.",
            ),
            *_OVERRIDE,
        ),
        one_of=("name", "file", "pattern"),
        define="agent",
    ),
)
GROUP = Table("a group", (Key("ssh", LOGIN, "What differs from the login of all hosts."),))
