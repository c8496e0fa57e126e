# This node's catalog, compiled by every server in pc_members from the same facts, and how each
# differs from that of the first. Asked with the node's own certificate; nothing is applied. Where a
# site has PuppetDB, it stores the facts and the catalog of this node, which are its real ones.
[ -n "$PC_ruby" ] && [ -n "$PS_hostcert" ] && [ -e "$PS_hostcert" ] || exit 0
pc_facts=$(pc_within 60 "$PC_puppet" facts find "$PS_certname" --render-as json --color=false 2>/dev/null)
[ -n "$pc_facts" ] || { echo 'error=no facts'; exit 0; }
pc_environment=$(printf '%s\n' "$PC_agent" | sed -n 's/^environment = //p')
# shellcheck disable=SC2086  # a list of words
printf '%s' "$pc_facts" | pc_within 150 "$PC_ruby" --disable-gems -ropenssl -rsocket -rnet/http -rjson -ruri -rdigest -e "$pc_client" -e '
  cert, key, bundle, node, environment, *members = ARGV
  facts = $stdin.read
  facts = facts[facts.index("{")..-1]
  once = URI.encode_www_form_component(JSON.generate(JSON.parse(facts))).gsub("+", "%20")
  form = URI.encode_www_form("environment" => environment, "facts_format" => "application/json", "facts" => once)
  # A catalog may name the server that compiled it ($server_facts): all of them by one word.
  def anonymous(text, members)
    known = members.flat_map do |m|
      name = m.split(":").first
      [name] + (Addrinfo.getaddrinfo(name, nil, nil, :STREAM).map(&:ip_address) rescue [])
    end
    known.uniq.sort_by { |n| -n.size }.inject(text) { |t, n| t.gsub(/(?<![\w.-])#{Regexp.escape(n)}(?![\w-])/, "SERVER") }
  end
  # What names the one compilation, not what was compiled.
  def comparable(catalog)
    resources = catalog["resources"].map { |r| [r["type"], r["title"], r.reject { |k, _| %w[file line].include?(k) }] }
    edges = (catalog["edges"] || []).map { |e| [e["source"], e["target"]] }
    [catalog["environment"], (catalog["classes"] || []).sort, resources.sort_by { |r| r[0, 2] }, edges.sort]
  end
  answers = members.map do |member|
    Thread.new do
      name = member.split(":").first
      begin
        http = client(member, cert, key, bundle, 120)
        post = Net::HTTP::Post.new("/puppet/v3/catalog/#{node}?environment=#{environment}")
        post["Accept"] = "application/vnd.puppet.rich+json, application/json, text/pson"
        post.content_type = "application/x-www-form-urlencoded"
        post.body = form
        answer = http.request(post)
        if answer.code == "200"
          [name, comparable(JSON.parse(anonymous(answer.body, members))), nil]
        else
          [name, nil, "#{answer.code} #{answer.body.to_s[0, 300]}"]
        end
      rescue StandardError => e
        [name, nil, "#{e.class}: #{e.message}"]
      end
    end
  end.map(&:value)
  first = answers.first[1]
  answers.each do |name, catalog, error|
    puts "[#{name}]"
    next puts "error=" + error.tr("\r\n", " ") if error
    puts "resources=#{catalog[2].size}", "environment=#{catalog[0]}"
    puts "digest=" + Digest::SHA256.hexdigest(JSON.generate(catalog))
    next unless first
    if catalog[0] != first[0]
      puts "differs=environment #{catalog[0]} instead of #{first[0]}"
    end
    one, other = [first, catalog].map { |c| c[2].map { |t, n, r| ["#{t}[#{n}]", r] }.to_h }
    wrong = (one.keys | other.keys).select { |r| one[r] != other[r] }.sort
    wrong.first(10).each { |r| puts "differs=" + r }
    puts "differs=edges" if wrong.empty? && catalog[3] != first[3]
    puts "differs=classes" if wrong.empty? && catalog[1] != first[1]
  end
' "$PS_hostcert" "$PS_hostprivkey" "$PS_localcacert" "$PS_certname" "${pc_environment:-production}" $pc_members
