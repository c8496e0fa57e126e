# The code this host's Puppet Server compiles, and what else a catalog depends on, as digests: only
# they travel. Set before: pc_salt, pc_nodes (whom the classifier is asked about), pc_files (further
# files and folders that must be alike).
for f in /var/lib/pmrunbook/seed-*.tar.gz; do [ -f "$f" ] && printf 'seed=%s\n' "$f"; done
[ -n "$PC_puppetserver" ] && [ -n "$PC_ruby" ] || exit 0
pc_server_setting() { printf '%s\n' "$PC_server" | sed -n "s/^$1 = //p"; }
codedir=$(pc_server_setting codedir)
environments=$(pc_server_setting environmentpath)
printf 'codedir=%s\nenvironmentpath=%s\n' "$codedir" "$environments"
"$PC_ruby" --disable-gems -rdigest -retc -rjson -ryaml -ropen3 -e '
  salt, user, codedir, environmentpath, base, hiera, terminus, enc, confdir, serverconf, nodes, files = ARGV
  Encoding.default_external = Encoding::BINARY
  # What version control and deployments note beside the code, and Puppet generates from it.
  BESIDE = %w[.git .hg .svn .resource_types .pmrunbook-revision .r10k-deploy.json*]
  def line(key, *words)
    puts "#{key}=" + words.map { |w| w.to_s.gsub(/[\x00-\x20%\x7f]/n) { |c| format("%%%02X", c.ord) } }.join(" ")
  end
  # Every file and link below, relative: [kind, size, path, target, change]; links are not followed.
  def listed(root)
    skip = BESIDE.flat_map { |n| ["-o", "-name", n] }.drop(1)
    out, = Open3.capture2("find", "-P", ".", "(", *skip, ")", "-prune", "-o", "(", "-type", "f", "-o", "-type", "l", ")",
                          "-printf", "%y\\0%s\\0%P\\0%l\\0%C@\\0", chdir: root, err: File::NULL)
    out.split("\0", -1).each_slice(5).select { |found| found.size == 5 }
  rescue SystemCallError
    []
  end
  # SHA-256 of files, by path: as many sha256sum at work as there are processors, politely.
  def sums(paths)
    shards = Array.new([Etc.nprocessors, 1].max) { [] }
    paths.each_slice(32).with_index { |some, i| shards[i % shards.size].concat(some) }
    shards.reject(&:empty?).map do |some|
      Thread.new do
        IO.popen(["nice", "xargs", "-0", "sha256sum", "-b", "--", err: File::NULL], "r+b") do |io|
          feed = Thread.new { io.write(some.join("\0")); io.close_write }
          found = io.each_line.map do |l|
            odd = l.start_with?("\\")
            name = l[(odd ? 67 : 66)..].chomp("\n")
            name = name.gsub(/\\[\\nr]/) { |e| { "\\\\" => "\\", "\\n" => "\n", "\\r" => "\r" }[e] } if odd
            [name, l[odd ? 1 : 0, 64]]
          end
          feed.join
          found
        end
      end
    end.flat_map(&:value).to_h
  end
  def module_folders(root)
    conf = File.file?(root + "/environment.conf") ? File.binread(root + "/environment.conf") : ""
    given = conf[/^\s*modulepath\s*=\s*(.*?)\s*$/, 1] || "modules"
    given.split(":").reject { |d| d.start_with?("/", "$") }.map { |d| d.chomp("/").delete_prefix("./") }
  end
  def part(path, folders)
    folder = folders.find { |d| path.start_with?(d + "/") }
    folder ? folder + "/" + path[(folder.size + 1)..].split("/", 2)[0] : path.split("/", 2)[0]
  end
  # The commit that a working copy of Git is at; empty where there is none, or no Git to ask.
  def head(root)
    return "" unless File.exist?(root + "/.git")
    Open3.capture2("git", "-c", "safe.directory=*", "-C", root, "rev-parse", "HEAD", err: File::NULL)[0].strip
  rescue SystemCallError
    ""
  end
  # How a tree calls its own state: whoever deployed it left a note, or it is a working copy.
  def revision(root)
    return File.binread(root + "/.pmrunbook-revision").strip if File.file?(root + "/.pmrunbook-revision")
    file, config = root + "/.r10k-deploy.json", root + "/.git/config"
    # A Puppetfile that cannot be resolved leaves the new checkout beside the note of the deployment before.
    if File.file?(file) || File.file?(config) && File.binread(config).include?("[remote \"cache\"]")
      note = File.file?(file) ? JSON.parse(File.binread(file)) : {}
      noted = note["signature"].to_s
      at = [head(root), noted].find { |found| !found.empty? }.to_s
      return at[0, 12] + (note["deploy_success"] == false || at != noted ? "+failed" : "")
    end
    if File.exist?(root + "/.git")
      edits, = Open3.capture2("git", "-c", "safe.directory=*", "-C", root, "status", "--porcelain", "--", ".", ":!.resource_types", err: File::NULL)
      return head(root)[0, 12] + (edits.empty? ? "" : "+edited")
    end
    if File.file?(root + "/.hg/dirstate")
      edits, = Open3.capture2({ "HGPLAIN" => "1" }, "hg", "-R", root, "status", err: File::NULL)
      return File.binread(root + "/.hg/dirstate", 20).unpack1("H*")[0, 12] + (edits.empty? ? "" : "+edited")
    end
    if File.directory?(root + "/.svn")
      said, = Open3.capture2("svnversion", "-n", root, err: File::NULL)
      edits, = Open3.capture2("svn", "--non-interactive", "status", root, err: File::NULL)
      return "r" + said[/\d+/].to_s + (edits.empty? ? "" : "+edited")
    end
    ""
  rescue StandardError
    ""
  end

  # --- trees: each environment, and what all of them share
  trees = {}
  environmentpath.split(":").each do |folder|
    (Dir.children(folder).sort rescue []).each do |name|
      root = folder + "/" + name
      next unless File.directory?(root) && !name.start_with?(".", "pmrunbook_exchange_")
      next line("misnamed", name) unless name =~ /\A\w+\z/n
      trees[name] ||= [root, listed(root), module_folders(root)]
    end
  end
  stock, trees = trees.partition { |_, (_, list, _)| list.none? { |f| !%w[environment.conf hiera.yaml].include?(f[2]) } }.map(&:to_h)
  shared = base.split(":").select { |d| File.directory?(d) }.map { |d| [d, listed(d), [""]] }
  configs = ([hiera] + trees.values.map { |root, *| root + "/hiera.yaml" }).select { |f| File.file?(f) }
  parsed = configs.to_h { |f| [f, (YAML.safe_load(File.binread(f), permitted_classes: [Symbol], aliases: true) rescue nil)] }
  walk = lambda do |value, &seen|
    case value
    when Hash then value.each { |k, v| seen.call(k.to_s.delete_prefix(":"), v); walk.call(v, &seen) }
    when Array then value.each { |v| walk.call(v, &seen) }
    end
  end
  inside = trees.values.map(&:first) + stock.values.map(&:first)
  walk.call(parsed[hiera]) do |key, value|
    next unless key == "datadir" && value.is_a?(String)
    at = File.expand_path(value.split("%{", 2)[0], File.dirname(hiera))
    shared << [at, listed(at), []] if File.directory?(at) && environmentpath.split(":").none? { |d| (at + "/").start_with?(d + "/") }
  end
  files.split("\n").each do |at|
    if File.directory?(at) then shared << [at, listed(at), []]
    elsif !File.file?(at) then line("lacking", at)
    end
  end
  single = ([hiera] + files.split("\n") + %w[routes.yaml puppetdb.conf custom_trusted_oid_mapping.yaml].map { |n| confdir + "/" + n })
  single = single.uniq.select { |f| File.file?(f) }
  wanted = trees.values.flat_map { |root, list, _| list.select { |f| f[0] == "f" }.map { |f| root + "/" + f[2] } }
  wanted += shared.flat_map { |root, list, _| list.select { |f| f[0] == "f" }.map { |f| root + "/" + f[2] } }
  keys = []
  parsed.each_value { |v| walk.call(v) { |k, at| keys << at if k =~ /(public|private)_key\z|keyring\z|gnupghome\z/ && at.is_a?(String) } }
  sum = sums((wanted + single + [enc].select { |f| File.file?(f) }).uniq)
  digest = ->(list) { Digest::SHA256.hexdigest(list.sort.join("\n"))[0, 16] }
  entries = lambda do |root, list|
    list.map { |kind, _, path, target, _| [path, kind == "l" ? "link " + target : sum[root + "/" + path] || "unread"] }
  end
  describe = lambda do |name, root, list, folders|
    found = entries.call(root, list)
    groups = found.group_by { |path, _| part(path, folders) }
    folders.each { |d| (Dir.children(root + "/" + d) rescue []).each { |m| groups[d + "/" + m] ||= [] if File.directory?("#{root}/#{d}/#{m}") } }
    groups.sort.each { |p, some| line("part", name, p, some.size, digest.call(some.map { |path, is| path + "\0" + is })) }
    digest.call(groups.map { |p, some| p + "\0" + digest.call(some.map { |path, is| path + "\0" + is }) })
  end
  puts "[trees]"
  whole = trees.to_h do |name, (root, list, folders)|
    all = describe.call(name, root, list, folders)
    line("tree", name, list.size, list.sum { |f| f[1].to_i }, all)
    line("root", name, File.realpath(root))
    kept = File.file?(root + "/environment.conf") && File.binread(root + "/environment.conf")[/^\s*environment_timeout\s*=\s*(\S+)/, 1]
    line("timeout", name, kept) if kept
    line("revision", name, revision(root)) unless revision(root).empty?
    blind, = Open3.capture2("runuser", "-u", user, "--", "find", "-L", root, "(", "-name", ".git", "-o", "-name", ".hg", "-o", "-name", ".svn", ")", "-prune", "-o", "!", "-readable", "-print", "-quit", err: File::NULL)
    line("unreadable", name, blind.chomp) unless blind.empty?
    [name, all]
  end
  shared.uniq(&:first).each { |root, list, _| describe.call("/", root, list, []).then { |all| line("shared", root, list.size, all) } }

  puts "[classifier]"
  line("terminus", terminus)
  if terminus == "exec"
    line("script", enc, File.file?(enc) ? sum[enc].to_s[0, 16] : "missing")
    nodes.split.map do |node|
      Thread.new do
        out, err, how = Open3.capture3("runuser", "-u", user, "--", "timeout", "20", enc, node)
        next ["failed", node, "exit #{how.exitstatus} #{err.strip[0, 120]}"] unless how.success?
        said = YAML.safe_load(out, permitted_classes: [Symbol], aliases: true)
        next ["failed", node, "it prints no YAML mapping"] unless said.nil? || said == false || said.is_a?(Hash)
        sorted = ->(v) { v.is_a?(Hash) ? v.map { |k, x| [k.to_s, sorted.call(x)] }.sort_by(&:first) : v.is_a?(Array) ? v.map(&sorted) : v }
        classes = said ? (said["classes"] || {}).size : 0
        ["answer", node, Digest::SHA256.hexdigest(JSON.generate(sorted.call(said || {})).b)[0, 16], classes]
      rescue StandardError => e
        ["failed", node, e.message[0, 120]]
      end
    end.map(&:value).each { |words| line(*words) }
  end

  puts "[server]"
  single.each { |f| line("same", "file:" + f, sum[f].to_s[0, 16]) }
  keys.uniq.sort.each do |at|
    next line("key", at, "missing") unless File.file?(at)
    open_ = system("runuser", "-u", user, "--", "test", "-r", at, err: File::NULL)
    line("key", at, Digest::SHA256.hexdigest(salt + File.binread(at))[0, 16], File.stat(at).mode.to_s(8)[-3..], open_ ? "readable" : "unreadable")
  end
  conf = File.file?(serverconf) ? File.binread(serverconf) : ""
  homes = conf.scan(/^\s*gem-(?:home|path)\s*[:=]\s*(.*)$/).join(" ").scan(%r{/[^\s"\[\],$]+})
  gems = homes.flat_map { |h| Dir.glob(h + "/specifications/*.gemspec").map { |g| File.basename(g, ".gemspec") } }.uniq.sort
  gems.each { |g| line("gem", g) }
  puts "[]"
  changes = trees.flat_map { |name, (root, list, _)| [File.lstat(root).ctime.to_f] + list.map { |f| f[4].to_f } }
  puts format("changed=%.3f", changes.max || 0)
  stock.each_key { |name| line("stock", name) }
  whole.each { |name, all| line("environment", name, all) }
' "$pc_salt" "$(pc_server_setting user)" "$codedir" "$environments" "$(pc_server_setting basemodulepath)" \
    "$(pc_server_setting hiera_config)" "$(pc_server_setting node_terminus)" "$(pc_server_setting external_nodes)" \
    "$(pc_server_setting confdir)" "$PC_server_confdir/conf.d/puppetserver.conf" "$pc_nodes" "$pc_files"
printf '[auth.conf]\npath=%s\n' "$PC_server_confdir/conf.d/auth.conf"
pc_file "$PC_server_confdir/conf.d/auth.conf"
:
