# What the CA has of the names in pc_names: a request that waits, a certificate; how far the CRL
# drill is (its certname is pc_drill), and whether the window for alternative names is open.
[ -n "$PC_ruby" ] && [ -n "$PS_csrdir" ] || exit 0
# shellcheck disable=SC2086  # a list of words
"$PC_ruby" --disable-gems -ropenssl -e '
  def sha(der)
    OpenSSL::Digest.new("SHA256", der).hexdigest.upcase.scan(/../).join(":")
  end
  def half(key)
    sha(key.respond_to?(:public_to_der) ? key.public_to_der : key.to_der)
  end
  requests, signed, cacrl, drill, window, *names = ARGV
  names.each do |name|
    puts "[#{name}]"
    begin
      request, certificate = "#{requests}/#{name}.pem", "#{signed}/#{name}.pem"
      if File.file?(request)
        asked = OpenSSL::X509::Request.new(File.binread(request))
        puts "request=" + sha(asked.to_der), "request_key=" + half(asked.public_key)
      end
      if File.file?(certificate)
        given = OpenSSL::X509::Certificate.new(File.binread(certificate))
        puts "signed=" + sha(given.to_der), "signed_key=" + half(given.public_key)
        names = given.extensions.find { |e| e.oid == "subjectAltName" }
        names.value.split(", ").each { |n| puts "signed_name=" + n } if names
      end
    rescue OpenSSL::OpenSSLError => e
      puts "error=" + e.message
    end
  end
  puts "[window]", "open=yes" if File.directory?(window)
  if File.directory?(drill)
    puts "[drill]", "left=yes"
    begin
      Dir.glob(drill + "/accepted-*").sort.each { |f| puts "accepted=" + File.basename(f)[9..-1] }
      serial = OpenSSL::X509::Certificate.new(File.binread(drill + "/cert.pem")).serial
      puts "issued=yes"
      lists = File.binread(cacrl).scan(/-----BEGIN X509 CRL-----.*?-----END X509 CRL-----/m)
      listed = lists.any? { |l| OpenSSL::X509::CRL.new(l).revoked.any? { |r| r.serial == serial } }
      puts "revoked=yes" if listed
    rescue SystemCallError, OpenSSL::OpenSSLError => e
      puts "error=" + e.message
    end
  end
' "$PS_csrdir" "$PS_signeddir" "$PS_cacrl" /var/lib/pmrunbook/drill /var/lib/pmrunbook/window $pc_names
