"""SSH: hosts.py for what the engine asks of a host; the way there is in dial, route and hostkeys.

`frame` and `spool` are pure: what is sent to a host, and how its answer is read.
"""

from runbook.ssh.hosts import HostReader, Hosts, HostWriter, HostWriters

__all__ = ["HostReader", "HostWriter", "HostWriters", "Hosts"]
