# The CRL drill, from the CA's host: a throw-away certificate that every compile master accepts, and
# refuses once it is revoked. Set before: puppet, puppetserver, ruby, legacy, drill (its certname),
# ssldir, signeddir, csrdir, cacrl, localcacert, issuer, ca_name; dir where it is another; for a member: member, port, serial, record.
set -u
umask 077
dir=${dir:-/var/lib/pmrunbook/drill}
issue() {
    if [ ! -f "$dir/cert.pem" ]; then
        mkdir -p -m 0700 -- "$dir" || exit 1
        # Its first words are an error: that the name is not there yet.
        said=$(if [ "$legacy" = yes ]; then
            "$puppet" cert generate "$drill"
        elif [ ! -f "$signeddir/$drill.pem" ]; then
            "$puppetserver" ca generate --certname "$drill"
        fi 2>&1) || { printf '%s\n' "$said" >&2; exit 1; }
        # The CLI leaves its files in this host's own ssldir.
        mv -f -- "$ssldir/private_keys/$drill.pem" "$dir/key.pem" &&
            rm -f -- "$ssldir/certs/$drill.pem" "$ssldir/public_keys/$drill.pem" &&
            cp -- "$signeddir/$drill.pem" "$dir/.cert.pem" && mv -- "$dir/.cert.pem" "$dir/cert.pem" ||
            exit 1
    fi
    echo "issued: $drill"
}
try() { # seconds: prints the status of an authenticated question, or why the handshake failed
    timeout "$1" "$ruby" --disable-gems -ropenssl -rsocket -e '
      name, port, cert, key, bundle = ARGV
      context = OpenSSL::SSL::SSLContext.new
      context.verify_mode = OpenSSL::SSL::VERIFY_PEER
      context.ca_file = bundle
      context.cert = OpenSSL::X509::Certificate.new(File.binread(cert))
      context.key = OpenSSL::PKey.read(File.binread(key))
      begin
        tcp = Socket.tcp(name, port.to_i, connect_timeout: 5)
      rescue SystemCallError, SocketError => e
        puts "no connection: #{e.message}"
        exit
      end
      begin
        ssl = OpenSSL::SSL::SSLSocket.new(tcp, context)
        ssl.hostname = name
        ssl.connect
        ssl.post_connection_check(name)
        # With TLS 1.3 the refusal comes with the first answer.
        ssl.write("GET /puppet/v3/environments HTTP/1.0\r\nHost: #{name}\r\n\r\n")
        puts ssl.read.to_s[/\AHTTP\S+ (\d+)/, 1] || "closed without an answer"
      rescue OpenSSL::SSL::SSLError, SystemCallError, EOFError => e
        puts "refused: #{e.message}"
      end
    ' "$member" "$port" "$dir/cert.pem" "$dir/key.pem" "$localcacert" || echo "no answer in $1 s"
}
accepted() { # it waits for its turn behind the catalogs that are compiled there
    said=$(try 180)
    printf '%s says %s\n' "$member" "$said"
    [ "$said" = 200 ] || { echo "Error: $member does not accept a certificate of the CA: $said" >&2; exit 1; }
    : >"$dir/accepted-$member"
}
revoke() {
    if [ "$legacy" = yes ]; then
        "$puppet" cert revoke "$drill"
    else
        "$puppetserver" ca revoke --certname "$drill"
    fi
}
refused() { # patient: the server reads a new CRL by itself, within seconds
    waited=0
    while :; do
        said=$(try 30)
        case $said in # not any broken connection: the server's own word on the certificate
        refused:*alert*certificate*) break ;;
        esac
        if [ "$waited" -ge 60 ]; then
            printf 'Error: %s still answers a revoked certificate: %s; where it fetched the list, its %s\n' \
                "$member" "$said" 'Puppet Server did not see that: restart it there' >&2
            exit 1
        fi
        sleep 3
        waited=$((waited + 3))
    done
    printf '%s refuses it after %s s: %s\n' "$member" "$waited" "$said"
    mkdir -p -m 0700 -- /var/lib/pmrunbook/proofs &&
        printf 'name=%s\nca=%s\nserial=%s\n' "$ca_name" "$issuer" "$serial" \
            >"/var/lib/pmrunbook/proofs/.$record" &&
        mv -f -- "/var/lib/pmrunbook/proofs/.$record" "/var/lib/pmrunbook/proofs/$record"
}
end_drill() { # what is gone already is no failure
    if [ -f "$signeddir/$drill.pem" ] || [ -f "$csrdir/$drill.pem" ]; then
        if [ "$legacy" = yes ]; then "$puppet" cert clean "$drill"; else "$puppetserver" ca clean --certname "$drill"; fi
        if [ -f "$signeddir/$drill.pem" ]; then echo "the CA still has $drill" >&2; exit 1; fi
    fi
    rm -f -- "$ssldir/private_keys/$drill.pem" "$ssldir/certs/$drill.pem" "$ssldir/public_keys/$drill.pem"
    rm -rf -- "$dir"
    echo "nothing is left of $drill"
}
