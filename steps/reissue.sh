# Issue the certificate of the CA's own host anew, with more names. What was there comes back by
# itself whatever goes wrong, so that the CA is never left down.
# Set before: ruby, puppetserver, certname, port, names, wanted, was, config, certificate, key,
# public, signed, cadir, cacert, localcacert, hostcrl, and the functions of serving.sh.
set -u
umask 077
work=/var/lib/pmrunbook/reissue
done_so_far=nothing

put() { # new file, place: as the file that is there, at once
    cp -- "$1" "$2.pmrunbook" || return 1
    if [ -e "$2" ]; then like=$2; else like=$1; fi
    chown --reference="$like" -- "$2.pmrunbook" && chmod --reference="$like" -- "$2.pmrunbook" &&
        sync -- "$2.pmrunbook" && mv -f -T -- "$2.pmrunbook" "$2"
}
fingerprint() {
    "$ruby" --disable-gems -ropenssl -e '
      der = OpenSSL::X509::Certificate.new(File.binread(ARGV[0])).to_der
      puts OpenSSL::Digest.new("SHA256", der).hexdigest.upcase.scan(/../).join(":")' "$certificate"
}
put_back() {
    for pair in "certificate=$certificate" "key=$key" "public=$public" "signed=$signed"; do
        if [ -e "$work/old/${pair%%=*}" ]; then
            put "$work/old/${pair%%=*}" "${pair#*=}"
        else
            rm -f -- "${pair#*=}"
        fi
    done
}
finish() {
    code=$?
    trap - EXIT
    trap '' HUP INT TERM
    case $done_so_far in
    stopped)
        echo 'nothing was replaced; starting Puppet Server as it was' >&2
        start_server || code=1
        ;;
    replaced)
        echo 'putting the certificate back that was there before' >&2
        systemctl stop puppetserver
        put_back
        start_server || code=1
        ;;
    esac
    rm -rf -- "$work"
    rm -f -- "$certificate.pmrunbook" "$key.pmrunbook" "$public.pmrunbook" "$signed.pmrunbook"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' HUP INT TERM

rm -rf -- "$work"
mkdir -p -m 0700 -- "$work/old" "$work/ssl" "$work/signed" || exit 1
[ "$(fingerprint)" = "$was" ] || { echo "$certificate changed since the plan was made" >&2; exit 75; }
for pair in "certificate=$certificate" "key=$key" "public=$public" "signed=$signed"; do
    [ ! -e "${pair#*=}" ] || cp -p -- "${pair#*=}" "$work/old/${pair%%=*}" || exit 1
done

# The CLI works on a puppet.conf of our own, so that it writes beside and replaces nothing: only the
# CA's serial number moves on. Every section it merges says the same (it knows no precedence).
{
    [ ! -f "$config" ] || cat -- "$config"
    for section in main master server agent; do
        printf '\n[%s]\ncertname = %s\nssldir = %s\ncertdir = %s\nprivatekeydir = %s\n' \
            "$section" "$certname" "$work/ssl" "$work/ssl/certs" "$work/ssl/private_keys"
        printf 'publickeydir = %s\nsigneddir = %s\ncadir = %s\ncacert = %s\n' \
            "$work/ssl/public_keys" "$work/signed" "$cadir" "$cacert"
        printf 'localcacert = %s\nhostcrl = %s\n' "$localcacert" "$hostcrl"
    done
} >"$work/puppet.conf" || exit 1

done_so_far=stopped
stop_server || exit 1
generate() {
    "$puppetserver" ca generate --ca-client --config "$work/puppet.conf" --certname "$certname" \
        --subject-alt-names "$names" "$@"
}
if ! said=$(generate 2>&1); then
    printf '%s\n' "$said" >&2
    case $said in
    *'Could not determine whether Puppet Server is online'*) ;;
    *) exit 1 ;;
    esac
    # Only where it is certain: the unit is down and nobody listens.
    if systemctl is-active --quiet puppetserver || ss -Hltn | grep -q ":$port "; then exit 1; fi
    rm -rf -- "$work/ssl" "$work/signed"
    mkdir -m 0700 -- "$work/ssl" "$work/signed"
    generate --force || exit 1
fi

new=$work/ssl/certs/$certname.pem
"$ruby" --disable-gems -ropenssl -e '
  new, old, key, ca, *wanted = ARGV
  new, old = [new, old].map { |f| OpenSSL::X509::Certificate.new(File.binread(f)) }
  names = ->(c) { (c.extensions.find { |e| e.oid == "subjectAltName" } or next []).value.split(", ") }
  lost = names[old] - names[new] + wanted.map { |n| "DNS:" + n } - names[new]
  abort "the new certificate lacks " + lost.uniq.join(", ") unless lost.empty?
  facts = ->(c) { c.extensions.map(&:oid).select { |o| o.start_with?("1.3.6.1.4.1.34380.1.") } }
  lost = facts[old] - facts[new]
  abort "the new certificate lacks the extensions #{lost.join(", ")}: put them into " \
        "csr_attributes.yaml first" unless lost.empty?
  abort "the new key does not fit" unless new.check_private_key(OpenSSL::PKey.read(File.binread(key)))
  store = OpenSSL::X509::Store.new
  store.add_file(ca)
  abort "the CA did not issue it: " + store.error_string unless store.verify(new)
' "$new" "$certificate" "$work/ssl/private_keys/$certname.pem" "$cacert" $wanted || exit 1

done_so_far=replaced
put "$work/ssl/private_keys/$certname.pem" "$key" &&
    put "$work/ssl/public_keys/$certname.pem" "$public" &&
    put "$new" "$certificate" &&
    put "$work/signed/$certname.pem" "$signed" || exit 1
start_server || exit 1
[ "$(look)" = "$(fingerprint)" ] || { echo 'Puppet Server presents another certificate' >&2; exit 1; }
done_so_far=all
printf 'the certificate now carries %s\n' "$names"
