# Whether the agent may run, runs, has run, and whether Puppet itself writes its puppet.conf.
[ -n "$PC_puppet" ] || exit 0
if [ -f "$PS_agent_disabled_lockfile" ]; then
    printf 'disabled=%s\n' "$(sed -n 's/.*"disabled_message" *: *"\(.*\)".*/\1/p' "$PS_agent_disabled_lockfile" | head -c 300)"
fi
if [ -f "$PS_agent_catalog_run_lockfile" ]; then
    p=$(head -c 20 "$PS_agent_catalog_run_lockfile" | tr -dc 0-9)
    [ -n "$p" ] && [ -d "/proc/$p" ] && printf 'running=%s\n' "$p"
fi
if [ -f "$PS_lastrunfile" ]; then
    sed -n 's/^ *last_run: *\([0-9]*\).*/last_run=\1/p' "$PS_lastrunfile" | head -n 1
fi
if [ -f "$PS_resourcefile" ]; then
    for f in "$PS_config" "$(readlink -f "$PS_config")"; do
        grep -qFx "file[$f]" "$PS_resourcefile" && printf 'manages=%s\n' "$f"
    done | sort -u
fi
[ -f "$PS_hostcert" ] && echo 'enrolled=yes'
:
