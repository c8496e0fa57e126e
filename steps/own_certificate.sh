# A compile master's certificate, made on this host: the key never leaves it. Set before: puppet,
# ruby, legacy (yes before Puppet 6.4), certname, hostcert, hostprivkey, hostpubkey, ssldir,
# names (that the certificate has to carry), issuer (the CA's fingerprint), pending (the
# fingerprint of the request that waits at the CA, or nothing).
set -uf # a name may be a wildcard, and is no pattern of files
umask 027
requested=$ssldir/certificate_requests/$certname.pem
bootstrap() {
    if [ "$legacy" = yes ]; then
        timeout 180 "$puppet" agent --test --noop --waitforcert 0 --color=false "$@"
    else
        timeout 180 "$puppet" ssl bootstrap --waitforcert 0 --color=false "$@"
    fi </dev/null 2>&1
}
names_in() { # request | certificate, file, names: fails and says which are not in it
    # shellcheck disable=SC2086  # a list of words
    "$ruby" --disable-gems -ropenssl -e '
      kind, file, *wanted = ARGV
      text = File.binread(file)
      thing = kind == "request" ? OpenSSL::X509::Request.new(text) : OpenSSL::X509::Certificate.new(text)
      missing = wanted.reject { |n| thing.to_text =~ /DNS:#{Regexp.escape(n)}(?:,|\s|$)/ }
      abort "the #{kind} does not carry #{missing.join(", ")}" unless missing.empty?
    ' "$1" "$2" $names
}
request() {
    # shellcheck disable=SC2086  # a list of words; not every host has them in its puppet.conf
    said=$(bootstrap ${names:+--dns_alt_names "$(echo $names | tr ' ' ,)"})
    code=$?
    printf '%s\n' "$said"
    if [ -f "$hostcert" ]; then
        echo 'the CA signed it by itself (autosign)'
        return 0
    fi
    if [ ! -f "$requested" ]; then
        # Puppet keeps no request that the CA did not take, but says its fingerprint.
        ours=$(printf '%s\n' "$said" | sed -n 's/.*Request fingerprint (SHA256): *//p' | tail -n 1)
        if [ -n "$pending" ]; then
            printf 'Error: NOT signed: the host asked with %s, the request at the CA is %s\n' \
                "${ours:-a key of its own}" "$pending" >&2
            return 4
        fi
        echo 'Error: no request was made' >&2
        return 1
    fi
    case $said in
    *'has not been signed yet'* | *'no certificate'* | *'waitforcert'*) ;;
    *) [ "$code" -eq 0 ] || { printf 'the request did not reach the CA (exit %s)\n' "$code" >&2; return 1; } ;;
    esac
    names_in request "$requested"
}
fetch() {
    said=$(bootstrap)
    code=$?
    printf '%s\n' "$said"
    [ -f "$hostcert" ] || { printf 'no certificate came (exit %s)\n' "$code" >&2; return 1; }
    if [ "$legacy" != yes ]; then
        timeout 60 "$puppet" ssl verify --color=false </dev/null || return 1
    fi
    names_in certificate "$hostcert" || return 1
    "$ruby" --disable-gems -ropenssl -e '
      certificate, key, bundle, expected = ARGV
      certificate = OpenSSL::X509::Certificate.new(File.binread(certificate))
      abort "the key does not fit" unless
        certificate.check_private_key(OpenSSL::PKey.read(File.binread(key)))
      first = OpenSSL::X509::Certificate.new(File.binread(bundle))
      seen = OpenSSL::Digest.new("SHA256", first.to_der).hexdigest.upcase.scan(/../).join(":")
      unless seen == expected
        warn "this host trusts the CA certificate #{seen}, the CA has #{expected}"
        exit 4
      end
      abort "the CA did not issue it" unless certificate.verify(first.public_key)
    ' "$hostcert" "$hostprivkey" "$localcacert" "$issuer"
}
