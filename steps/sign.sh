# The CA's side of the proof: sign only what the host itself says it asked for, and take it back.
# Set before: puppetserver, puppet, ruby, legacy, certname, expected, csrdir, signeddir; key where the
# digest of the host's public key is known.
set -u
told() { # request | certificate, file: its fingerprint and the digest of its public key
    "$ruby" --disable-gems -ropenssl -e '
      kind, file = ARGV
      text = File.binread(file)
      thing = kind == "request" ? OpenSSL::X509::Request.new(text) : OpenSSL::X509::Certificate.new(text)
      half = thing.public_key
      half = half.respond_to?(:public_to_der) ? half.public_to_der : half.to_der
      sha = ->(der) { OpenSSL::Digest.new("SHA256", der).hexdigest.upcase.scan(/../).join(":") }
      puts [thing.to_der, half].map(&sha).join(" ")
    ' "$1" "$2"
}
sign() {
    if [ -f "$signeddir/$certname.pem" ]; then
        if [ -n "${key:-}" ]; then
            given=$(told certificate "$signeddir/$certname.pem") || return 1
            if [ "${given#* }" != "$key" ]; then
                printf 'Error: the CA signed another key meanwhile: the host has %s, the certificate %s\n' "$key" "${given#* }" >&2
                return 4
            fi
        fi
        echo 'signed already'
        return 0
    fi
    seen=$(told request "$csrdir/$certname.pem") || { echo "no request for $certname waits here" >&2; return 1; }
    if [ "${seen% *}" != "$expected" ]; then
        printf 'Error: NOT signed: the host asked with %s, the request here is %s\n' "$expected" "${seen% *}" >&2
        return 4
    fi
    if [ "$legacy" = yes ]; then
        "$puppet" cert sign "$certname"
    else
        "$puppetserver" ca sign --certname "$certname"
    fi || return
    # The CA read the request anew: what it signed is what was compared, or it goes again.
    given=$(told certificate "$signeddir/$certname.pem") || return 1
    if [ "${given#* }" != "${seen#* }" ]; then
        clean >&2
        printf 'Error: the request was replaced while it was signed, and the certificate revoked: the host asked with the key %s, signed was %s\n' \
            "${seen#* }" "${given#* }" >&2
        return 4
    fi
}
clean() { # what is gone already is no failure
    if [ -f "$signeddir/$certname.pem" ] || [ -f "$csrdir/$certname.pem" ]; then
        if [ "$legacy" = yes ]; then
            "$puppet" cert clean "$certname"
        else
            "$puppetserver" ca clean --certname "$certname"
        fi
        if [ -f "$signeddir/$certname.pem" ] || [ -f "$csrdir/$certname.pem" ]; then
            echo "the CA still has $certname" >&2
            return 1
        fi
    fi
    echo "the CA knows nothing of $certname"
}
