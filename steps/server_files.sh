# The files that decide how this host's Puppet Server starts, whether it runs with them, and how far
# its certificate is. Set before: pc_timer, the name of the units that keep the CRL fresh.
pc_named() {
    printf '[%s]\npath=%s\n' "$1" "$2"
    pc_file "$2"
}
pc_named crl-service "/etc/systemd/system/$pc_timer.service"
pc_named crl-timer "/etc/systemd/system/$pc_timer.timer"
echo '[state]'
printf 'timer=%s %s\n' "$(systemctl is-active "$pc_timer.timer" 2>/dev/null)" \
    "$(systemctl is-enabled "$pc_timer.timer" 2>/dev/null)"
ss -Hltnp 'sport = :8140' 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/listener=\1 \2/p' | sort -u
printf 'main_pid=%s\n' "$(systemctl show -p MainPID puppetserver 2>/dev/null | sed 's/.*=//')"
[ -e /var/lib/pmrunbook/agent-paused ] && echo 'agent_paused=yes'
[ -e /var/lib/pmrunbook/installed/before ] && echo 'installed=yes'
if [ -n "$PC_ruby" ] && [ -n "$PS_ssldir" ]; then
    "$PC_ruby" --disable-gems -ropenssl -e '
      request, key = ARGV
      def sha(der)
        OpenSSL::Digest.new("SHA256", der).hexdigest.upcase.scan(/../).join(":")
      end
      if File.file?(key)
        own = OpenSSL::PKey.read(File.binread(key))
        # Of the key only what the world may know: the digest of its public half.
        puts "key=" + sha(own.respond_to?(:public_to_der) ? own.public_to_der : own.public_key.to_der)
      end
      if File.file?(request)
        csr = OpenSSL::X509::Request.new(File.binread(request))
        puts "request=" + sha(csr.to_der)
        wanted = csr.attributes.find { |a| %w[extReq msExtReq].include?(a.oid) }
        exts = wanted ? wanted.value.value.first.value : []
        exts.each do |e|
          ext = OpenSSL::X509::Extension.new(e.to_der)
          next unless ext.oid == "subjectAltName"
          ext.value.split(", ").each { |n| puts "request_name=" + n.sub("IP Address:", "IP:") }
        end
      end
    ' "$PS_ssldir/certificate_requests/$PS_certname.pem" "$PS_hostprivkey"
fi
[ -n "$PC_puppetserver" ] || exit 0
pc_defaults=/etc/default/puppetserver
[ -e "$pc_defaults" ] || [ ! -d /etc/sysconfig ] || pc_defaults=/etc/sysconfig/puppetserver
pc_vardir=$(sed -n 's/^[^#]*server-var-dir"\{0,1\} *[:=] *"\{0,1\}\([^" ]*\).*/\1/p' \
    "$PC_server_confdir"/conf.d/puppetserver.conf 2>/dev/null | head -n 1)
pc_marker=/run/puppetserver/restart
[ -e "$pc_marker" ] || pc_marker=${pc_vardir:-/var/lib/puppetserver}/restartcounter
pc_pid=$(systemctl show -p MainPID puppetserver 2>/dev/null | sed 's/.*=//')
# What was written after the process began is not in it; the second is that of /proc/stat's btime.
pc_began=
if [ "${pc_pid:-0}" -gt 0 ] 2>/dev/null && [ -r "/proc/$pc_pid/stat" ]; then
    pc_ticks=$(sed 's/^.*) //' "/proc/$pc_pid/stat" | cut -d' ' -f20)
    pc_began=$(($(sed -n 's/^btime //p' /proc/stat) + pc_ticks / $(getconf CLK_TCK)))
fi
pc_later() { # epoch, kind, files
    [ -n "$1" ] || return 0
    pc_since=$1 pc_kind=$2
    shift 2
    for f; do
        [ -e "$f" ] && [ "$(stat -L -c %Y "$f")" -gt "$pc_since" ] && printf 'stale=%s %s\n' "$pc_kind" "$f"
    done
}
pc_later "$pc_began" restart "$PC_server_confdir/services.d/ca.cfg" "$pc_defaults"
pc_read=$pc_began
[ -n "$pc_began" ] && [ -e "$pc_marker" ] && [ "$(stat -c %Y "$pc_marker")" -gt "$pc_began" ] &&
    pc_read=$(stat -c %Y "$pc_marker")
printf 'read=%s\n' "$pc_read" # when it last read them, in seconds since the epoch
pc_later "$pc_read" reload "$PS_config" "$PC_server_confdir/conf.d/webserver.conf" \
    "$PC_server_confdir/conf.d/puppetserver.conf" "$PC_server_confdir/conf.d/auth.conf" "$PS_hostcert"
pc_named ca.cfg "$PC_server_confdir/services.d/ca.cfg"
pc_named webserver.conf "$PC_server_confdir/conf.d/webserver.conf"
pc_named puppetserver.conf "$PC_server_confdir/conf.d/puppetserver.conf"
pc_named auth.conf "$PC_server_confdir/conf.d/auth.conf"
pc_named ca.conf "$PC_server_confdir/conf.d/ca.conf"
pc_named defaults "$pc_defaults"
:
