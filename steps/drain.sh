# A server behind HAProxy gets no new agents while its Puppet Server is away.
# Set before: server, its name in the proxy; the functions of proxy_ask.sh.
# What we drain is marked, and the mark lasts no longer than what it tells of: whom somebody else
# drained is left alone.
set -u
marks=/run/pmrunbook-drained
servers() { haproxy_servers scur sid status; }
of() { # name: connections, number and status of this one
    servers | awk -v name="$1" '$1 == name {print $2, $3, $4}'
}
told() { # name, state: HAProxy says nothing where it does as it is told
    ask_haproxy "set server compilers/$1 state $2" | grep . >&2 && return 1
    case $(of "$1") in
    *' DRAIN'*) [ "$2" = drain ] ;;
    ?*) [ "$2" = ready ] ;;
    *) false ;;
    esac || { printf 'Error: HAProxy does not set %s to %s\n' "$1" "$2" >&2; return 1; }
}
fill() { # name: it gets agents again, where it was us who kept them away
    [ -e "$marks/$1" ] || { printf '%s was not drained by us: left as it is\n' "$1"; return 0; }
    if [ -S /run/haproxy/admin.sock ]; then
        told "$1" ready || return 1
    fi
    rm -f -- "$marks/$1"
}
well() { # the proxy finds it well
    waited=0
    until case $(of "$server") in *' UP'*) true ;; *) false ;; esac; do
        if [ "$waited" -ge 60 ]; then
            printf 'Error: not up for the proxy: %s\n' "$(servers | grep "^$server ")" >&2
            return 1
        fi
        sleep 2
        waited=$((waited + 2))
    done
    printf '%s gets agents again\n' "$server"
}
others() { servers | awk -v ours="$server" '$1 != ours && $4 ~ /^UP/ {print $1}'; }
drain() {
    [ -S /run/haproxy/admin.sock ] || { echo 'HAProxy does not run: there is nothing to drain'; return 0; }
    for mark in "$marks"/*; do # of a run that broke off
        [ ! -e "$mark" ] || [ "${mark##*/}" = "$server" ] || fill "${mark##*/}" || return 1
    done
    waited=0
    until [ -n "$(others)" ]; do
        if [ "$waited" -ge 60 ]; then
            printf 'no other server is up: %s is not drained, agents meet its outage\n' "$server"
            return 0
        fi
        sleep 2
        waited=$((waited + 2))
    done
    case $(of "$server") in
    *' UP'*) ;;
    *)
        if [ ! -e "$marks/$server" ]; then
            printf 'no agent is sent there anyway: %s\n' "$(servers | grep "^$server ")"
            return 0
        fi ;;
    esac
    mkdir -p -m 0700 "$marks" && : >"$marks/$server" || return 1
    told "$server" drain || return 1
    # Who was there in the last two minutes would go on to come: a drained server keeps its own.
    number=$(of "$server" | cut -d ' ' -f 2)
    ask_haproxy "clear table compilers data.server_id eq $number" | grep . >&2
    waited=0
    while open=$(of "$server" | cut -d ' ' -f 1) && [ "${open:-0}" -gt 0 ]; do
        if [ "$waited" -ge 600 ]; then # Puppet's http_read_timeout: nobody waits any longer
            printf 'connections to %s still open after 600 s: %s; going on\n' "$server" "$open"
            return 0
        fi
        [ $((waited % 30)) != 0 ] || printf 'connections to %s still open: %s\n' "$server" "$open"
        sleep 2
        waited=$((waited + 2))
    done
    printf '%s is drained, for %s\n' "$server" "$(echo $(others))"
}
