# One no-op run of this host's own agent against one server by name. Set before: the functions of
# agent_run.sh, member, port, ca_name, ca_port, issuer, serial, record.
set -u
agent_run_against "$member" "$port" "$ca_name" "$ca_port"
record "$record" "name=$ca_name
ca=$issuer
serial=$serial"
