# HAProxy is told to use its files: a configuration it refuses is never put in its place.
# Set before: members, the names of the servers that have to be up; the functions of proxy_ask.sh.
set -u
accepted() { # file: whether HAProxy would start with it
    haproxy -c -f "$1" && return 0
    echo 'Error: HAProxy refuses the new configuration; the old one stays in use' >&2
    exit 1
}
down() { # those of `members` that are not up
    haproxy_servers status | awk -v wanted="$members" '
        BEGIN {n = split(wanted, names, " "); for (i = 1; i <= n; i++) left[names[i]] = 1}
        $2 == "UP" {delete left[$1]}
        END {for (name in left) print name}' | sort
}
wait_up() { # seconds
    waited=0
    while left=$(down) && [ -n "$left" ]; do
        if [ "$waited" -ge "$1" ]; then
            printf 'Error: not up for the proxy: %s\n' "$(echo $left)" >&2
            ask_haproxy 'show stat' | cut -d, -f1,2,18,37,57 | grep '^compilers' >&2
            return 1
        fi
        sleep 2
        waited=$((waited + 2))
    done
    printf 'the proxy sees all servers up after %s s\n' "$waited"
}
settled() { # each of `members` gets its whole share, of every agent
    wait_up 60 || return 1
    # For 30 s after it came up a server gets less: haproxy.cfg, slowstart.
    fresh=$(ask_haproxy 'show stat' | awk -F, -v wanted="$members" '
        BEGIN {n = split(wanted, names, " "); for (i = 1; i <= n; i++) ours[names[i]] = 1; least = 32}
        /^#/ {sub(/^# /, ""); for (i = 1; i <= NF; i++) at[$i] = i; next}
        $at["pxname"] == "compilers" && $at["svname"] in ours && $at["lastchg"] < least {least = $at["lastchg"]}
        END {print 32 - least}')
    sleep "$fresh"
    ask_haproxy 'clear table compilers'
}
quiet() { # seconds: so long nobody came. Resolvers may know its address longer than the zone does
    waited=0
    while idle=$(ask_haproxy 'show stat' | awk -F, '
            /^#/ {sub(/^# /, ""); for (i = 1; i <= NF; i++) at[$i] = i; next}
            $at["pxname"] == "compilers" && $at["svname"] == "BACKEND" {print $at["lastsess"]}') &&
        [ "${idle:--1}" -ge 0 ] && [ "$idle" -lt "$1" ]; do
        if [ "$waited" -ge $((2 * $1)) ]; then
            echo 'Error: agents still come through this proxy; it stays. Their addresses:' >&2
            ask_haproxy 'show table compilers' | sed -n 's/.*key=\([^ ]*\).*/\1/p' | head -n 20 >&2
            return 1
        fi
        [ $((waited % 30)) != 0 ] || printf 'an agent came %s s ago: waiting until it was %s\n' "$idle" "$1"
        sleep 5
        waited=$((waited + 5))
    done
}
serve() { # start | reload
    accepted /etc/haproxy/haproxy.cfg
    systemctl "$1" haproxy || { journalctl -u haproxy -n 20 --no-pager -o cat >&2; exit 1; }
    [ "$(systemctl is-active haproxy)" = active ] || { echo 'Error: HAProxy does not run' >&2; exit 1; }
    wait_up 60
}
