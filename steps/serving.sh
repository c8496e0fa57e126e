# Starting and stopping Puppet Server, and knowing when it serves; ruby, certname and port are set.
since=$(date +%s) # systemctl may itself wait until it serves: what is told is counted from here
# systemctl's word is not enough: Debian's unit can fail at its first start, the vendor's returns
# before the port is open where its own wait times out.
look() { # what is presented: prints its SHA-256 fingerprint; fails unless the server says running
    timeout 20 "$ruby" --disable-gems -ropenssl -rsocket -e '
      name, port = ARGV
      context = OpenSSL::SSL::SSLContext.new
      context.verify_mode = OpenSSL::SSL::VERIFY_NONE
      tcp = Socket.tcp(name, port.to_i, connect_timeout: 5)
      ssl = OpenSSL::SSL::SSLSocket.new(tcp, context)
      ssl.hostname = name
      ssl.connect
      ssl.write("GET /status/v1/simple HTTP/1.0\r\nHost: #{name}\r\n\r\n")
      exit 1 unless ssl.read.to_s.start_with?("HTTP/1.1 200", "HTTP/1.0 200")
      der = ssl.peer_cert.to_der
      puts OpenSSL::Digest.new("SHA256", der).hexdigest.upcase.scan(/../).join(":")
    ' "$certname" "$port" 2>/dev/null
}
wait_ready() { # at most 300 s, and no longer than the service lives
    waited=0
    while ! look >/dev/null; do
        case $(systemctl is-active puppetserver) in
        active | activating | reloading) ;;
        *) printf 'Puppet Server is %s\n' "$(systemctl is-active puppetserver)" >&2; return 1 ;;
        esac
        [ "$waited" -lt 300 ] || { echo 'Puppet Server does not answer after 300 s' >&2; return 1; }
        sleep 2
        waited=$((waited + 2))
    done
    printf 'Puppet Server serves after %s s\n' "$(($(date +%s) - since))"
}
start_server() {
    echo 'starting Puppet Server'
    asked=$(date +%s)
    systemctl start puppetserver || start_again || return 1
    wait_ready
}
start_again() { # what failed at once may be the unit's own doing
    [ "$(($(date +%s) - asked))" -lt 10 ] && sleep 2 && systemctl start puppetserver
}
stop_server() {
    echo 'stopping Puppet Server'
    since=$(date +%s)
    systemctl stop puppetserver || return 1
    case $(systemctl is-active puppetserver) in
    inactive | failed) ;;
    *) echo 'Puppet Server does not stop' >&2; return 1 ;;
    esac
}
