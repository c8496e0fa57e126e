# One no-op run of this host's own agent. Set before: the functions of agent_run.sh, ca_name, issuer.
set -u
agent_run
record ca-agent "name=$ca_name
ca=$issuer"
