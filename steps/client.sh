# Ruby for a further `-e`: an HTTPS client that shows a host's certificate and trusts the site's CA
# alone. It wants -ropenssl and -rnet/http.
pc_client='
  def client(url, cert, key, bundle, seconds = 15)
    host, port = url.split(":")
    http = Net::HTTP.new(host, port.to_i, nil)
    http.use_ssl = true
    http.open_timeout, http.read_timeout = 5, seconds
    http.verify_mode = OpenSSL::SSL::VERIFY_PEER
    http.ca_file = bundle
    http.cert = OpenSSL::X509::Certificate.new(File.binread(cert))
    http.key = OpenSSL::PKey.read(File.binread(key))
    http
  end
'
