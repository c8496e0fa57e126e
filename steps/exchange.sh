# A resource that one node exports through one server and another node collects through the next one,
# all round. Both nodes are throw-away certificates; their environment is one of our own, so nothing
# that a site exports or collects is touched. Set before: pc_client (client.sh), the functions of drill.sh and what they
# need; environment, members ("name:port name:port"), urls, cert, key, bundle, target, base.
nodes="$base-a $base-b"
home=/var/lib/pmrunbook/exchange
as_node() { # certname: the functions of drill.sh, about that one
    drill=$1 dir=$home/$1
}
exchange() {
    for n in $nodes; do
        as_node "$n"
        issue
    done
    # shellcheck disable=SC2086  # a list of words
    timeout 600 "$ruby" --disable-gems -ropenssl -rnet/http -rjson -ruri -rsecurerandom -e "$pc_client" -e '
      home, base, environment, bundle, *members = ARGV
      compile = lambda do |member, node, token|
        http = client(member, "#{home}/#{node}/cert.pem", "#{home}/#{node}/key.pem", bundle, 120)
        facts = { "name" => node, "values" => { "pmrunbook_token" => token, "clientcert" => node } }
        once = URI.encode_www_form_component(JSON.generate(facts)).gsub("+", "%20")
        post = Net::HTTP::Post.new("/puppet/v3/catalog/#{node}?environment=#{environment}")
        post["Accept"] = "application/vnd.puppet.rich+json, application/json, text/pson"
        post.content_type = "application/x-www-form-urlencoded"
        post.body = URI.encode_www_form("environment" => environment, "facts_format" => "application/json", "facts" => once)
        answer = http.request(post)
        abort "Error: #{member} does not compile for #{node}: #{answer.code} #{answer.body[0, 300]}" unless answer.code == "200"
        JSON.parse(answer.body)["resources"].map { |r| [r["type"], r["title"], r["exported"]] }
      end
      members.each_with_index do |from, i|
        to = members[(i + 1) % members.size]
        token = SecureRandom.hex(8)
        here = "pmrunbook #{token}"
        exported = compile.(from, "#{base}-a", token)
        abort "Error: #{from} did not export it" unless exported.any? { |t, n, e| t == "Notify" && n == here && e }
        found = false
        30.times do
          found = compile.(to, "#{base}-b", "none").any? { |t, n, e| t == "Notify" && n == here && !e }
          break if found
          sleep 2
        end
        abort "Error: exported through #{from}, it is not collected through #{to}" unless found
        puts "exported through #{from}, collected through #{to}"
      end
    ' "$home" "$base" "$environment" "$localcacert" $members || exit 1
    mkdir -p -m 0700 -- /var/lib/pmrunbook/proofs &&
        printf 'name=%s\nca=%s\ntarget=%s\n' "$ca_name" "$issuer" "$target" >/var/lib/pmrunbook/proofs/.exchange &&
        mv -f -- /var/lib/pmrunbook/proofs/.exchange /var/lib/pmrunbook/proofs/exchange || exit 1
}
end_exchange() { # what is gone already is no failure
    for n in $nodes; do
        as_node "$n"
        end_drill
    done
    rm -rf -- "$home"
    # shellcheck disable=SC2086
    timeout 60 "$ruby" --disable-gems -ropenssl -rnet/http -rjson -ruri -rtime -rdigest -e "$pc_client" -e '
      nodes, cert, key, bundle, *urls = ARGV
      nodes.split.each do |node|
        body = JSON.generate("certname" => node, "producer_timestamp" => Time.now.utc.iso8601(3))
        query = URI.encode_www_form("command" => "deactivate_node", "version" => "3", "certname" => node,
                                    "checksum" => Digest::SHA1.hexdigest(body))
        done = urls.any? do |url|
          begin
            http = client(url, cert, key, bundle)
            http.post("/pdb/cmd/v1?#{query}", body, "Content-Type" => "application/json").code == "200"
          rescue SystemCallError, Timeout::Error, SocketError, OpenSSL::SSL::SSLError
            false
          end
        end
        # PuppetDB forgets a node that never runs by itself, after node-ttl.
        puts(done ? "PuppetDB: #{node} deactivated" : "PuppetDB could not be told of #{node}; it expires there by itself")
      end
    ' "$nodes" "$cert" "$key" "$bundle" $urls
}
