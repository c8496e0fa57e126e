# A proxy that ends TLS takes over the port of this host's own Puppet Server, which listens on
# loopback alone from then on. Set before: the functions of serving.sh and what they need; inner, the
# port on loopback.
set -u
moved() { # whether Puppet Server has gone inside
    [ -n "$(ss -Hltn "src 127.0.0.1 and sport = :$inner")" ] &&
        ! ss -Hltnp "sport = :$port" | grep -q '"java"'
}
failed() {
    printf 'Error: %s; pmrunbook undo balancer brings it back\n' "$1" >&2
    exit 1
}
take_over() { # reload | start | '': what Puppet Server needs; start | reload: what HAProxy needs
    if [ -n "$1" ]; then
        systemctl "$1" puppetserver || failed "Puppet Server does not $1"
    fi
    waited=0
    until moved; do
        systemctl is-active --quiet puppetserver || failed 'Puppet Server ended: see its log'
        [ "$waited" -lt 180 ] || failed "Puppet Server does not listen on 127.0.0.1:$inner"
        sleep 1
        waited=$((waited + 1))
    done
    printf 'Puppet Server listens on 127.0.0.1:%s after %s s\n' "$inner" "$waited"
    haproxy -c -q -f /etc/haproxy/haproxy.cfg || failed 'HAProxy refuses its configuration'
    systemctl enable --quiet haproxy && systemctl "$2" haproxy || {
        journalctl -u haproxy -n 20 --no-pager -o cat >&2
        failed "HAProxy does not $2"
    }
    wait_ready || failed "nothing serves at port $port"
}
give_back() { # Puppet Server follows when its files are as they were
    systemctl disable --now --quiet haproxy
}
