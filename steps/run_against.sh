# One no-op run of this host's own agent against one server by name; a run under way is waited for.
# Set before: puppet, lockfile, member, port, ca_name, ca_port, issuer, stamp.
set -u
waited=0
while :; do
    p=$(head -c 20 "$lockfile" 2>/dev/null | tr -dc 0-9)
    if [ -z "$p" ] || [ ! -d "/proc/$p" ]; then
        # server_list beats server, SRV beats both, and it would take the CA and reports along.
        said=$("$puppet" agent --test --noop --color=false --no-use_srv_records \
            --server_list "$member:$port" --server "$member" --ca_server "$ca_name" \
            --ca_port "$ca_port" --report_server "$member" --no-usecacheonfailure </dev/null 2>&1)
        code=$?
        case "$code $said" in
        '1 '*'already in progress'*) ;;
        *) break ;;
        esac
    fi
    [ "$waited" -lt 600 ] || { echo 'an agent run has been under way for ten minutes' >&2; exit 1; }
    sleep 5
    waited=$((waited + 5))
done
printf '%s\n' "$said" | tail -n 40
case $code in
0 | 2) ;;
*) printf 'Error: the agent run against %s ended with %s\n' "$member" "$code" >&2; exit "$code" ;;
esac
umask 077
mkdir -p -m 0700 -- /var/lib/pmrunbook/proofs &&
    printf 'name=%s\nca=%s\nserial=%s\n' "$ca_name" "$issuer" "$stamp" >/var/lib/pmrunbook/proofs/.run &&
    mv -f -- /var/lib/pmrunbook/proofs/.run "/var/lib/pmrunbook/proofs/run-$member"
