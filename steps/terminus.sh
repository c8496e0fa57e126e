# How this host's Puppet Server is joined to PuppetDB, and what PuppetDB answers when it is asked with
# this host's own certificate. Set before: pc_client (client.sh), pc_urls (the PuppetDBs, "host:port host:port").
[ -n "$PS_confdir" ] || exit 0
td_named() {
    printf '[%s]\npath=%s\n' "$1" "$2"
    pc_file "$2"
}
td_named puppetdb.conf "$PS_confdir/puppetdb.conf"
td_routes=$(printf '%s\n' "$PC_server" | sed -n 's/^route_file = //p')
td_named routes.yaml "${td_routes:-$PS_confdir/routes.yaml}"
echo '[state]'
[ -e /var/lib/pmrunbook/installed-terminus/before ] && echo 'installed=yes'
for f in "$PS_confdir/puppetdb.conf" "${td_routes:-$PS_confdir/routes.yaml}"; do
    [ -e "$f" ] && printf 'written=%s %s\n' "$(stat -L -c %Y "$f")" "$f"
done
# A processor's name is a file below puppet/reports, the vendor's or a module's.
for f in "$PC_library"/puppet/reports/*.rb; do
    [ -e "$f" ] && f=${f##*/} && printf 'processor=%s\n' "${f%.rb}"
done
td_vardir=$(sed -n 's/^[^#]*server-var-dir"\{0,1\} *[:=] *"\{0,1\}\([^" ]*\).*/\1/p' \
    "$PC_server_confdir"/conf.d/puppetserver.conf 2>/dev/null | head -n 1)
[ -d "$td_vardir/reports" ] && printf 'reports_kept=%s %s\n' \
    "$(pc_within 10 du -sk "$td_vardir/reports" 2>/dev/null | cut -f1)" "$td_vardir/reports"
[ -n "$PC_ruby" ] || exit 0
"$PC_ruby" --disable-gems -ryaml -e '
  begin
    routes = YAML.load(File.read(ARGV[0])) || {}
    # Puppet Server 7 on takes "server", older ones "master"; with both, "server" wins.
    facts = (routes["server"] || routes["master"] || {})["facts"] || {}
    puts "facts_terminus=#{facts["terminus"]}", "facts_cache=#{facts["cache"]}"
  rescue Errno::ENOENT
  rescue StandardError, SyntaxError => e
    puts "routes_error=#{e.class}: #{e.message}".tr("\r\n", " ")
  end
' "${td_routes:-$PS_confdir/routes.yaml}"
[ -n "$PS_hostcert" ] && [ -f "$PS_hostcert" ] || exit 0
# shellcheck disable=SC2086  # a list of words
pc_within 40 "$PC_ruby" --disable-gems -ropenssl -rnet/http -rjson -e "$pc_client" -e '
  cert, key, bundle, *urls = ARGV
  urls.each do |url|
    puts "[ask #{url}]"
    begin
      http = client(url, cert, key, bundle, 8)
      answer = http.get("/pdb/meta/v1/version", "Accept" => "application/json")
      puts "status=" + answer.code
      if answer.code == "200"
        puts "version=" + JSON.parse(answer.body)["version"].to_s
      else
        puts "said=" + answer.body.to_s[0, 200].tr("\r\n", "  ")
      end
    rescue StandardError => e
      puts "error=#{e.class}: #{e.message}".tr("\r\n", " ")
    end
  end
' "$PS_hostcert" "$PS_hostprivkey" "$PS_localcacert" $pc_urls
