# How many nodes the site's servers know to ask the CA by its name: from the facts they stored.
# Set before: fact, wanted, told. Nodes not heard of for a day are counted apart, and of those that
# adopted it the ones that were not told over ssh: they learned it from their catalog.
[ -n "$PC_puppetserver" ] && [ -n "$PC_ruby" ] || exit 0
vardir=$(sed -n 's/^[^#]*server-var-dir"\{0,1\} *[:=] *"\{0,1\}\([^" ]*\).*/\1/p' \
    "$PC_server_confdir"/conf.d/puppetserver.conf 2>/dev/null | head -n 1)
"$PC_ruby" --disable-gems -e '
  vardir, fact, wanted, *told = ARGV
  now, counts, missing = Time.now, Hash.new(0), []
  files = %w[server_data/facts/*.json json/facts/*.json yaml/facts/*.yaml].flat_map do |pattern|
    Dir.glob(File.join(vardir, pattern))
  end
  files.each do |file|
    next counts["older"] += 1 if now - File.mtime(file) > 86_400
    text = File.read(file, encoding: "UTF-8", invalid: :replace)
    value = text[/"#{fact}"\s*:\s*"([^"]*)"/, 1] || text[/^\s+"?#{fact}"?: "?([^"\n]*)"?$/, 1]
    node = File.basename(file, ".*")
    counts["recent"] += 1
    next missing << node if value != wanted
    counts["adopted"] += 1
    counts["learned"] += 1 unless told.include?(node)
  end
  %w[recent adopted learned older].each { |name| puts "#{name}=#{counts[name]}" }
  missing.sort.first(50).each { |name| puts "missing=#{name}" }
' "${vardir:-/var/lib/puppetserver}" "$fact" "$wanted" $told
