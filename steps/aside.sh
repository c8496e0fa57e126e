# Take away the CA that a compile master made for itself, and its CRL; copies are in the action's
# backup. Set before: puppet, ruby, certname, hostcert, cadir, crl, link, issuer (the site's CA).
set -u
if [ -e "$cadir" ]; then
    "$ruby" --disable-gems -ropenssl -e '
      der = OpenSSL::X509::Certificate.new(File.binread(ARGV[0])).to_der
      seen = OpenSSL::Digest.new("SHA256", der).hexdigest.upcase.scan(/../).join(":")
      exit(seen == ARGV[1] ? 1 : 0)
    ' "$cadir/ca_crt.pem" "$issuer" || {
        echo 'Error: this is not surely another CA than the one of the site: a person has to decide' >&2
        exit 4
    }
    # A server that made a CA by accident signed nobody but itself.
    others=$(ls -- "$cadir/signed" 2>/dev/null | grep -vxF -- "$certname.pem" | head -n 5)
    if [ -n "$others" ]; then
        printf 'Error: this CA signed %s: it may be the one of the site, and a person has to decide\n' \
            "$(echo $others)" >&2
        exit 4
    fi
fi
systemctl stop puppetserver || exit 1
rm -rf -- "$cadir" "$crl" || exit 1
[ ! -L "$link" ] || rm -f -- "$link"
echo 'kept in the backup of this action'
# Where the certificate is the CA's own, the right list comes now; else with the right one.
[ ! -e "$hostcert" ] || timeout 180 "$puppet" ssl bootstrap --waitforcert 0 --color=false </dev/null ||
    echo 'the revocation list comes with the certificate'
