# The CA's side of the proof: sign only what the host itself says it asked for, and take it back.
# Set before: puppetserver, puppet, ruby, legacy, certname, expected, csrdir, signeddir.
set -u
sign() {
    if [ -f "$signeddir/$certname.pem" ]; then echo 'signed already'; return 0; fi
    seen=$("$ruby" --disable-gems -ropenssl -e '
      der = OpenSSL::X509::Request.new(File.binread(ARGV[0])).to_der
      puts OpenSSL::Digest.new("SHA256", der).hexdigest.upcase.scan(/../).join(":")
    ' "$csrdir/$certname.pem") || { echo "no request for $certname waits here" >&2; return 1; }
    if [ "$seen" != "$expected" ]; then
        printf 'Error: NOT signed: the host asked with %s, the request here is %s\n' "$expected" "$seen" >&2
        return 4
    fi
    if [ "$legacy" = yes ]; then
        "$puppet" cert sign "$certname"
    else
        "$puppetserver" ca sign --certname "$certname"
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
