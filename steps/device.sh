# A balancer that is not ours, as this host finds it: who answers, and over several connections, which
# certificates. Set before: pc_address, pc_port, pc_name, pc_path, pc_times; pc_strict where the exit
# status is to say whether it serves.
[ -n "$PC_ruby" ] && [ -f "$PS_localcacert" ] || exit 0
pc_within 100 "$PC_ruby" --disable-gems -ropenssl -rsocket -rtimeout -e '
  bundle, address, port, name, path, times, strict = ARGV
  seen, said = Hash.new(0), Hash.new(0)
  times.to_i.times do
    begin
      Timeout.timeout(15) do
        context = OpenSSL::SSL::SSLContext.new
        context.verify_mode = OpenSSL::SSL::VERIFY_PEER
        context.ca_file = bundle
        ssl = OpenSSL::SSL::SSLSocket.new(Socket.tcp(address, port.to_i, connect_timeout: 5), context)
        ssl.hostname = name
        ssl.sync_close = true
        begin
          ssl.connect
          ssl.post_connection_check(name)
          seen[ssl.peer_cert.serial.to_s(16)] += 1
          ssl.write("GET #{path} HTTP/1.1\r\nHost: #{name}\r\nConnection: close\r\n\r\n")
          said["status=" + (ssl.read.to_s[/\AHTTP\S+ (\d+)/, 1] || "none")] += 1
        ensure
          ssl.close
        end
      end
    rescue Timeout::Error
      said["error=no answer in time"] += 1
    rescue StandardError => e
      said["error=#{e.class}: #{e.message}".tr("\r\n", " ")] += 1
    end
  end
  said.each { |text, n| puts "#{text} (#{n} of #{times})" }
  seen.each { |serial, n| puts "serial=#{serial} #{n}" }
  exit 1 if strict == "yes" && said.keys != ["status=200"]
' "$PS_localcacert" "$pc_address" "$pc_port" "$pc_name" "$pc_path" "$pc_times" "${pc_strict:-no}"
