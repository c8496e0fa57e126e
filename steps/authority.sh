# The CA service of a Puppet Server: switched on or off, its directory, what waits to be signed.
# pc_probe is the certname that the proof of enrolment uses; pc_list says whether to ask the CLI.
[ -n "$PC_puppetserver" ] || exit 0
for f in "$PC_server_confdir"/services.d/*.cfg \
    /opt/puppetlabs/server/apps/puppetserver/config/services.d/*.cfg; do
    [ -r "$f" ] && sed 's/^[[:space:]]*//; /^#/d; /^$/d' "$f"
done | sed -n \
    -e 's|.*ca\.certificate-authority-service/certificate-authority-service.*|service=on|p' \
    -e 's|.*ca\.certificate-authority-disabled-service/certificate-authority-disabled-service.*|service=off|p' \
    -e 's|.*filesystem-watch-service/filesystem-watch-service.*|service=watcher|p' | sort -u
grep -lsE '^[^#/]*allow-subject-alt-names"?[[:space:]]*[:=][[:space:]]*"?true' \
    "$PC_server_confdir"/conf.d/*.conf | sed 's/^/alt_names_allowed=/'
if [ -d "$PS_cadir" ]; then
    printf 'cadir=%s\n' "$(readlink -f "$PS_cadir")"
    [ -e "$PS_cadir/ca_key.pem" ] && echo 'ca_key=present'
    find -H "$PS_cadir" -maxdepth 1 -name 'serial?*tmp' -mmin +5 | sed 's/^/torn=/'
    case $(readlink -f "$PS_cadir") in "$(readlink -f "$PS_ssldir")"/*) echo 'cadir_in_ssldir=yes' ;; esac
fi
case $PS_autosign in
true | false) printf 'autosign=%s\n' "$PS_autosign" ;;
*)
    if [ -x "$PS_autosign" ] && [ -f "$PS_autosign" ]; then
        printf 'autosign=program %s\n' "$PS_autosign"
    elif [ -f "$PS_autosign" ]; then
        sed 's/^[[:space:]]*//; /^#/d; /^$/d; s/^/autosign=name /' "$PS_autosign" | head -n 50
    fi
    ;;
esac
for f in "$PS_csrdir"/*.pem; do
    [ -f "$f" ] || continue
    n=${f##*/}
    n=${n%.pem}
    if [ -f "$PS_signeddir/$n.pem" ]; then printf 'duplicate=%s\n' "$n"; else printf 'pending=%s\n' "$n"; fi
done | head -n 200
if [ "${pc_list:-no}" = yes ]; then
    if pc_said=$(pc_within 20 "$PC_puppetserver" ca list 2>&1); then
        echo 'list=allowed'
    else
        printf 'list=refused %s\n' "$(printf %s "$pc_said" | tr '\n' ' ' | head -c 300)"
    fi
    "$PC_puppetserver" ca generate --help 2>/dev/null | grep -q -e --ca-client && echo 'ca_client=yes'
fi
if [ -n "$pc_probe" ] && [ -n "$PC_ruby" ]; then
    "$PC_ruby" --disable-gems -ropenssl -e '
      request, signed = ARGV
      der = OpenSSL::X509::Request.new(File.binread(request)).to_der if File.file?(request)
      sha = OpenSSL::Digest.new("SHA256", der).hexdigest.upcase.scan(/../).join(":") if der
      puts "probe_request=" + sha if sha
      puts "probe_signed=yes" if File.file?(signed)
    ' "$PS_csrdir/$pc_probe.pem" "$PS_signeddir/$pc_probe.pem"
fi
:
