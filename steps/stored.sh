# A real run of this host's own agent through its own Puppet Server; then PuppetDB is asked, with this
# host's certificate, whether the facts, the catalog and the report of that very run came through this
# server. Set before: pc_client (client.sh), the functions of agent_run.sh, member, port, ca_name, ca_port, issuer, serial,
# ruby, logdir, cert, key, bundle, urls, reports (yes: they go to PuppetDB), target (all of it, as recorded).
set -u
log=$logdir/puppetserver.log
size=$(stat -c %s "$log" 2>/dev/null || echo 0)
began=$(date -u +%Y-%m-%dT%H:%M:%S.000Z)
agent_run_against "$member" "$port" "$ca_name" "$ca_port"
new_in_log() {
    now=$(stat -c %s "$log" 2>/dev/null || echo 0)
    [ "$now" -ge "$size" ] || size=0
    tail -c "+$((size + 1))" "$log" 2>/dev/null
}
if [ -n "$urls" ]; then
    # shellcheck disable=SC2086  # a list of words
    timeout 120 "$ruby" --disable-gems -ropenssl -rnet/http -rjson -ruri -rtime -e "$pc_client" -e '
      NODE, BEGAN, REPORTS, CERT, KEY, BUNDLE, *URLS = ARGV
      def ask(path, query = nil)
        path += "?" + URI.encode_www_form("query" => JSON.generate(query)) if query
        failed = nil
        URLS.each do |url|
          begin
            answer = client(url, CERT, KEY, BUNDLE).get(path, "Accept" => "application/json")
          rescue SystemCallError, Timeout::Error, SocketError, OpenSSL::SSL::SSLError => e
            failed = "#{url}: #{e.message}"
            next
          end
          return nil if answer.code == "404"
          return JSON.parse(answer.body) if answer.code == "200"
          abort "Error: #{url} says #{answer.code} #{answer.body[0, 200]}"
        end
        abort "Error: PuppetDB does not answer: #{failed}"
      end
      def of_this_run?(thing)
        thing && thing["producer"] == NODE && Time.parse(thing["producer_timestamp"]) >= Time.parse(BEGAN)
      end
      missing = nil
      30.times do
        found = { "facts" => ask("/pdb/query/v4/factsets/#{NODE}"), "catalog" => ask("/pdb/query/v4/catalogs/#{NODE}") }
        if REPORTS == "yes"
          mine = ["and", ["=", "certname", NODE], ["=", "producer", NODE], [">=", "producer_timestamp", BEGAN]]
          found["report"] = (ask("/pdb/query/v4/reports", mine) || []).first
        end
        missing = found.reject { |_, thing| of_this_run?(thing) }
        if missing.empty?
          found.each { |what, thing| puts "#{what}: through #{thing["producer"]} at #{thing["producer_timestamp"]}" }
          exit 0
        end
        sleep 2
      end
      missing.each do |what, thing|
        warn "Error: no #{what} of this run in PuppetDB" + (thing ? ": the newest came through #{thing["producer"]} at #{thing["producer_timestamp"]}" : "")
      end
      exit 1
    ' "$member" "$began" "$reports" "$cert" "$key" "$bundle" $urls || {
        new_in_log | grep -iE 'puppetdb|report' | grep -iE 'error|fail|warn' | tail -n 5
        exit 1
    }
fi
# A report processor that fails tells no agent: only this log has it. It writes a moment later.
sleep 2
if failed=$(new_in_log | grep -E 'Report (processor|[a-z_]+) failed|No report named'); then
    printf '%s\n' "$failed" | tail -n 5
    printf 'Error: the report of this run was not delivered: %s\n' "$(printf '%s\n' "$failed" | tail -n 1 | sed 's/.*] *//' | head -c 300)" >&2
    exit 1
fi
record "stored" "name=$ca_name
ca=$issuer
serial=$serial
target=$target"
