"""The schema of the inventory, of which loader, JSON Schema and reference page are made."""

from __future__ import annotations

from runbook.inventory.hostnames import CERTNAME, MAX_HOSTS
from runbook.inventory.shapes import Choice, Flag, Number, Text
from runbook.inventory.tables import Key, Many, Named, NameOr, Table
from runbook.inventory.vocabulary import (
    ADDRESS,
    AGENT,
    COMPILERS,
    DATE,
    DOMAIN,
    DURATION,
    ENVIRONMENT,
    FAILURES,
    GROUP,
    HEAP,
    HOST,
    LABEL,
    LINE,
    MAX_SERVERS,
    NAME,
    OVERRIDE,
    PORT,
    REMOTE,
    REPOSITORY,
    ROLE,
    SECRET,
    SERVER_ADDRESS,
    SERVERS,
    SSH,
    URL,
)

STRATEGIES = ("round-robin", "tcp-proxy", "tls-proxy", "hardware", "srv", "server-list")
PROXIES = ("tcp-proxy", "tls-proxy")

_SITE = Table(
    "the site",
    (Key("name", LABEL, "What the site is called.", "example", otherwise="the file's name"),),
)

_PUPPET = Table(
    "what agents call",
    (
        Key(
            "server",
            NAME,
            "The name agents call, their setting `server`; compile masters share it.",
            default="puppet",
        ),
        Key(
            "dns_alt_names",
            Many(NAME, "DNS names"),
            "Every name by which agents reach a compile master.",
            "[puppet, puppet.example.com]",
            otherwise="computed from `server` and `load_balancing`",
        ),
    ),
)

_MODULE = Table(
    "a module",
    (
        Key(
            "path",
            REMOTE,
            "The module's directory in the site's code.",
            "/etc/puppet/code/environments/production/modules/ca_client",
            required=True,
        ),
        Key("environment", ENVIRONMENT, "The environment that gets it.", default="production"),
    ),
)

_CA = Table(
    "the CA",
    (
        Key("host", HOST, "The host the CA runs on.", "primary.example.com", required=True),
        Key(
            "name",
            NAME,
            "The CA's own name, which no compile master shares.",
            "ca.example.com",
            otherwise="its host's name",
        ),
        Key(
            "clients",
            Choice(("hosts", "module", "srv")),
            "How agents learn of it: set on each over ssh, by a module in your code, or by an SRV "
            "record.",
            default="hosts",
        ),
        Key("module", _MODULE, "The module to write.", only=("module",), needed=("module",)),
        Key(
            "srv_domain",
            DOMAIN,
            "The domain of `_x-puppet-ca._tcp`.",
            otherwise="`load_balancing.domain`, then `dns.domain`",
            only=("srv",),
        ),
    ),
    by="clients",
)

DATABASE = Table(
    "a PostgreSQL database",
    (
        Key("host", ADDRESS, "Its host.", default="localhost"),
        Key("port", PORT, "Its port.", "5432", default=5432),
        Key("name", ROLE, "The database.", default="puppetdb"),
        Key("user", ROLE, "Its user.", default="puppetdb"),
        Key(
            "password",
            SECRET,
            "Where the user's password is found; the database is then yours, and only used.",
            otherwise="made on PuppetDB's host, with role, database and extension",
        ),
        Key(
            "sslmode",
            Choice(("disable", "allow", "prefer", "require", "verify-ca", "verify-full")),
            "How the connection is secured, as PostgreSQL's JDBC driver names it.",
            otherwise="the driver's own, `prefer`",
        ),
        Key(
            "sslrootcert",
            REMOTE,
            "On PuppetDB's host: the CA that the database's certificate is verified with.",
            "/etc/ssl/certs/db-ca.pem",
        ),
    ),
)

_PUPPETDB = Table(
    "PuppetDB",
    (
        Key("host", HOST, "Its host.", "pdb.example.com"),
        Key("hosts", Many(HOST, "host names", most=MAX_SERVERS), "Its hosts, tried in this order."),
        Key("port", PORT, "Its TLS port.", "8081", default=8081),
        Key(
            "existing",
            Flag(),
            "Whether it is somebody else's: only its list of who may ask is added to.",
            default=False,
        ),
        Key(
            "heap",
            HEAP,
            "The heap of its JVM.",
            otherwise="128 MiB, and 1 MiB for each node",
        ),
        Key("database", DATABASE, "The database behind it.", "{host: localhost}"),
    ),
    one_of=("host", "hosts"),
)

_REPORTS = Table(
    "reports",
    (
        Key(
            "processors",
            Many(Text("a report processor", "puppetdb", "[a-z][a-z0-9_]*"), "report processors"),
            "Report processors every server is to have; those it has already stay.",
            "[puppetdb, http]",
            otherwise="`[puppetdb]` where there is a PuppetDB, else none",
        ),
        Key("url", URL, "Where the processor `http` sends reports: one for all servers."),
    ),
)

