# May this host ask every PuppetDB with its certificate? Fails, and says so, where it may not. Set
# before: pc_client (client.sh), ruby, cert, key, bundle, urls.
# shellcheck disable=SC2086  # a list of words
timeout 50 "$ruby" --disable-gems -ropenssl -rnet/http -e "$pc_client" -e '
  cert, key, bundle, *urls = ARGV
  urls.each do |url|
    begin
      answer = client(url, cert, key, bundle).get("/pdb/meta/v1/version", "Accept" => "application/json")
    rescue SystemCallError, Timeout::Error, SocketError, OpenSSL::SSL::SSLError => e
      abort "Error: #{url}: #{e.message}"
    end
    abort "Error: #{url} says #{answer.code}: #{answer.body[0, 200]}" unless answer.code == "200"
    puts "#{url} accepts it"
  end
' "$cert" "$key" "$bundle" $urls
