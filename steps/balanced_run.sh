# No-op runs of this host's own agent, the way every run of it goes. Set before: the functions of
# agent_run.sh; times; proof, its lines.
set -u
n=0
while [ "$n" -lt "$times" ]; do
    agent_run --no-usecacheonfailure
    n=$((n + 1))
done
[ -z "$proof" ] || record "$proof" "$lines"
