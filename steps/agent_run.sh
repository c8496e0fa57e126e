# One run of this host's own agent, no-op unless `mode` says otherwise; a run under way is waited for,
# at most ten minutes. Set before: puppet, lockfile. Leaves the exit status in `code` and the output in `said`.
agent_run() { # further arguments of the agent
    waited=0
    while :; do
        p=$(head -c 20 "$lockfile" 2>/dev/null | tr -dc 0-9)
        if [ -z "$p" ] || [ ! -d "/proc/$p" ]; then
            said=$("$puppet" agent --test "${mode:---noop}" --color=false "$@" </dev/null 2>&1)
            code=$?
            # Somebody may have started another run between the look and ours.
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
    *) printf 'Error: the agent run ended with %s\n' "$code" >&2; exit "$code" ;;
    esac
}
agent_run_against() { # server, port, CA's name, CA's port
    # server_list beats server, SRV beats both, and it would take the CA and reports along.
    agent_run --no-use_srv_records --server_list "$1:$2" --server "$1" --ca_server "$3" \
        --ca_port "$4" --report_server "$1" --no-usecacheonfailure
}
record() { # name of the proof, its lines
    umask 077
    mkdir -p -m 0700 -- /var/lib/pmrunbook/proofs &&
        printf '%s\n' "$2" >/var/lib/pmrunbook/proofs/.run &&
        mv -f -- /var/lib/pmrunbook/proofs/.run "/var/lib/pmrunbook/proofs/$1" || exit 1
}
