# What answers at pc_names, port pc_port, and whether this host trusts it. Asks only what Puppet
# Server answers to anybody, and sends nothing but the question, so a strange peer learns nothing.
[ -z "$PC_puppetserver" ] || pc_names="$pc_names $PS_certname"
pc_names=$(printf '%s\n' $pc_names | sort -u)
if [ -n "$PC_ruby" ]; then
    pc_within 28 "$PC_ruby" --disable-gems -ropenssl -rsocket -rtimeout -e '
      def talk(name, port)
        ssl = tcp = nil
        Timeout.timeout(8) do
          tcp = Socket.tcp(name, port, connect_timeout: 5)
          context = OpenSSL::SSL::SSLContext.new
          context.verify_mode = OpenSSL::SSL::VERIFY_NONE
          ssl = OpenSSL::SSL::SSLSocket.new(tcp, context)
          ssl.hostname = name
          ssl.connect
          yield ssl
        end
      ensure
        ssl.close if ssl
        tcp.close if tcp && !tcp.closed?
      end
      def ask(ssl, name, path)
        ssl.write("GET #{path} HTTP/1.0\r\nHost: #{name}\r\nAccept: text/plain\r\n\r\n")
        answer = +""
        while answer.bytesize < 65536 && (part = (ssl.readpartial(16384) rescue nil))
          answer << part
        end
        head, body = answer.split("\r\n\r\n", 2)
        [head.to_s[/\AHTTP\S+ (\d+)/, 1].to_s, head.to_s[/^date: *([^\r\n]*)/i, 1], body.to_s]
      end
      def sha(certificate)
        OpenSSL::Digest.new("SHA256", certificate.to_der).hexdigest.upcase.scan(/../).join(":")
      end
      def trusted(certificate, chain, name, bundle)
        return "unknown" unless File.file?(bundle)
        store = OpenSSL::X509::Store.new
        store.add_file(bundle)
        return "no: " + store.error_string unless store.verify(certificate, chain)
        return "no: the certificate does not carry the name" unless
          OpenSSL::SSL.verify_certificate_identity(certificate, name)
        "yes"
      rescue OpenSSL::OpenSSLError => e
        "no: " + e.message
      end
      port, bundle = ARGV.shift.to_i, ARGV.shift
      reports = ARGV.map do |name|
        Thread.new do
          out = ["[#{name}]"]
          begin
            talk(name, port) do |ssl|
              out << "tcp=open" << "peer=" + ssl.io.remote_address.ip_address
              c = ssl.peer_cert
              out << "subject=" + c.subject.to_s(OpenSSL::X509::Name::RFC2253)
              out << "serial=" + c.serial.to_s(16) << "not_after=" + c.not_after.to_i.to_s
              out << "fingerprint=" + sha(c)
              names = c.extensions.find { |e| e.oid == "subjectAltName" }
              names.value.split(", ").each { |n| out << "san=" + n.sub("IP Address:", "IP:") } if names
              out << "trusted=" + trusted(c, ssl.peer_cert_chain, name, bundle)
              before = Time.now
              code, date, body = ask(ssl, name, "/status/v1/simple/ca")
              after = Time.now
              out << "status=" + code + " " + body[0, 80].tr("\r\n", " ")
              if date
                middle = before.to_f + (after - before) / 2
                theirs = Time.gm(*date.scan(/\d+|[A-Z][a-z]{2}(?= \d{4})/).values_at(2, 1, 0, 3, 4, 5))
                out << format("ahead=%.1f", middle - theirs.to_f - 0.5)
              end
            end
            talk(name, port) do |ssl|
              code, _, body = ask(ssl, name, "/puppet-ca/v1/certificate/ca")
              out << "ca_status=" + code
              pem = body[/-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----/m]
              out << "ca_fingerprint=" + sha(OpenSSL::X509::Certificate.new(pem)) if pem
            end
          rescue SocketError => e
            out << "tcp=unresolved" << "error=" + e.message
          rescue Timeout::Error, SystemCallError => e
            out << "tcp=closed" unless out.include?("tcp=open")
            out << "error=" + e.message
          rescue StandardError => e
            out << "error=" + e.message
          end
          out
        end
      end
      reports.each { |thread| puts thread.value }
    ' "$pc_port" "$PS_localcacert" $pc_names
    exit
fi
for n in $pc_names; do
    printf '[%s]\n' "$n"
    if [ -z "$PC_openssl" ]; then echo 'tcp=unknown'; continue; fi
    c=$(pc_within 8 "$PC_openssl" s_client -connect "$n:$pc_port" -servername "$n" </dev/null 2>/dev/null |
        sed -n '/-----BEGIN CERTIFICATE-----/,/-----END CERTIFICATE-----/p')
    if [ -z "$c" ]; then
        if getent ahosts "$n" >/dev/null 2>&1; then echo 'tcp=closed'; else echo 'tcp=unresolved'; fi
        continue
    fi
    printf 'tcp=open\ntrusted=unknown\n'
    printf '%s\n' "$c" | "$PC_openssl" x509 -noout -fingerprint -sha256 | sed 's/^.*=/fingerprint=/'
    printf '%s\n' "$c" | "$PC_openssl" x509 -noout -serial | sed 's/^.*=/serial=/'
    printf '%s\n' "$c" | "$PC_openssl" x509 -noout -text |
        sed -n '/X509v3 Subject Alternative Name/{n;s/^ *//;s/IP Address:/IP:/g;p;}' |
        tr ',' '\n' | sed 's/^ */san=/'
done
