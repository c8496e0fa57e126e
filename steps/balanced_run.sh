# No-op runs of this host's own agent, the way every run of it goes. Set before: the functions of
# agent_run.sh; times; more, further arguments; proof, its lines.
set -u
began=$(date +%s)
n=0
while [ "$n" -lt "$times" ]; do
    # shellcheck disable=SC2086  # a list of words
    agent_run --no-usecacheonfailure $more
    n=$((n + 1))
done
[ -z "$proof" ] || record "$proof" "$lines
began=$began"
