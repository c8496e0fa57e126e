# On a Puppet Server: how many catalogs it compiled for some nodes since it was told to look.
# Set before: ruby, nodes. `mark` tells it to look, `counted` says and records.
proofs=/var/lib/pmrunbook/proofs
set -u
marker=/var/lib/pmrunbook/spread
mark() { # proof
    umask 077
    mkdir -p -m 0700 -- /var/lib/pmrunbook && date +%s >"$marker" && rm -f -- "$proofs/$1-none"
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
keep() { # name, lines
    umask 077
    mkdir -p -m 0700 -- "$proofs" && printf '%s\n' "$2" >"$proofs/.count" &&
        mv -f -- "$proofs/.count" "$proofs/$1" || exit 1
}
counted() { # proof, its lines, whether agents run once more if there was none
    [ -s "$marker" ] || { echo 'Error: nobody told it since when' >&2; exit 1; }
    waited=0
    while found=$(count) && [ "${found:-0}" -lt 1 ] && [ "$waited" -lt 10 ]; do
        sleep 2 # the log may be a moment behind
        waited=$((waited + 2))
    done
    printf 'it compiled %s catalogs of these agents\n' "${found:-0}"
    if [ "${found:-0}" -ge 1 ]; then
        keep "$1" "$2
count=$found"
        rm -f -- "$proofs/$1-none"
    elif [ -n "$3" ]; then
        keep "$1-none" "$2"
    else
        echo 'Error: none of their runs came here' >&2
        exit 1
    fi
}
