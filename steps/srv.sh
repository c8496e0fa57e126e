# The SRV records of `name` by this host's resolver, as zone-file text.
[ -n "$PC_ruby" ] || exit 0
pc_within 20 "$PC_ruby" --disable-gems -rresolv -e '
  Resolv::DNS.open do |dns|
    dns.timeouts = [3, 3]
    found = dns.getresources(ARGV[0], Resolv::DNS::Resource::IN::SRV)
    found.map { |r| "#{r.priority} #{r.weight} #{r.port} #{r.target}." }.sort.each { |r| puts r }
  end
' "$name"
