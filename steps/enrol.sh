# A brand-new agent in a folder of its own: it shares nothing with this host's agent but the program.
# Set before: puppet, ruby, legacy, probe, main (its [main] section), issuer, ca_name; record, the name of
# the proof, and way, what else it holds for; serves, whether its server is to be asked as well.
set -u
umask 077
dir=/var/lib/pmrunbook/probe
bootstrap() { # once: ask for a certificate, or fetch it
    if [ "$legacy" = yes ]; then
        timeout 120 "$puppet" agent --test --noop --waitforcert 0 --color=false --confdir "$dir/conf"
    else
        timeout 120 "$puppet" ssl bootstrap --waitforcert 0 --color=false --confdir "$dir/conf"
    fi </dev/null 2>&1
}
request() {
    rm -rf -- "$dir"
    mkdir -p -m 0700 -- "$dir/conf" || exit 1
    printf '[main]\n%s\n' "$main" >"$dir/conf/puppet.conf" || exit 1
    said=$(bootstrap)
    code=$?
    printf '%s\n' "$said"
    if [ -f "$dir/ssl/certs/$probe.pem" ]; then
        echo 'the CA signed it by itself (autosign)'
    elif [ ! -f "$dir/ssl/certificate_requests/$probe.pem" ]; then
        [ "$code" -ne 0 ] || code=1
        exit "$code"
    fi
}
fetch() {
    said=$(bootstrap)
    code=$?
    printf '%s\n' "$said"
    # An agent of Puppet 5 goes on to its server, which is nowhere: the certificate is what counts.
    [ "$code" -eq 0 ] || [ "$legacy" = yes ] || exit "$code"
    [ "$legacy" = yes ] || timeout 60 "$puppet" ssl verify --color=false --confdir "$dir/conf" </dev/null || exit 1
    "$ruby" --disable-gems -ropenssl -e '
      certificate, bundle, expected = ARGV
      certificate = OpenSSL::X509::Certificate.new(File.binread(certificate))
      first = OpenSSL::X509::Certificate.new(File.binread(bundle))
      seen = OpenSSL::Digest.new("SHA256", first.to_der).hexdigest.upcase.scan(/../).join(":")
      unless seen == expected
        warn "fetched the CA certificate #{seen}, the CA has #{expected}"
        exit 4
      end
      abort "the CA did not issue it" unless certificate.verify(first.public_key)
    ' "$dir/ssl/certs/$probe.pem" "$dir/ssl/certs/ca.pem" "$issuer" || exit
    if [ "$serves" = yes ]; then
        # Plugins come from where catalogs come from, and need no definition of the node.
        said=$(timeout 120 "$puppet" plugin download --color=false --confdir "$dir/conf" </dev/null 2>&1)
        code=$?
        printf '%s\n' "$said" | tail -n 5
        case "$code $said" in
        0*Error:* | [!0]*) echo 'Error: its server did not serve the new agent' >&2; exit 1 ;;
        esac
    fi
    mkdir -p -m 0700 -- /var/lib/pmrunbook/proofs &&
        printf 'name=%s\nca=%s\nway=%s\n' "$ca_name" "$issuer" "$way" >/var/lib/pmrunbook/proofs/.new &&
        mv -f -- /var/lib/pmrunbook/proofs/.new "/var/lib/pmrunbook/proofs/$record" || exit 1
    printf 'a new agent was enrolled through %s\n' "$ca_name"
}
