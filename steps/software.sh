# What is installed, from which packaging, and what Puppet says its settings are.
if [ -r /etc/os-release ]; then
    . /etc/os-release
    printf 'os=%s\nos_like=%s\nos_version=%s\nos_name=%s\n' \
        "$ID" "${ID_LIKE:-}" "${VERSION_ID:-}" "${PRETTY_NAME:-}"
fi
printf 'hostname=%s\n' "$(hostname -f 2>/dev/null || uname -n)"
[ -d /run/systemd/system ] && echo 'init=systemd'
# rpm says "not installed" on stdout; dpkg remembers packages that are gone.
for p in puppet-agent openvox-agent puppet puppetserver openvox-server puppetdb openvoxdb \
    puppetdb-termini openvoxdb-termini puppet-terminus-puppetdb r10k pe-puppetserver pe-puppet-agent; do
    dpkg-query -W -f='package=${Package} ${Version} ${db:Status-Abbrev}\n' "$p" 2>/dev/null | grep ' ii' ||
        rpm -q --qf 'package=%{NAME} %{VERSION}-%{RELEASE} ii\n' "$p" 2>/dev/null |
            grep -v 'not installed'
done
[ -e /opt/puppetlabs/server/pe_build ] && echo 'enterprise=yes'
printf 'vendor=%s\ndistribution=%s\n' "$PC_vendor" "$PC_distribution"
printf 'puppet=%s\npuppetserver=%s\nruby=%s\n' "$PC_puppet" "$PC_puppetserver" "$PC_ruby"
printf 'version=%s\nsection=%s\nserver_confdir=%s\n' "$PC_version" "$PC_section" "$PC_server_confdir"
[ -n "$PC_error" ] && printf 'error=%s\n' "$(printf %s "$PC_error" | tr '\n' ' ')"
printf '[agent]\n%s\n' "$PC_agent" | sed 's/ = /=/'
printf '[server]\n%s\n' "$PC_server" | sed 's/ = /=/'
:
