# Services, open ports, clock, disk and memory, addresses.
for u in puppetserver puppet puppetdb pe-puppetserver; do
    systemctl show -p Id,LoadState,ActiveState,SubState,UnitFileState "$u.service" 2>/dev/null |
        tr '\n' ' ' | sed 's/^/service=/; s/ *$//'
    echo
done
ss -Hltn 2>/dev/null | awk '{n = split($4, a, ":"); print "port=" a[n]}' | sort -u
printf 'epoch=%s\n' "$(date +%s.%N)"
awk '/^(MemTotal|MemAvailable):/ {print "memory_" tolower(substr($1, 4, length($1) - 4)) "=" $2}' /proc/meminfo
printf 'processors=%s\n' "$(nproc 2>/dev/null)"
df -Pk /etc /usr /opt /var /var/lib /var/lib/puppetdb /opt/puppetlabs/server/data/puppetdb \
    /var/lib/postgresql /var/lib/pgsql /tmp "${PS_ssldir:-/}" "${PS_cadir:-/}" 2>/dev/null |
    awk 'NR > 1 && !seen[$6]++ {print "disk=" $6 " " $2 " " $4}'
ip -o addr show scope global 2>/dev/null | awk '{split($4, a, "/"); print "address=" a[1]}'
:
