# What is below one part of the code, with its SHA-256 each. Set before: root, below (`.`: all).
cd "$root" 2>/dev/null || { [ -f "$root" ] && printf 'entry=%s .\n' "$(sha256sum <"$root" | cut -c1-64)"; exit 0; }
"$PC_ruby" --disable-gems -ropen3 -rdigest -e '
  Encoding.default_external = Encoding::BINARY
  skip = %w[.git .hg .svn .resource_types .pmrunbook-revision .r10k-deploy.json*].flat_map { |n| ["-o", "-name", n] }.drop(1)
  out, = Open3.capture2("find", "-P", "./" + ARGV[0], "(", *skip, ")", "-prune", "-o", "(", "-type", "f", "-o", "-type", "l", ")",
                        "-printf", "%y\\0%p\\0%l\\0", err: File::NULL)
  out.split("\0", -1).each_slice(3) do |kind, path, target|
    next unless target
    is = kind == "l" ? "link:" + target : Digest::SHA256.file(path).hexdigest
    puts "entry=" + [is, path.delete_prefix("./").delete_prefix("./")].map { |w| w.gsub(/[\x00-\x20%\x7f]/n) { |c| format("%%%02X", c.ord) } }.join(" ")
  end
' "$below"
:
