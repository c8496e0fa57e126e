# Certificates and CRLs on this host's disk; of a private key only whether it fits its certificate.
[ -n "$PC_ruby" ] && [ -n "$PS_hostcert" ] || exit 0
pc_within 25 "$PC_ruby" --disable-gems -ropenssl -e '
  def certificate(c)
    puts "subject=" + c.subject.to_s(OpenSSL::X509::Name::RFC2253)
    puts "issuer=" + c.issuer.to_s(OpenSSL::X509::Name::RFC2253)
    puts "serial=" + c.serial.to_s(16), "not_after=" + c.not_after.to_i.to_s
    puts "fingerprint=" + OpenSSL::Digest.new("SHA256", c.to_der).hexdigest.upcase.scan(/../).join(":")
    c.extensions.each do |e|
      if e.oid == "subjectAltName"
        e.value.split(", ").each { |n| puts "san=" + n.sub("IP Address:", "IP:") }
      elsif e.oid.start_with?("1.3.6.1.4.1.34380.")
        puts "extension=" + e.oid
      end
    end
  end
  def crl(r)
    puts "issuer=" + r.issuer.to_s(OpenSSL::X509::Name::RFC2253)
    puts "last_update=" + r.last_update.to_i.to_s, "next_update=" + r.next_update.to_i.to_s
    number = r.extensions.find { |e| e.oid == "crlNumber" }
    puts "number=" + number.value if number
  end
  def each_pem(label, path, kind)
    text = path.empty? ? "" : File.binread(path)
    text.scan(/-----BEGIN #{kind}-----.*?-----END #{kind}-----/m).each_with_index do |pem, i|
      puts "[#{label} #{i}]"
      begin
        yield pem
      rescue OpenSSL::OpenSSLError => e
        puts "error=" + e.message
      end
    end
  rescue SystemCallError => e
    puts "[#{label} 0]", "error=" + e.message unless e.is_a?(Errno::ENOENT)
  end
  hostcert, hostprivkey, localcacert, hostcrl, cacert, cacrl = ARGV
  each_pem("hostcert", hostcert, "CERTIFICATE") do |pem|
    c = OpenSSL::X509::Certificate.new(pem)
    certificate(c)
    begin
      fits = c.check_private_key(OpenSSL::PKey.read(File.binread(hostprivkey)))
      puts "key=" + (fits ? "fits" : "differs")
    rescue SystemCallError
      puts "key=missing"
    end
  end
  [["localcacert", localcacert], ["cacert", cacert]].each do |label, path|
    each_pem(label, path, "CERTIFICATE") { |pem| certificate(OpenSSL::X509::Certificate.new(pem)) }
  end
  [["hostcrl", hostcrl], ["cacrl", cacrl]].each do |label, path|
    each_pem(label, path, "X509 CRL") { |pem| crl(OpenSSL::X509::CRL.new(pem)) }
  end
  puts "[now]", "epoch=" + Time.now.to_i.to_s
' "$PS_hostcert" "$PS_hostprivkey" "$PS_localcacert" "$PS_hostcrl" "$PS_cacert" "$PS_cacrl"
