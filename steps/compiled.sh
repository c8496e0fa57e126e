# Catalogs of some nodes as this host's own Puppet Server compiles them, as digests: nothing is
# stored (`persistence` off) and nothing applied. Set before: pc_asked (JSON, compressed, base64:
# nodes with environment, facts and trusted facts, and the names of all servers), pc_port.
[ -n "$PC_ruby" ] && [ -e "$PS_hostcert" ] || exit 0
printf '%s' "$pc_asked" | base64 -d | gzip -d | pc_within 280 "$PC_ruby" --disable-gems -ropenssl -rsocket -rnet/http -rjson -rdigest -rzlib -e "$pc_client" -e '
  url, cert, key, bundle = ARGV
  asked = JSON.parse($stdin.read)
  known = asked["servers"].flat_map do |name|
    [name] + (Addrinfo.getaddrinfo(name, nil, nil, :STREAM).map(&:ip_address) rescue [])
  end
  known = known.uniq.sort_by { |n| -n.size }
  # A catalog may name the server that compiled it ($server_facts): all of them by one word.
  anonymous = ->(text) { known.inject(text) { |t, n| t.gsub(/(?<![\w.-])#{Regexp.escape(n)}(?![\w-])/, "SERVER") } }
  short = ->(value) { Digest::SHA256.hexdigest(JSON.generate(value))[0, 10] }
  http = client(url, cert, key, bundle, 240)
  asked["nodes"].each do |node|
    puts "[#{node["certname"]}]"
    post = Net::HTTP::Post.new("/puppet/v4/catalog")
    post.content_type = "application/json"
    post.body = JSON.generate(
      "certname" => node["certname"], "environment" => node["environment"],
      "persistence" => { "facts" => false, "catalog" => false },
      "facts" => { "values" => node["facts"] }, "trusted_facts" => { "values" => node["trusted"] }
    )
    answer = http.request(post)
    next puts "error=#{answer.code} #{answer.body.to_s[0, 300].tr("\r\n", " ")}" unless answer.code == "200"
    catalog = JSON.parse(anonymous.call(answer.body))
    catalog = catalog["catalog"] || catalog
    lines = catalog["resources"].map do |r|
      said = (r["parameters"] || {}).merge("tags" => (r["tags"] || []).sort, "exported" => r["exported"])
      "#{r["type"]}[#{r["title"]}]\t" + said.sort.map { |name, value| "#{name}:#{short.call(value)}" }.join(" ")
    end
    edges = (catalog["edges"] || []).map { |e| [e["source"], e["target"]] }.sort
    lines << "(edges)\tall:#{short.call(edges)}" << "(classes)\tall:#{short.call((catalog["classes"] || []).sort)}"
    puts "environment=#{catalog["environment"]}", "resources=#{catalog["resources"].size}"
    puts "listing=" + [Zlib.gzip(lines.sort.join("\n"))].pack("m0")
  rescue StandardError => e
    puts "error=#{e.class}: #{e.message.tr("\r\n", " ")[0, 200]}"
  end
' "$PS_certname:$pc_port" "$PS_hostcert" "$PS_hostprivkey" "$PS_localcacert"
:
