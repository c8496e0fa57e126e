# Who got a catalog from this host's Puppet Server within the last half hour, by its access log.
[ -n "$PC_puppetserver" ] && [ -n "$PC_ruby" ] || exit 0
for f in /var/log/puppetlabs/puppetserver/puppetserver-access.log \
    /var/log/puppetserver/puppetserver-access.log; do
    [ -r "$f" ] && tail -n 20000 "$f"
done | "$PC_ruby" --disable-gems -rtime -e '
  seen, since = Hash.new(0), Time.now - 1800
  $stdin.each_line do |line|
    line = line.scrub
    at, node = line[/\[([^\]]+)\] "/, 1], line[%r{"\w+ /puppet/v[34]/catalog/([^?/ "]+)}, 1]
    next unless at && node
    begin
      seen[node] += 1 if Time.strptime(at, "%d/%b/%Y:%H:%M:%S %z") > since
    rescue ArgumentError
      next
    end
  end
  seen.sort_by { |_, n| -n }.first(20).each { |node, n| puts "node=#{node} #{n}" }
  puts "nodes=#{seen.size}"
'
