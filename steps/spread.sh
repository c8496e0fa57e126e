# On a Puppet Server: how many catalogs it compiled for some nodes since it was told to look.
# Set before: ruby, nodes. `mark` tells it to look, `counted` says and records.
set -u
marker=/var/lib/pmrunbook/spread
mark() {
    umask 077
    mkdir -p -m 0700 -- /var/lib/pmrunbook && date +%s >"$marker"
}
count() {
    for f in /var/log/puppetlabs/puppetserver/puppetserver-access.log \
        /var/log/puppetserver/puppetserver-access.log; do
        [ -r "$f" ] && tail -n 50000 "$f"
    done | "$ruby" --disable-gems -rtime -e '
      since, *nodes = ARGV
      nodes = nodes.to_h { |n| [n, true] }
      found = 0
      $stdin.each_line do |line|
        line = line.scrub
        next unless nodes[line[%r{"\w+ /puppet/v3/catalog/([^?/ "]+)}, 1]] && line =~ /" 200 /
        at = line[/\[([^\]]+)\] "/, 1]
        found += 1 if at && Time.strptime(at, "%d/%b/%Y:%H:%M:%S %z").to_i >= since.to_i
      end
      puts found
    ' "$(cat "$marker")" $nodes
}
counted() { # proof, least, its lines
    [ -s "$marker" ] || { echo 'Error: nobody told it since when' >&2; exit 1; }
    waited=0
    while found=$(count) && [ "${found:-0}" -lt "$2" ] && [ "$waited" -lt 10 ]; do
        sleep 2 # the log may be a moment behind
        waited=$((waited + 2))
    done
    printf 'it compiled %s catalogs of these agents\n' "${found:-0}"
    if [ "${found:-0}" -lt "$2" ]; then
        echo 'Error: none of their runs came here' >&2
        exit 1
    fi
    umask 077
    mkdir -p -m 0700 -- /var/lib/pmrunbook/proofs &&
        printf '%s\ncount=%s\n' "$3" "$found" >/var/lib/pmrunbook/proofs/.count &&
        mv -f -- /var/lib/pmrunbook/proofs/.count "/var/lib/pmrunbook/proofs/$1" || exit 1
}
