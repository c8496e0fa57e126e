# What a client gets by claims about itself: forged headers, with this host's own certificate and
# with none, at a balancer and at the servers behind it. Set before: pc_targets, one "name address port inner"
# a line (inner: the port that has to be shut, 0 for none); pc_victim, another node's certname.
[ -n "$PC_ruby" ] && [ -n "$PS_hostcert" ] || exit 0
printf '%s\n' "$pc_targets" | pc_within 100 "$PC_ruby" --disable-gems -ropenssl -rsocket -rtimeout -e '
  CERT, KEY, BUNDLE, VICTIM = ARGV
  FORGED = %w[X-Client-Verify:\ SUCCESS X-Client-Cert:\ none]
  def ask(name, at, path, own, headers = [])
    context = OpenSSL::SSL::SSLContext.new
    context.verify_mode = OpenSSL::SSL::VERIFY_PEER
    context.ca_file = BUNDLE
    if own
      context.cert = OpenSSL::X509::Certificate.new(File.binread(CERT))
      context.key = OpenSSL::PKey.read(File.binread(KEY))
    end
    Timeout.timeout(20) do
      ssl = OpenSSL::SSL::SSLSocket.new(Socket.tcp(*at, connect_timeout: 5), context)
      ssl.hostname = name
      ssl.sync_close = true
      begin
        ssl.connect
        ssl.post_connection_check(name)
        lines = ["GET #{path} HTTP/1.1", "Host: #{name}", "Connection: close", *headers]
        ssl.write(lines.join("\r\n") + "\r\n\r\n")
        ssl.read.to_s[/\AHTTP\S+ (\d+)/, 1] || "no answer"
      ensure
        ssl.close
      end
    end
  rescue Timeout::Error
    "no answer in time"
  rescue StandardError => e
    "#{e.class}: #{e.message}".tr("\r\n", " ")
  end
  # Both forms of a name that Puppet Server takes.
  claims = ["CN=#{VICTIM}", "/CN=#{VICTIM}"].map { |dn| [*FORGED, "X-Client-DN: #{dn}"] }
  catalog = "/puppet/v3/catalog/#{VICTIM}?environment=production"
  reports = $stdin.each_line.map(&:split).reject(&:empty?).map do |name, address, port, inner|
    Thread.new do
      out, at = ["[#{name}]"], [address, port.to_i]
      out << "status=" + ask(name, at, "/status/v1/simple", false)
      out << "own=" + ask(name, at, "/puppet/v3/environments", true)
      out << "none=" + ask(name, at, "/puppet/v3/environments", false)
      claims.each do |claim|
        [false, true].each do |own|
          said = ask(name, at, catalog, own, claim)
          out << "forged=#{own ? "with" : "without"}_certificate #{said}"
        end
        out << "claimed=" + ask(name, at, "/puppet/v3/environments", false, claim)
      end
      unless inner == "0"
        shut = begin
          Socket.tcp(address, inner.to_i, connect_timeout: 5).close
          "open"
        rescue SystemCallError, Timeout::Error
          "shut"
        end
        out << "inner=#{inner} #{shut}"
      end
      out
    end
  end
  reports.each { |thread| puts thread.value }
' "$PS_hostcert" "$PS_hostprivkey" "$PS_localcacert" "$pc_victim"