_VERSIONED = ("git", "mercurial", "subversion")
_REVISION = Text(
    "a branch, tag or revision", "production", r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9._/@-]*"
)

_CODE = Table(
    "code",
    (
        Key(
            "strategy",
            Choice(("r10k", *_VERSIONED, "rsync", "model-master", "command")),
            "How all servers come to the same code.",
            required=True,
        ),
        Key(
            "repository",
            REPOSITORY,
            "Where the code is kept.",
            only=("r10k", *_VERSIONED),
            needed=_VERSIONED,
        ),
        Key(
            "revision",
            _REVISION,
            "What is checked out.",
            otherwise="the repository's default",
            only=_VERSIONED,
        ),
        Key(
            "key",
            REMOTE,
            "The private key, on each server, that the repository is read with over ssh.",
            "/root/.ssh/id_deploy",
            otherwise="what ssh takes by itself",
            only=("r10k", *_VERSIONED),
        ),
        Key(
            "config",
            REMOTE,
            "The configuration of r10k.",
            "/etc/puppetlabs/r10k/r10k.yaml",
            otherwise="r10k's own",
            only=("r10k",),
        ),
        Key(
            "source",
            HOST,
            "The host whose code is the model for the others.",
            "primary.example.com",
            otherwise="the CA's host",
            only=("rsync", "model-master"),
        ),
        Key(
            "every",
            DURATION,
            "How often each server fetches by itself.",
            "5m",
            otherwise="5m with rsync; else when this step deploys, or a hook of yours does",
            only=("rsync", "r10k", *_VERSIONED),
        ),
        Key(
            "command",
            LINE,
            "The command that deploys, run as root on each server.",
            "/usr/local/bin/deploy-code",
            only=("command",),
            needed=("command",),
        ),
        Key(
            "path",
            REMOTE,
            "Where the code stands on the servers.",
            otherwise="Puppet's `environmentpath`",
        ),
        Key(
            "environments",
            Many(ENVIRONMENT, "environments"),
            "The environments that must be alike.",
            otherwise="all",
        ),
        Key(
            "enc",
            REMOTE,
            "The external node classifier that must be alike.",
            "/etc/puppet/enc.sh",
        ),
        Key(
            "files",
            Many(REMOTE, "paths on the hosts"),
            "What else must be alike: the classifier's data, data outside the environments.",
            "[/etc/puppet/nodes]",
        ),
        Key(
            "samples",
            Many(HOST, "hosts of this inventory"),
            "The nodes whose catalogs are compared.",
            "[web1.example.com, db1.example.com]",
            otherwise="an agent of each environment, and the CA's host",
        ),
        Key(
            "ignore",
            Many(LINE, "resources"),
            "What of a catalog may differ between servers: `Type[title]`, or with a parameter "
            "behind it; `*` stands for anything.",
            "['File[/etc/motd] content']",
        ),
    ),
    by="strategy",
)

_MEMBER = Table(
    "a member of a pool",
    (
        Key("name", HOST, "A Puppet Server of this inventory.", required=True),
        Key(
            "weight",
            Number("a weight from 0 to 65535", "75", 0, 65_535),
            "Its share of the agents.",
            default=1,
        ),
        Key(
            "priority",
            Number("a priority from 0 to 65535", "1", 0, 65_535),
            "Members of a higher number are asked only when all of the lower ones fail.",
            default=0,
        ),
        Key("port", PORT, "Where it listens.", "8140", default=8140),
    ),
    define="member",
)
_POOL = Many(NameOr(_MEMBER), "servers", most=MAX_SERVERS)

_BALANCED_SITE = Table(
    "a site",
    (
        Key(
            "domain",
            DOMAIN,
            "The `srv_domain` of its agents; with `strategy: srv`.",
            "site-a.example.com",
        ),
        Key(
            "server",
            NAME,
            "The name its agents call, where it is another one.",
            "puppet.site-a.example.com",
            otherwise="`puppet.server`",
        ),
        Key("servers", _POOL, "Its pool.", required=True),
    ),
    define="site",
)

_LOAD_BALANCING = Table(
    "load balancing",
    (
        Key(
            "strategy",
            Choice(STRATEGIES),
            "How agents are spread over the servers.",
            required=True,
        ),
        Key("host", HOST, "The host of the proxy.", "lb.example.com", only=PROXIES, needed=PROXIES),
        Key(
            "mode",
            Choice(("tcp", "tls")),
            "Whether the device passes TLS through or ends it.",
            default="tcp",
            only=("hardware",),
        ),
        Key(
            "address",
            ADDRESS,
            "The device's address for agents.",
            "192.0.2.100",
            only=("hardware",),
        ),
        Key(
            "domain",
            DOMAIN,
            "The `srv_domain` of agents outside of `sites`.",
            otherwise="`dns.domain`",
            only=("srv",),
        ),
        Key("servers", _POOL, "The pool.", otherwise="all compile masters, alike"),
        Key(
            "sites",
            Named(LABEL, _BALANCED_SITE, "groups with a pool of their own"),
            "Groups whose agents have a pool of their own.",
        ),
        Key(
            "ttl",
            DURATION,
            "How long others may keep the pool's DNS records.",
            "5m",
            default="5m",
        ),
        Key(
            "fresh",
            DURATION,
            "How old the proof of an earlier step may be when agents are moved.",
            "12h",
            default="12h",
        ),
        Key(
            "drill",
            Flag(),
            "Whether one server is stopped at the end, to see that agents run on.",
            default=True,
        ),
    ),
    by="strategy",
)

