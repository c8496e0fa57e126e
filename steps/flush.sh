# Have this host's own Puppet Server drop what it keeps in memory of all environments, and note when.
# Set before: ruby, flush_at, flush_cert, flush_key, flush_bundle; pc_client of client.sh.
flush_caches() {
    at=$(date +%s.%N)
    "$ruby" --disable-gems -ropenssl -rnet/http -e "$pc_client" -e '
      url, cert, key, bundle = ARGV
      answer = client(url, cert, key, bundle, 60).delete("/puppet-admin-api/v1/environment-cache")
      abort "Error: #{url} answers #{answer.code} #{answer.body.to_s[0, 200]}" unless answer.code == "204"
    ' "$flush_at" "$flush_cert" "$flush_key" "$flush_bundle" || return 1
    mkdir -p -m 0700 -- /var/lib/pmrunbook /var/lib/pmrunbook/proofs &&
        (umask 077 && printf 'at=%s\n' "$at" >/var/lib/pmrunbook/proofs/.flushed) &&
        mv -f -- /var/lib/pmrunbook/proofs/.flushed /var/lib/pmrunbook/proofs/flushed
}
