# What a client of the site finds at each compile master, asked with this host's own certificate.
# Set before: pc_members, one "certname port name,name" a line. Every name is asked for at that
# server's own address, so it does not matter where the names lead now.
[ -n "$PC_ruby" ] && [ -n "$PS_hostcert" ] || exit 0
printf '%s\n' "$pc_members" | pc_within 40 "$PC_ruby" --disable-gems -ropenssl -rsocket -rtimeout -rjson -e '
  CERT, KEY, BUNDLE, CRL = ARGV
  def context
    c = OpenSSL::SSL::SSLContext.new
    c.verify_mode = OpenSSL::SSL::VERIFY_PEER
    store = OpenSSL::X509::Store.new
    File.binread(BUNDLE).scan(/-----BEGIN CERT.*?-----END CERTIFICATE-----/m).each do |pem|
      store.add_cert(OpenSSL::X509::Certificate.new(pem))
    end
    if File.file?(CRL)
      File.binread(CRL).scan(/-----BEGIN X509 CRL-----.*?-----END X509 CRL-----/m).each do |pem|
        store.add_crl(OpenSSL::X509::CRL.new(pem))
      end
      store.flags = OpenSSL::X509::V_FLAG_CRL_CHECK | OpenSSL::X509::V_FLAG_CRL_CHECK_ALL
    end
    c.cert_store = store
    c.cert = OpenSSL::X509::Certificate.new(File.binread(CERT))
    c.key = OpenSSL::PKey.read(File.binread(KEY))
    c
  end
  def ask(address, port, name, path)
    Timeout.timeout(15) do
      tcp = Socket.tcp(address, port, connect_timeout: 5)
      ssl = OpenSSL::SSL::SSLSocket.new(tcp, context)
      ssl.hostname = name
      ssl.sync_close = true
      begin
        ssl.connect
        ssl.post_connection_check(name)
        return [nil, "", ssl.peer_cert] unless path
        ssl.write("GET #{path} HTTP/1.0\r\nHost: #{name}\r\nAccept: application/json, text/plain\r\n\r\n")
        answer = +""
        while answer.bytesize < 1_000_000 && (part = (ssl.readpartial(16384) rescue nil))
          answer << part
        end
        head, body = answer.split("\r\n\r\n", 2)
        [head.to_s[/\AHTTP\S+ (\d+)/, 1].to_s, body.to_s, ssl.peer_cert]
      ensure
        ssl.close
      end
    end
  end
  members = $stdin.each_line.map(&:split).reject(&:empty?)
  reports = members.map do |member, port, names|
    Thread.new do
      out = ["[#{member}]"]
      begin
        addresses = Addrinfo.getaddrinfo(member, port.to_i, nil, :STREAM).map(&:ip_address).uniq
        address = addresses.first
        out << "address=" + addresses.join(" ")
        code, body, cert = ask(address, port.to_i, member, "/status/v1/services?level=critical")
        out << "serial=" + cert.serial.to_s(16)
        JSON.parse(body).each { |name, about| out << "service=#{name} #{about["state"]}" } if code == "200"
        out << "status=" + code
        names.to_s.split(",").each do |name|
          begin
            ask(address, port.to_i, name, nil)
            out << "answers=" + name
          rescue OpenSSL::SSL::SSLError => e
            out << "refused=#{name} #{e.message}"
          end
        end
        out << "ca_status=" + ask(address, port.to_i, member, "/status/v1/simple/ca")[0]
        out << "ca_served=" + ask(address, port.to_i, member, "/puppet-ca/v1/certificate/ca")[0]
        code, body, = ask(address, port.to_i, member, "/puppet/v3/environments")
        out << "environments_status=" + code
        JSON.parse(body)["environments"].keys.sort.each { |e| out << "environment=" + e } if code == "200"
      rescue Timeout::Error
        out << "error=no answer in time"
      rescue StandardError => e
        out << "error=#{e.class}: #{e.message}".tr("\r\n", " ")
      end
      out
    end
  end
  reports.each { |thread| puts thread.value }
' "$PS_hostcert" "$PS_hostprivkey" "$PS_localcacert" "$PS_hostcrl"