_TSIG = Table(
    "a TSIG key",
    (
        Key(
            "name",
            Text("a key's name", "pmrunbook", r"[A-Za-z0-9_][A-Za-z0-9._-]*"),
            "The key's name.",
            required=True,
        ),
        Key(
            "algorithm",
            Choice(
                tuple(f"hmac-{a}" for a in ("sha256", "sha224", "sha384", "sha512", "sha1", "md5"))
            ),
            "Its algorithm.",
            default="hmac-sha256",
        ),
        Key(
            "secret",
            SECRET,
            "Where its secret, in base64, is found.",
            "{file: secrets/tsig}",
            required=True,
        ),
    ),
)

_DNS = Table(
    "DNS",
    (
        Key(
            "servers",
            Many(SERVER_ADDRESS, "addresses", single=True, most=16),
            "The authoritative name servers: all are asked, the first is updated.",
            otherwise="this machine's resolver",
        ),
        Key("domain", DOMAIN, "The zone of the site."),
        Key(
            "tsig",
            _TSIG,
            "The key that signs updates (RFC 8945).",
            otherwise="you change the records, and they are checked",
        ),
    ),
)

_ROLLOUT = Table(
    "a rollout",
    (
        Key(
            "canary",
            Number("a number of hosts, 1 or more", "1", 1, MAX_HOSTS),
            "Hosts that go first, and must be well before others follow.",
            default=1,
        ),
        Key(
            "batch",
            Number("a number of hosts, 1 or more", "20", 1, MAX_HOSTS),
            "Hosts that follow at a time.",
            default=20,
        ),
        Key(
            "max_failures",
            FAILURES,
            "Hosts, or a share of the agents, that may fail before all stops.",
            default="0",
        ),
    ),
)

_WAIVER = Table(
    "a waiver",
    (
        Key(
            "finding",
            Text("a finding's id", "clock-skew", "[a-z][a-z0-9-]*"),
            "The finding that is accepted.",
            required=True,
        ),
        Key(
            "host",
            Text("a host name or '*'", "'*'", rf"\*|{CERTNAME}"),
            "Where; `'*'` is everywhere.",
            default="*",
        ),
        Key("reason", LINE, "Why it is accepted, and by whom.", required=True),
        Key("expires", DATE, "The last day it counts.", required=True),
    ),
    define="waiver",
)

INVENTORY = Table(
    "the inventory",
    (
        Key("site", _SITE, "The site."),
        Key("ssh", SSH, "How all hosts are reached; groups and hosts may differ."),
        Key("puppet", _PUPPET, "What agents call."),
        Key("ca", _CA, "The one certificate authority.", required=True),
        Key("servers", SERVERS, "Puppet Servers that are there already, beside the CA's host."),
        Key("compile_masters", COMPILERS, "The compile masters to build or to keep."),
        Key("retired", SERVERS, "Compile masters to take out of service, for good."),
        Key(
            "puppetdb",
            _PUPPETDB,
            "PuppetDB: exported resources, and the inventory service's successor.",
        ),
        Key("reports", _REPORTS, "Where reports go."),
        Key("code", _CODE, "How manifests, modules and data stay identical."),
        Key(
            "load_balancing",
            _LOAD_BALANCING,
            "How agents are spread over the compile masters; put in place last.",
            "{strategy: tcp-proxy, host: lb.example.com}",
        ),
        Key("dns", _DNS, "The name servers.", "{servers: [192.0.2.53], domain: example.com}"),
        Key("agents", Many(AGENT, "agents", single=True), "The agents.", "[agent1.example.com]"),
        Key("rollout", _ROLLOUT, "How a change spreads over many hosts."),
        Key(
            "hosts",
            Named(HOST, OVERRIDE, "a mapping of hosts"),
            "What differs on single hosts.",
            "{cm1.example.com: {address: 192.0.2.11}}",
        ),
        Key(
            "groups",
            Named(LABEL, GROUP, "a mapping of groups"),
            "Sites or zones, and how their hosts are reached.",
            "{site-a: {ssh: {jump: bastion.site-a.example.com}}}",
        ),
        Key("waivers", Many(_WAIVER, "waivers"), "Findings you accept for a while."),
    ),
)
