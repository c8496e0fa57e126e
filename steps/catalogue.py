"""Every finding there is, in one place: the survey fills in what it saw.

`reference()` is docs/reference/findings.md; a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass

from runbook.model import Finding, Severity

BLOCKER, WARNING, NOTE = Severity.BLOCKER, Severity.WARNING, Severity.NOTE


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding; `remedy` and `command` may name values in braces."""

    id: str
    severity: Severity
    expected: str
    remedy: str
    command: str = ""
    fixed_by: str = ""


_PE_DOCS = "https://puppet.com/docs/pe/latest/installing/installing_compile_masters.html"

KINDS = {
    kind.id: kind
    for kind in (
        # --- what is installed ---
        Kind("surveyed", NOTE, "what the plan stands on", "Nothing to do: this is what was seen."),
        Kind(
            "puppet-enterprise",
            BLOCKER,
            "open-source Puppet or OpenVox",
            "Puppet Enterprise brings its own tools and layout for compilers: follow its "
            f"documentation, {_PE_DOCS}, and take this host out of the inventory.",
        ),
        Kind(
            "mixed-packaging",
            BLOCKER,
            "Puppet from one packaging only",
            "The vendor's packages and the distribution's are both on this host and use different "
            "paths. Remove the ones that are not in use, with their configuration.",
            "dpkg -l | grep -E 'puppet|openvox'; rpm -qa | grep -E 'puppet|openvox'",
        ),
        Kind(
            "unsupported-system",
            WARNING,
            "a system of the Debian or the Red Hat family",
            "The paths and packages of this system are not known; check every plan with care.",
        ),
        Kind(
            "no-systemd",
            BLOCKER,
            "systemd, which starts and stops Puppet Server",
            "Services on this host cannot be managed. In a container only the checks make sense.",
        ),
        Kind(
            "puppet-not-installed",
            NOTE,
            "nothing yet",
            "Normal for a machine that gets its part later. Give it ca_server before its first "
            "agent run; the guide of the step 'ca' shows how.",
        ),
        Kind(
            "agent-not-installed",
            WARNING,
            "puppet-agent, as the inventory lists the host as an agent",
            "Install the agent, with ca_server in its puppet.conf before its first run, or take "
            "the host out of the inventory.",
        ),
        Kind(
            "ca-host-without-puppet-server",
            BLOCKER,
            "Puppet Server with the CA service",
            "The inventory names this host as the CA's, but no Puppet Server is installed. Correct "
            "ca.host, or install and set up Puppet Server first.",
        ),
        Kind(
            "settings-unreadable",
            BLOCKER,
            "a puppet.conf that Puppet can read",
            "Puppet cannot read puppet.conf, and goes on with its defaults for every setting. "
            "Correct the line the message names.",
            "{puppet} config print ca_server --section agent",
        ),
        Kind(
            "not-read",
            BLOCKER,
            "every read comes to an end",
            "Nothing is planned on what was not seen. Look at the load of the host and at the "
            "message, then look again.",
        ),
        Kind(
            "certname-differs",
            WARNING,
            "the certname that the inventory gives the host",
            "Name the host in the inventory by its certname and give what ssh dials as address.",
            "{puppet} config print certname --section agent",
        ),
        Kind(
            "agent-newer-than-server",
            WARNING,
            "no agent of a newer major version than its server",
            "Upgrade the servers first, the CA's host before the others, and agents last.",
        ),
        Kind(
            "servers-differ-in-version",
            WARNING,
            "the same version of Puppet Server on all servers",
            "Upgrade them to one version, the CA's host first.",
        ),
        Kind(
            "puppet-too-old",
            WARNING,
            "Puppet 6 or newer",
            "Puppet 5 has neither `puppet ssl` nor today's CA tools; parts of the steps then ask a "
            "person. Upgrade first.",
        ),
        # --- services ---
        Kind(
            "ca-service-off",
            BLOCKER,
            "the CA service on, here and nowhere else",
            "Enable the CA service in services.d/ca.cfg and restart Puppet Server, or correct "
            "ca.host in the inventory.",
            "grep -v '^ *#' {confdir}/services.d/ca.cfg",
        ),
        Kind(
            "ca-cfg-contradiction",
            BLOCKER,
            "exactly one of the two CA services in services.d",
            "With both, or with neither, Puppet Server does not start. Leave one line uncommented "
            "in ca.cfg and look for stray *.cfg files beside it.",
            "grep -v '^ *#' {confdir}/services.d/*.cfg",
        ),
        Kind(
            "ca-not-answering",
            BLOCKER,
            "Puppet Server answers on its own name",
            "Start Puppet Server and read its log.",
            "systemctl start puppetserver; journalctl -u puppetserver -n 50 --no-pager",
        ),
        Kind(
            "more-than-one-ca",
            BLOCKER,
            "one CA in the whole site",
            "This server also signs certificates. Decide which CA the agents belong to; on every "
            "other server disable the CA service, move its CA directory aside and restart.",
            "grep -v '^ *#' {confdir}/services.d/ca.cfg",
        ),
        Kind(
            "rogue-ca-key",
            WARNING,
            "a CA's key on the CA's host only",
            "This server was once started with the CA service on and made a CA of its own. Once "
            "nothing uses it, move its directory aside.",
            "ls -l {cadir}",
        ),
        Kind(
            "crl-from-another-ca",
            BLOCKER,
            "a CRL issued by the CA this host trusts",
            "A CA of this host's own overwrote the CRL, so agents are refused with 'alert "
            "certificate unknown'. Disable the CA service here, remove the CRL and fetch it anew.",
            "rm {hostcrl}; {puppet} ssl bootstrap --waitforcert 0",
        ),
        Kind(
            "restart-pending",
            WARNING,
            "services.d/ca.cfg as Puppet Server runs it",
            "The file was edited and Puppet Server not restarted since; a reload is not enough.",
            "systemctl restart puppetserver",
        ),
        Kind(
            "server-not-enabled",
            WARNING,
            "Puppet Server starts at boot",
            "Enable the service; Debian's package does not do it.",
            "systemctl enable puppetserver",
        ),
        Kind(
            "certificate-not-loaded",
            WARNING,
            "the certificate on disk is the one that is presented",
            "Puppet Server still presents an older certificate. Reload it.",
            "systemctl reload puppetserver",
            fixed_by="ca",
        ),
        # --- clocks, room ---
        Kind(
            "clock-skew",
            WARNING,
            "less than 30 s away from the CA's clock",
            "Let a time service keep the clock.",
            "timedatectl set-ntp true",
        ),
        Kind(
            "clock-wrong",
            BLOCKER,
            "less than 300 s away from the CA's clock",
            "Certificates and CRLs are judged by this clock. Set it before anything is signed.",
            "timedatectl set-ntp true",
        ),
        Kind(
            "disk-low",
            WARNING,
            "500 MiB and 5 % free",
            "Make room; reports and old packages are the usual candidates.",
            "df -h; du -xsh /var/* | sort -h | tail",
        ),
        Kind(
            "disk-full",
            BLOCKER,
            "50 MiB free, for backups and new files",
            "Make room before anything is written.",
            "df -h; du -xsh /var/* | sort -h | tail",
        ),
        Kind(
            "memory-low",
            WARNING,
            "2 GiB of memory for a Puppet Server",
            "Give the host more memory, or its Puppet Server a smaller heap and fewer instances.",
        ),
        # --- names ---
        Kind(
            "ca-name-unresolved",
            WARNING,
            "the CA's name leads to the CA's host",
            "The step 'ca' adds the name to the zone, or tells what to add.",
            "getent ahosts {name}",
            fixed_by="ca",
        ),
        Kind(
            "ca-name-elsewhere",
            BLOCKER,
            "the CA's name leads to the CA's host",
            "The name belongs to another machine. Choose another ca.name, or correct the zone or "
            "the hosts file.",
            "getent ahosts {name}",
        ),
        Kind(
            "server-name-unresolved",
            WARNING,
            "the name agents call leads somewhere",
            "Add the name to the zone, or correct puppet.server in the inventory.",
            "getent ahosts {name}",
        ),
        Kind(
            "own-name-unresolved",
            WARNING,
            "a server's certname leads to itself",
            "Others reach this server by its certname: add it to the zone.",
            "getent ahosts {name}",
        ),
        Kind(
            "reverse-differs",
            NOTE,
            "the address leads back to the certname",
            "Puppet works without it; tools and logs are easier to read with it.",
            "getent hosts {address}",
        ),
        Kind(
            "name-servers-differ",
            WARNING,
            "the same answer from every authoritative name server",
            "A secondary lags behind or a view differs: agents get either answer. Wait for the "
            "transfer, or correct the zone.",
        ),
        # --- TLS ---
        Kind(
            "ca-name-not-in-certificate",
            WARNING,
            "a certificate that carries the CA's name",
            "The step 'ca' issues the certificate anew with all names it has now and this one.",
            "openssl s_client -connect {host}:8140 </dev/null | "
            "openssl x509 -noout -ext subjectAltName",
            fixed_by="ca",
        ),
        Kind(
            "server-name-not-in-certificate",
            WARNING,
            "a certificate that carries the name agents call",
            "Agents that check the name refuse this server. It needs a certificate with the name; "
            "on the CA's host the step 'ca' puts it in when it issues the certificate anew.",
            "openssl s_client -connect {host}:8140 </dev/null | "
            "openssl x509 -noout -ext subjectAltName",
        ),
        Kind(
            "ca-unreachable",
            WARNING,
            "port 8140 of the CA's host is open from here",
            "Let the host reach the CA: firewall, routing, or Puppet Server is down.",
            "openssl s_client -connect {name}:8140 </dev/null",
        ),
        Kind(
            "another-ca-trusted",
            BLOCKER,
            "the certificate of the site's CA",
            "This host was enrolled with another CA. Remove its certificates and enrol it anew.",
            "{puppet} ssl clean --localca",
        ),
        # --- expiry ---
        Kind(
            "certificate-expires",
            WARNING,
            "90 days before the host's certificate ends",
            "Renew it in time.",
            "openssl x509 -in {hostcert} -noout -enddate",
        ),
        Kind(
            "certificate-expired",
            BLOCKER,
            "a host certificate that is valid",
            "Issue it anew: clean it on the CA and on the host, then enrol again.",
            "{puppet} ssl clean",
        ),
        Kind(
            "ca-certificate-expires",
            BLOCKER,
            "90 days before a certificate of the CA ends",
            "Extend the CA's certificate first; every other certificate ends with it.",
            "openssl x509 -in {cacert} -noout -enddate",
        ),
        Kind(
            "crl-expires",
            BLOCKER,
            "90 days before a CRL of the CA ends",
            "An expired CRL stops every agent. Puppet Server renews it from 8.4 on; before that "
            "revoking any certificate writes a new one for the issuing CA.",
            "openssl crl -in {cacrl} -noout -nextupdate",
        ),
        # --- the CA's state ---
        Kind(
            "ca-cli-refused",
            BLOCKER,
            "`puppetserver ca list` answers on the CA's host",
            "The host's certificate may not administer the CA: it lacks the extension pp_cli_auth. "
            "Issue it anew with --ca-client, or allow its certname in auth.conf.",
            "{puppetserver} ca list",
        ),
        Kind(
            "alt-names-allowed",
            WARNING,
            "allow-subject-alt-names false, except while a server's request is signed",
            "Any request may now ask for any name, the CA's included. Set it to false and reload.",
            "systemctl reload puppetserver",
        ),
        Kind(
            "autosign-with-alt-names",
            BLOCKER,
            "never autosign for all and alternative names at once",
            "Any machine that reaches the CA can obtain a certificate for the name agents call. "
            "Turn one of the two off now.",
            "{puppet} config print autosign --section server",
        ),
        Kind(
            "autosign-all",
            WARNING,
            "autosign off, by names, or by a policy program",
            "Every request is signed, so a certificate proves nothing.",
            "{puppet} config print autosign --section server",
        ),
        Kind(
            "duplicate-requests",
            WARNING,
            "no request for a name that has a certificate already",
            "A host lost its key, or somebody poses as it. Clean the certificate, or the request.",
            "{puppetserver} ca list --all",
        ),
        Kind(
            "requests-pending",
            NOTE,
            "nothing waits to be signed",
            "Compare fingerprints and sign them, or clean them.",
            "{puppetserver} ca list",
        ),
        Kind(
            "ca-write-broken-off",
            NOTE,
            "no temporary files in the CA's folder",
            "Puppet Server left them where it could not write, as on a full disk, and reads them "
            "no more. See that there is room, then take them away.",
            "rm -- {files}",
        ),
        Kind(
            "cadir-in-ssldir",
            NOTE,
            "the CA's directory beside, not inside, the ssldir",
            "Left from before Puppet 7; cleaning the ssldir would remove the CA. Migrate it in a "
            "quiet hour, with Puppet Server stopped.",
            "{puppetserver} ca migrate",
        ),
        Kind(
            "alt-names-with-spaces",
            WARNING,
            "no blanks in dns_alt_names",
            "`puppetserver ca` cuts the value at the first blank. Put only commas between names.",
            "{puppet} config print dns_alt_names --section server",
        ),
        # --- clients ---
        Kind(
            "ca-server-not-set",
            NOTE,
            "ca_server is the CA's own name",
            "The step 'ca' sets it.",
            "{puppet} config print ca_server --section agent",
            fixed_by="ca",
        ),
        Kind(
            "ca-server-overridden",
            NOTE,
            "ca_server in [main] only",
            "A section that overrides [main] names another CA; the step 'ca' takes it out.",
            "grep -n ca_server {config}",
            fixed_by="ca",
        ),
        Kind(
            "srv-overrides-ca",
            WARNING,
            "ca_server decides, as the inventory says",
            "use_srv_records is on, and SRV records beat ca_server. Publish _x-puppet-ca._tcp for "
            "the domain (ca.clients: srv), or switch use_srv_records off.",
            "{puppet} config print use_srv_records srv_domain --section agent",
        ),
        Kind(
            "server-list-captures-ca",
            NOTE,
            "ca_server set beside server_list",
            "Without ca_server the first server of server_list is asked for certificates; the step "
            "'ca' sets it.",
            "{puppet} config print server_list ca_server --section agent",
            fixed_by="ca",
        ),
        Kind(
            "puppet-conf-managed",
            BLOCKER,
            "a puppet.conf that nobody else writes, or that is right already",
            "Puppet itself manages this file, so the next agent run would take the change back. "
            "Put what the plan sets into that module first; for ca_server alone, ca.clients: "
            "module in the inventory does it for you.",
            "grep -Fx 'file[{config}]' {resources}",
        ),
        Kind(
            "puppet-conf-unreadable",
            BLOCKER,
            "a puppet.conf that can be edited without harm",
            "Correct the file by hand; the message says where.",
        ),
        Kind(
            "module-name-invalid",
            BLOCKER,
            "a directory with the name of a Puppet module: small letters, digits, '_'",
            "Correct ca.module.path in the inventory.",
        ),
        Kind(
            "agent-disabled",
            WARNING,
            "an agent that may run",
            "Somebody disabled this agent. The steps do not enable it; its last proof is skipped.",
            "{puppet} agent --enable",
        ),
        Kind(
            "agent-not-enrolled",
            NOTE,
            "a certificate of the CA",
            "It gets ca_server before its first run; enrol it after the step 'ca'.",
            "{puppet} ssl bootstrap --waitforcert 0",
        ),
        # --- compile masters ---
        Kind(
            "repository-lacks-version",
            BLOCKER,
            "the CA server's version of Puppet Server in the host's repositories",
            "Add the repository that the CA's server was installed from, or refresh the lists of "
            "packages. Two versions of Puppet Server compile two catalogs.",
            "apt-get update; apt-cache policy puppetserver openvox-server",
        ),
        Kind(
            "no-package-manager",
            BLOCKER,
            "apt, dnf or yum",
            "Puppet Server cannot be installed here by packages. Install it by hand, then look "
            "again: what is there is adopted.",
        ),
        Kind(
            "packages-half-installed",
            WARNING,
            "no installation that was broken off",
            "The step finishes it first, keeping the configuration that is there.",
            "dpkg --audit",
            fixed_by="compilers",
        ),
        Kind(
            "packages-locked",
            WARNING,
            "no other installation under way",
            "Another program installs packages on this host. The step waits five minutes for it.",
        ),
        Kind(
            "no-room-to-install",
            BLOCKER,
            "1 GiB free for the packages",
            "An installation that runs out of room leaves packages half unpacked. Make room first.",
            "df -h / /var; apt-get clean",
        ),
        Kind(
            "compiler-memory",
            BLOCKER,
            "the heap, and 512 MiB for the system",
            "Give the host more memory, or fewer JRuby instances (compile_masters: "
            "[{name: ..., jruby_instances: 1}]).",
            "free -m",
        ),
        Kind(
            "compiler-sizing",
            NOTE,
            "a heap that its JRuby instances fit into",
            "Nothing to do: this is how the step sizes it. Set heap and jruby_instances in the "
            "inventory to have it otherwise.",
        ),
        Kind(
            "compiler-name-unresolved",
            BLOCKER,
            "its certname leads to itself",
            "Agents and the CA's host reach this server by its certname. Add it to the zone, or "
            "correct the hosts file.",
            "getent ahosts {name}",
        ),
        Kind(
            "compiler-without-ca",
            BLOCKER,
            "the CA answers on its name",
            "It can neither ask for a certificate nor fetch a revocation list. Look at the "
            "firewall between the two, and at Puppet Server on the CA's host.",
            "openssl s_client -connect {name}:8140 </dev/null",
        ),
        Kind(
            "service-masked",
            BLOCKER,
            "a unit that can be started",
            "Somebody masked the service so that it does not start. Ask why, then unmask it.",
            "systemctl unmask {unit}",
        ),
        Kind(
            "port-taken",
            BLOCKER,
            "port 8140 free for Puppet Server",
            "Another program listens there; often a Puppet master under Passenger that was "
            "forgotten. Stop and disable it.",
            "ss -ltnp 'sport = :8140'",
        ),
        Kind(
            "tls-files-elsewhere",
            BLOCKER,
            "webserver.conf's ssl-* settings unset, or those of puppet.conf",
            "This server presents other files than the ones Puppet keeps and renews. Take the four "
            "settings out, or let puppet.conf name the same files.",
        ),
        Kind(
            "compiler-version-differs",
            BLOCKER,
            "the CA server's version of Puppet Server",
            "Two versions compile two catalogs. Upgrade the CA's host first, then this one.",
        ),
        Kind(
            "ca-conf-unreadable",
            BLOCKER,
            "a ca.conf in which the CA can be allowed to sign alternative names",
            "Correct conf.d/ca.conf on the CA's host; the message says what is wrong.",
        ),
        Kind(
            "crl-not-refreshed",
            BLOCKER,
            "Puppet 6.5 or newer, which can fetch a newer revocation list",
            "A revoked certificate would stay accepted here. Upgrade first.",
            "openssl crl -in {hostcrl} -noout -crlnumber -nextupdate",
        ),
        Kind(
            "rogue-ca",
            WARNING,
            "no CA but the site's",
            "This server was once started with the CA service on. The step keeps a copy of that CA "
            "and its revocation list, and takes both away.",
            fixed_by="compilers",
        ),
        Kind(
            "compiler-certificate",
            WARNING,
            "a certificate of the CA, with every name, for the key it has",
            "The step takes it away, with a copy kept, and asks for another one.",
            fixed_by="compilers",
        ),
        Kind(
            "autosign-in-window",
            BLOCKER,
            "no autosigning of these hosts, or of all, while alternative names may be signed",
            "While the CA allows alternative names, any machine could obtain a certificate for the "
            "name agents call; and a request that the CA would sign by itself is refused, without "
            "a word to the host. Switch autosigning off for the time of this step.",
            "{puppet} config print autosign --section server",
        ),
        Kind(
            "certname-shared",
            BLOCKER,
            "one host for one certname",
            "Two machines with one certname take each other's certificates away. Give each its own "
            "certname in puppet.conf.",
        ),
        Kind(
            "code-not-copied",
            WARNING,
            "code that is small enough to be copied, or there already",
            "Deploy the site's code to the compile masters by its own means before they start: a "
            "server without an environment compiles empty catalogs.",
        ),
        Kind(
            "still-serving",
            BLOCKER,
            "no agent that still gets its catalog from a server that is taken away",
            "Take it out of the load balancing, wait until its agents ran elsewhere (their "
            "runinterval, and the TTL of the names), then look again.",
            "tail /var/log/puppetserver/puppetserver-access.log",
        ),
        # --- PuppetDB and reports ---
        Kind(
            "puppetdb-repository",
            BLOCKER,
            "PuppetDB, its terminus and PostgreSQL in the host's repositories",
            "Add the repository that the CA's server was installed from, or refresh the lists of "
            "packages.",
            "apt-get update; apt-cache policy puppetdb openvoxdb puppet-terminus-puppetdb",
        ),
        Kind(
            "puppetdb-not-there",
            BLOCKER,
            "an existing PuppetDB, as the inventory says",
            "Correct puppetdb.host, or take puppetdb.existing out to have it installed.",
        ),
        Kind(
            "postgres-too-old",
            BLOCKER,
            "PostgreSQL 11 or newer",
            "PuppetDB does not start on it. Enable a newer one in the host's repositories, or name "
            "a database elsewhere (puppetdb.database.host).",
            "apt-cache policy postgresql; dnf module list postgresql",
        ),
        Kind(
            "puppetdb-memory",
            BLOCKER,
            "the heap, and 1 GiB for PostgreSQL and the system",
            "Give the host more memory, or PuppetDB a smaller heap (puppetdb.heap).",
            "free -m",
        ),
        Kind(
            "puppetdb-port-taken",
            BLOCKER,
            "PuppetDB's port free for it",
            "Another program listens there. Stop it, or give PuppetDB another port "
            "(puppetdb.port).",
            "ss -ltnp 'sport = :{port}'",
        ),
        Kind(
            "puppetdb-database-taken",
            BLOCKER,
            "a database role that is PuppetDB's, or none of that name",
            "Somebody made this role, and PuppetDB has no password of it. Refer to its password in "
            "the inventory (puppetdb.database.password), or name another role.",
            "runuser -u postgres -- psql -c '\\du'",
        ),
        Kind(
            "puppetdb-database-closed",
            WARNING,
            "a database that lets PuppetDB in",
            "Servers compile on; what they send waits in PuppetDB's queue. Start PostgreSQL, or "
            "open the way to it (pg_hba.conf, a firewall). A password that it refuses is set anew "
            "by the step: one made there, or the inventory's (puppetdb.database.password).",
            "journalctl -u puppetdb -n 50; systemctl status 'postgresql*'",
        ),
        Kind(
            "puppetdb-connections",
            WARNING,
            "connections for every PuppetDB, and some for others",
            "Each PuppetDB opens 25 to write and 25 to read (maximum-pool-size). With none left no "
            "backup and no psql gets in. Raise max_connections in postgresql.conf, and restart "
            "PostgreSQL.",
            "runuser -u postgres -- psql -c 'select usename, client_addr, count(*) from "
            "pg_stat_activity group by 1, 2'",
        ),
        Kind(
            "puppetdb-certificate",
            BLOCKER,
            "a certificate of the site's CA, for the host's name and the key it has",
            "PuppetDB would show it to every server, and none would accept it. Renew it: clean it "
            "at the CA, take it away here, and the step asks for a new one.",
            "puppet ssl clean",
        ),
        Kind(
            "puppetdb-plain-open",
            WARNING,
            "plain HTTP on loopback only",
            "Whoever reaches this port reads and writes without a certificate. The step leaves it, "
            "as something may depend on it: set host = localhost in jetty.ini once nothing does.",
        ),
        Kind(
            "puppetdb-two-lists",
            BLOCKER,
            "certificate-allowlist or certificate-whitelist, not both",
            "PuppetDB does not start with both. Move what is in the older list into the newer one, "
            "and take the older setting out.",
        ),
        Kind(
            "puppetdb-open-to-all",
            WARNING,
            "a list of the certificates that may ask",
            "Every certificate of the CA, any agent's, may read and write. The step makes no list "
            "here: nobody knows who else asks, and they would be locked out. Make one with all "
            "who do, then look again: the step keeps it complete.",
        ),
        Kind(
            "puppetdb-files-unreadable",
            BLOCKER,
            "configuration that can be edited without harm",
            "Correct the file by hand; the message says where.",
        ),
        Kind(
            "puppetdb-elsewhere",
            WARNING,
            "the PuppetDB of the inventory",
            "This server works with another PuppetDB today. What that one has stays there; agents "
            "bring facts and catalogs to the new one with their next run, reports of the past not.",
            fixed_by="puppetdb",
        ),
        Kind(
            "puppetdb-hard-failure",
            WARNING,
            "soft_write_failure = true",
            "While PuppetDB is away this server compiles no catalog, and its status says running.",
            fixed_by="puppetdb",
        ),
        Kind(
            "report-processor-unknown",
            WARNING,
            "report processors that the server has, or that a module of the site brings",
            "A name that nothing knows is only a warning in the server's log, and reports are "
            "lost. Correct reports.processors, unless a module has it.",
        ),
        Kind(
            "report-url-local",
            WARNING,
            "one report server for all",
            "Each server sends reports to itself. Set reports: {processors: [http], url: ...}.",
        ),
        Kind(
            "reports-kept",
            NOTE,
            "reports on one disk, and a limit to them",
            "With `store` this server keeps every report for ever: Debian's daily clean-up looks "
            "in another folder. Drop `store` once the reports are in PuppetDB, or prune them.",
            "find {folder} -name '*.yaml' -mtime +14 -delete",
        ),
        # --- code ---
        Kind(
            "code-repository-unreachable",
            BLOCKER,
            "a repository that every Puppet Server can read",
            "What its client said is above. Correct code.repository, or the way there.",
        ),
        Kind(
            "code-repository-host-key",
            BLOCKER,
            "the repository's host key in root's known_hosts on every Puppet Server",
            "Compare the key with what the repository's owner gave you, then add it; it is never "
            "accepted unseen.",
            "ssh-keyscan {name} | ssh-keygen -lf -",
        ),
        Kind(
            "code-repository-refused",
            BLOCKER,
            "a key that may read the repository, on every Puppet Server",
            "Put the deploy key there, readable by root alone, and name it as code.key.",
        ),
        Kind(
            "code-tool-missing",
            BLOCKER,
            "the strategy's program, or a repository of packages that has it",
            "Install it on this host, or add a repository of packages that has it.",
        ),
        Kind(
            "code-not-in-repository",
            WARNING,
            "every environment in the repository",
            "They are brought into it as they are on the model host, each as a branch of its own; "
            "what the repository has already is not touched.",
        ),
        Kind(
            "code-base-modules",
            WARNING,
            "all modules within environments",
            "Modules beside the environments are in no environment's branch, and stay as they are "
            "on each server: whether they are alike is checked. Put them into the environments or "
            "into a module of your Puppetfile.",
        ),
        Kind(
            "code-only-there",
            WARNING,
            "every environment on the model host, or in the repository",
            "The strategy does not bring these to anybody: their agents get *production* from the "
            "other servers. Bring them to the model host, or take them away.",
        ),
        Kind(
            "code-secrets-inside",
            BLOCKER,
            "private keys outside of what goes into a repository",
            "They are not put into the repository, and the checkout would be without them. Move "
            "them to a folder of their own (/etc/puppet/eyaml) on every server, 0400 for the "
            "user puppet, and let hiera.yaml name that.",
        ),
        Kind(
            "code-key-open",
            WARNING,
            "a private key that only the user puppet reads",
            "Take the others' right to read it.",
            "chmod 0400 {path}",
        ),
        Kind(
            "code-files-unreadable",
            BLOCKER,
            "auth.conf and puppet.conf that can be edited",
            "They are not changed as long as they cannot be read with certainty. Correct the line.",
        ),
        Kind(
            "environment-misnamed",
            WARNING,
            "names of environments with letters, digits and _ only",
            "Puppet cannot address these folders: no node gets their code. Rename them, or move "
            "them elsewhere.",
        ),
        Kind(
            "classifier-missing",
            BLOCKER,
            "the external node classifier on the model host",
            "The other servers get it from there. Put it there, or correct code.enc.",
        ),
        Kind(
            "r10k-unconfigured",
            BLOCKER,
            "a configuration of r10k on every Puppet Server",
            "Name the control repository as code.repository, and it is written; or bring yours.",
        ),
        Kind(
            "r10k-not-atomic",
            NOTE,
            "agents that never meet half-deployed code",
            "An agent that asks during a deployment may get a catalog from both revisions; its "
            "next run puts that right. The strategy git switches at once.",
        ),
        Kind(
            "code-not-atomic",
            NOTE,
            "agents that never meet half-brought code",
            "An agent that asks while code comes may get a catalog from both states; its next run "
            "puts that right. The strategy git switches at once.",
        ),
        Kind(
            "code-source-unreachable",
            BLOCKER,
            "the source's sshd, within reach of every other Puppet Server",
            "They pull their code from there: let them connect to it, or name another source.",
        ),
        Kind(
            "code-source-refuses",
            BLOCKER,
            "an sshd that lets the account puppet-code in, by its keys",
            "The account gets one command and no password. Allow it in sshd_config (AllowUsers, "
            "AllowGroups, or a block `Match User puppet-code`), and reload sshd.",
            "sshd -T -C user=puppet-code,host=localhost,addr=127.0.0.1",
        ),
        Kind(
            "code-source-unreadable",
            BLOCKER,
            "code on the source that the account puppet-code may read",
            "It is no member of Puppet's group, which may read private keys as well. Let everybody "
            "read the code, and keep secrets elsewhere.",
            "chmod o+rX {path}",
        ),
        Kind(
            "code-source-linked",
            BLOCKER,
            "environments on the source that are folders",
            "These are links to somewhere else, and only the environments' folder is lent: the "
            "others would get links that lead nowhere. Deploy into folders on the source, or use "
            "the strategy that deploys there for all servers.",
        ),
        Kind(
            "model-agent-hindered",
            BLOCKER,
            "agents of the other Puppet Servers that ask the model master, and do what it says",
            "With the strategy model-master the agent brings the code. Enable it, take noop away, "
            "or let `server` alone say whom it asks.",
            "puppet agent --enable",
        ),
        Kind(
            "model-agent-idle",
            WARNING,
            "an agent that runs by itself on every other Puppet Server",
            "This step brings the code; later changes come only when its agent runs. If cron runs "
            "it, all is well.",
            "systemctl enable --now puppet",
        ),
        Kind(
            "model-code-cached",
            WARNING,
            "servers that look at their code for each catalog",
            "This server keeps code in memory, and nobody tells it when its agent brought other. "
            "Take environment_timeout out of puppet.conf, or choose another strategy.",
        ),
        Kind(
            "model-deployed",
            WARNING,
            "our manifest in what is deployed to the model master",
            "It is written there, and the next deployment may take it away: put it into the "
            "repository as well.",
            "cat {path}",
        ),
        Kind(
            "model-no-manifest",
            BLOCKER,
            "a folder of manifests in the environment of the other servers' agents, and one "
            "environmentpath on all of them",
            "The manifest that distributes the code is a file of its own. Let `manifest` in "
            "environment.conf name a folder, or choose another strategy.",
        ),
        # --- load balancing ---
        Kind(
            "address-unknown",
            BLOCKER,
            "an address for what agents are to be sent to",
            "Neither the zone nor the host says what address it has. Give it one in the inventory: "
            "hosts: {NAME: {address: ...}}; of a device, load_balancing.address.",
        ),
        Kind(
            "agent-elsewhere",
            WARNING,
            "agents that call the name of their pool",
            "This agent calls another server and stays with it: it is not moved. Take the server "
            "out of its puppet.conf, or name it in a pool.",
            "{puppet} config print server --section agent",
        ),
        Kind("ca-share", NOTE, "a choice", "load_balancing.servers may name it, with a weight."),
        Kind("capacity", NOTE, "servers that can do the work", "Nothing to do."),
        Kind(
            "capacity-short",
            BLOCKER,
            "no more than 70 % of the pool's JRuby instances busy",
            "Agents would queue from the first hour on. Add compile masters, give them processors "
            "and memory (compile_masters: jruby_instances, heap), or let agents run less often.",
        ),
        Kind(
            "capacity-tight",
            WARNING,
            "a pool that can do the work with its largest server down",
            "With one server away agents would queue. Add another, or accept it.",
        ),
        Kind(
            "weights-unlike-size",
            NOTE,
            "agents in proportion to what each server can do",
            "Servers of another size are busy at other times. Give them these weights under "
            "load_balancing, or leave it so: the smallest one decides what the pool can bear.",
        ),
        Kind(
            "no-drill",
            NOTE,
            "a server that is stopped once, to see that agents run on",
            "It is not known whether agents do without a server: whoever reads the report should "
            "know that. load_balancing: {drill: true} tries it.",
        ),
        Kind(
            "headers-believed",
            BLOCKER,
            "a Puppet Server that knows agents by their certificates",
            "It believes headers about who asks, and agents reach it themselves: whoever sends two "
            "of them gets any node's catalog. Take allow-header-cert-info out of auth.conf, reload "
            "Puppet Server, and look again; with strategy: tls-proxy this step sets it, safely.",
        ),
        Kind(
            "new-machines",
            NOTE,
            "ca_server in what sets machines up",
            "A machine that is set up anew and knows nothing but that name asks a compile master "
            "for its certificate, and gets 404. Put ca_server into the image, kickstart or module "
            "that sets machines up.",
        ),
        Kind(
            "ca-asked-here",
            WARNING,
            "nobody who takes a compile master for the CA",
            "Within a day these asked here for a certificate and got 404: machines that do not "
            "know the CA's name, set up anew or not in the inventory. Behind a proxy its own "
            "address shows; the proxy's log has theirs.",
            "puppet config set ca_server {name} --section main   # on such a machine",
        ),
        Kind(
            "health-check-shallow",
            NOTE,
            "to be known: what the balancer's health check sees",
            "The status says that a Java program runs; it says so without any code and with "
            "PuppetDB down, too. `pmrunbook verify` asks for real catalogs: run it by a timer.",
        ),
        Kind(
            "member-ipv6-only",
            WARNING,
            "an address of both families for every server of a pool",
            "Agents without IPv6 cannot reach it. Give it an IPv4 address, or put a proxy before "
            "the pool.",
        ),
        Kind(
            "member-name-missing",
            BLOCKER,
            "the name agents call in the certificate of every server of their pool",
            "Agents would refuse it. The step `compilers` issues the certificate anew, with every "
            "name of the inventory; of another server, do that by hand.",
            "pmrunbook --step compilers",
        ),
        Kind(
            "name-in-hosts-file",
            WARNING,
            "agents that ask the name server",
            "This host's own hosts file has the name: it goes on to call what stands there, "
            "whatever the zone says. Take the line out.",
            "grep -n puppet /etc/hosts",
        ),
        Kind(
            "name-is-alias",
            BLOCKER,
            "a name with addresses of its own",
            "An alias (CNAME) can lead to one name only. Replace it in the zone by the addresses "
            "it leads to now, with the same TTL: nothing changes for agents. Then look again.",
        ),
        Kind(
            "name-is-short",
            WARNING,
            "a full name, or dns.domain",
            "Which zone the name stands in is a guess. Give puppet.server with its domain.",
        ),
        Kind(
            "name-server-silent",
            BLOCKER,
            "an answer from the name server that is updated",
            "Nothing is planned on what was not seen. Look at the name server, then look again.",
            "dig @{server} SOA",
        ),
        Kind(
            "pool-empty",
            BLOCKER,
            "a server with a weight in every pool",
            "No agent of it could be served. Give a weight to one of its servers.",
        ),
        Kind(
            "proxy-ca-member",
            BLOCKER,
            "a pool without the CA's server where a proxy ends TLS",
            "Behind such a proxy a server believes what it says of clients, and the CA signs and "
            "revokes by who asks. Take it out of load_balancing.servers, or use tcp-proxy.",
        ),
        Kind(
            "proxy-down",
            BLOCKER,
            "a proxy that runs, before any agent is sent to it",
            "The step `balancer` starts it, and looks at every server behind it.",
            "pmrunbook --step balancer",
        ),
        Kind(
            "proxy-in-use",
            BLOCKER,
            "a proxy with no other use, or none yet",
            "Its configuration would be replaced, and what it balances now would stop. Name "
            "another host, or balance this pool there by hand with strategy: hardware.",
        ),
        Kind(
            "proxy-one-pool",
            BLOCKER,
            "one pool behind one proxy or device",
            "Sites with pools of their own need one each. Use strategy: srv, or one inventory "
            "for each site.",
        ),
        Kind(
            "pools-one-name",
            BLOCKER,
            "a name for each pool",
            "One name leads all who call it to the same servers. Give each site a `server` of its "
            "own under load_balancing.sites, or use strategy: srv.",
        ),
        Kind(
            "proxy-package-missing",
            BLOCKER,
            "HAProxy in the repositories of the proxy's host",
            "Add the repository that has it, then look again.",
        ),
        Kind(
            "proxy-port-taken",
            BLOCKER,
            "port 8140 free on the proxy's host",
            "The proxy listens where agents ask. Stop the other program, or name another host.",
            "ss -Hltnp 'sport = :8140'",
        ),
        Kind(
            "round-robin-blind",
            WARNING,
            "to be known: names have no health",
            "A server that is dead costs every agent that tries its address up to two minutes, and "
            "resolvers sort addresses as they like. A proxy knows better.",
        ),
        Kind(
            "server-plain-open",
            BLOCKER,
            "no plain HTTP port of a Puppet Server that is to believe headers",
            "Whoever reaches that port gets any node's catalog. Take `host` and `port` out of "
            "webserver.conf, reload Puppet Server, and look again.",
        ),
        Kind(
            "srv-pitfalls",
            WARNING,
            "to be known: what SRV records cost",
            "Each run looks up several names, and waits as long as the name server likes. They "
            "beat `server`, `server_list` and `ca_server`; an agent goes on to the next record "
            "only when it cannot connect, not on an error 500 or 503. `server` stays, for when "
            "all fail.",
        ),
        Kind(
            "srv-leads-elsewhere",
            WARNING,
            "reports and files asked for where catalogs are",
            "Agents that use SRV records follow this one for what it names, wherever catalogs come "
            "from. Take it out of the zone, or let it be the pool's.",
        ),
        Kind(
            "srv-without-ca",
            BLOCKER,
            "ca: {clients: srv}, so that _x-puppet-ca is published first",
            "Agents with SRV records ignore ca_server: without a record of the CA they ask a "
            "compile master for certificates.",
        ),
        Kind(
            "static-servers",
            WARNING,
            "no server_list in an agent's puppet.conf",
            "A list beats the name agents call (and is beaten by SRV records): this agent does not "
            "go the new way by its name. Take the list out.",
            "{puppet} config print server_list --section agent",
        ),
        Kind(
            "ttl-long",
            WARNING,
            "a TTL of an hour or less before agents are moved",
            "Resolvers may keep the old answer for that long after the cut-over: these agents go "
            "on to call the old server, which has to stay up. Lower the TTL to a minute by hand, "
            "one old TTL before.",
        ),
        Kind(
            "weight-zero",
            WARNING,
            "a weight for every server that is to work",
            "It is in the pool and gets nothing. Give it a weight, or take it out.",
        ),
        Kind(
            "name-not-covered",
            WARNING,
            "every name that agents call in the compile masters' certificates",
            "Agents that call this name would refuse the compile masters. Add it to "
            "puppet.dns_alt_names, or let those agents call another one.",
        ),
    )
}


def found(kind: str, host: str, observed: str, /, **values: str) -> Finding:
    """A finding of that kind; KeyError for a kind, or a value of its texts, that is not there."""
    known = KINDS[kind]
    return Finding(
        id=known.id,
        severity=known.severity,
        host=host,
        observed=observed,
        expected=known.expected,
        remedy=known.remedy,
        command=known.command.format(**values) if values else known.command,
        fixed_by=known.fixed_by,
    )


def reference() -> str:
    """The reference page of all findings, as Markdown."""
    lines = [
        "# Findings",
        "",
        "What the survey may find, generated from `steps/catalogue.py`. A blocker holds every",
        "change until it is gone or waived in the inventory (`waivers`: finding, host, reason,",
        "expires). A finding that a step puts right does not hold that step.",
        "",
    ]
    for kind in KINDS.values():
        lines += [f"## {kind.id}", "", f"*{kind.severity.value}*. Expected: {kind.expected}.", ""]
        lines += [kind.remedy, ""]
        if kind.command:
            lines += ["```sh", kind.command, "```", ""]
        if kind.fixed_by:
            lines += [f"Put right by the step `{kind.fixed_by}`.", ""]
    return "\n".join(lines).rstrip() + "\n"
