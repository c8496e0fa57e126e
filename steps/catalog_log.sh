# Who got a catalog from this host's Puppet Server, how long that took, and who took it for the CA
# within a day, by its access log.
# Set before: pc_nodes, the certnames that matter.
[ -n "$PC_puppetserver" ] && [ -n "$PC_ruby" ] || exit 0
[ -s /var/lib/pmrunbook/spread ] && printf 'since=%s\n' "$(head -c 12 /var/lib/pmrunbook/spread | tr -dc 0-9)"
for f in /var/log/puppetlabs/puppetserver/puppetserver-access.log \
    /var/log/puppetserver/puppetserver-access.log; do
    [ -r "$f" ] && tail -n 20000 "$f"
done | "$PC_ruby" --disable-gems -rtime -e '
  last, took, lost = {}, [], Hash.new(0)
  time = ->(at) { Time.strptime(at, "%d/%b/%Y:%H:%M:%S %z").to_i rescue 0 }
  day = Time.now.to_i - 86_400
  nodes = ARGV.to_h { |n| [n, true] }
  $stdin.each_line do |line|
    line = line.scrub
    # By Puppet, that is: our own questions after a CA have no name.
    if line =~ %r{"\w+ /puppet-ca/v1/[^"]*" 404 } && line.include?("\"Puppet/")
      at = line[/\[([^\]]+)\] "/, 1]
      lost[line.split[0]] += 1 if at && time.(at) > day
      next
    end
    next unless (node = line[%r{"\w+ /puppet/v3/catalog/([^?/ "]+)}, 1]) && line =~ /" 200 /
    # Its duration in ms is the first number behind the last quoted field (request-logging.xml).
    ms = line[/"[^"]*" (\d+)[^"]*\z/, 1]
    took << ms.to_i if ms
    at = line[/\[([^\]]+)\] "/, 1]
    last[node] = at if nodes[node] && at
  end
  last.each { |node, at| puts "catalog=#{node} #{time.(at)}" if time.(at) > 0 }
  lost.sort_by { |_, n| -n }.first(5).each { |from, n| puts "no_ca=#{from} #{n}" }
  took = took.last(500)
  puts "catalogs=#{took.size}", "mean_ms=#{took.sum / took.size}" unless took.empty?
' $pc_nodes
