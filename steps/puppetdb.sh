# PuppetDB on this host: how it is configured, the database behind it, and whether it runs with all
# that. Set before: pc_port (its TLS port), pc_name and pc_user of the database. No password is read.
if [ -n "$PC_vendor" ] || [ -d /opt/puppetlabs/server/apps/puppetdb ]; then
    pd_etc=/etc/puppetlabs/puppetdb
else
    pd_etc=/etc/puppetdb
fi
pd_of() { # key, file, section: a setting of a file of `key = value` lines
    sed -n "/^[[:space:]]*\[$3\]/,/^[[:space:]]*\[/s/^[[:space:]]*$1[[:space:]]*=[[:space:]]*\(.*[^[:space:]]\)[[:space:]]*$/\1/p" "$2" 2>/dev/null | head -n 1
}
pd_named() {
    printf '[%s]\npath=%s\n' "$1" "$2"
    pc_file "$2"
}
pd_list() { # setting, file: the list of who may ask, where the last of all files says so
    for f in "$pd_etc"/conf.d/*.ini; do
        [ -f "$f" ] && awk -v file="$f" '
            /^[[:space:]]*\[/ {section = $0; gsub(/[][[:space:]]/, "", section); next}
            section == "puppetdb" && match($0, /^[[:space:]]*certificate-(allow|white)list[[:space:]]*=/) {
                key = $0; sub(/[[:space:]]*=.*/, "", key); sub(/^[[:space:]]*/, "", key)
                value = $0; sub(/^[^=]*=[[:space:]]*/, "", value); sub(/[[:space:]]*$/, "", value)
                print key " " file " " value
            }' "$f"
    done
}
[ -d "$pd_etc/conf.d" ] || pd_etc=
printf 'etc=%s\n' "$pd_etc"
pd_pid=$(systemctl show -p MainPID puppetdb 2>/dev/null | sed 's/.*=//')
pd_began=
if [ "${pd_pid:-0}" -gt 0 ] 2>/dev/null && [ -r "/proc/$pd_pid/stat" ]; then
    pd_ticks=$(sed 's/^.*) //' "/proc/$pd_pid/stat" | cut -d' ' -f20)
    pd_began=$(($(sed -n 's/^btime //p' /proc/stat) + pd_ticks / $(getconf CLK_TCK)))
fi
printf 'main_pid=%s\n' "$pd_pid"
ss -Hltnp "sport = :$pc_port" 2>/dev/null |
    sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/listener=\1 \2/p' | sort -u
[ -e /var/lib/pmrunbook/agent-paused ] && echo 'agent_paused=yes'
# --- the database ---
command -v psql >/dev/null 2>&1 && echo 'psql=yes'
if command -v psql >/dev/null 2>&1 && pd_home=$(getent passwd postgres); then
    pd_sql() { (cd / && pc_within 10 runuser -u postgres -- psql -qtAX -c "$1" "${2:-postgres}" 2>/dev/null); }
    if pd_version=$(pd_sql 'show server_version'); then
        printf 'postgres=%s\n' "$pd_version"
        # The names are of letters, digits, '_' and '-' only (inventory.schema.json).
        printf 'role=%s\n' "$(pd_sql "select 'yes' from pg_roles where rolname = '$pc_user'")"
        printf 'database=%s\n' "$(pd_sql "select 'yes' from pg_database where datname = '$pc_name'")"
        printf 'extension=%s\n' "$(pd_sql "select 'yes' from pg_extension where extname = 'pg_trgm'" "$pc_name")"
    else
        echo 'postgres=stopped'
    fi
fi
[ -n "$pd_etc" ] || exit 0
pd_db=$pd_etc/conf.d/database.ini
if [ -f "$pd_db" ]; then
    printf 'database_ini=%s\nsubname=%s\nusername=%s\n' "$pd_db" "$(pd_of subname "$pd_db" database)" "$(pd_of username "$pd_db" database)"
    pd_word=$(pd_of password "$pd_db" database)
    [ -n "$pd_word" ] && echo 'password=yes'
    # As PuppetDB logs in; the password is in the environment of that one process of root's.
    if [ -n "$pd_word" ] && command -v psql >/dev/null 2>&1; then
        pd_place=$(pd_of subname "$pd_db" database)
        pd_place=${pd_place#//} pd_query=
        case $pd_place in *\?*) pd_query="&${pd_place#*\?}" pd_place=${pd_place%%\?*} ;; esac
        pd_server=${pd_place%%/*} pd_tcp=5432
        case $pd_server in *:*) pd_tcp=${pd_server##*:} ;; esac
        pd_option() { case $pd_query in *"&$1="*) pd_x=${pd_query#*"&$1="} && printf %s "${pd_x%%&*}" ;; *) printf %s "$2" ;; esac; }
        if pd_said=$(cd / && PGPASSWORD=$pd_word PGSSLMODE=$(pd_option sslmode prefer) \
            PGSSLROOTCERT=$(pd_option sslrootcert '') PGCONNECT_TIMEOUT=8 pc_within 12 psql -w -qtAX \
            -h "${pd_server%%:*}" -p "$pd_tcp" -U "$(pd_of username "$pd_db" database)" -d "${pd_place#*/}" \
            -c "select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int" 2>&1); then
            printf 'login=yes\nconnections=%s\npool=%s\n' "$pd_said" "$(pd_of maximum-pool-size "$pd_db" database)"
        else
            printf 'login=no %s\n' "$(printf %s "$pd_said" | tr '\n' ' ' | head -c 300)"
        fi
    fi
fi
# --- its files ---
pd_list | sed 's/^/list=/'
pd_allow=$(pd_list | tail -n 1 | cut -d' ' -f3-)
pd_named jetty.ini "$pd_etc/conf.d/jetty.ini"
pd_named puppetdb.ini "$pd_etc/conf.d/puppetdb.ini"
pd_named allowlist "${pd_allow:-$pd_etc/certificate-allowlist}"
pd_defaults=/etc/default/puppetdb
[ -e "$pd_defaults" ] || [ ! -d /etc/sysconfig ] || pd_defaults=/etc/sysconfig/puppetdb
pd_named defaults "$pd_defaults"
echo '[state]'
pd_same=same
for pd_pair in "private.pem $PS_hostprivkey" "public.pem $PS_hostcert" "ca.pem $PS_localcacert"; do
    pd_copy=$pd_etc/ssl/${pd_pair%% *} pd_own=${pd_pair#* }
    if [ ! -f "$pd_copy" ]; then pd_same=absent; break; fi
    cmp -s "$pd_copy" "$pd_own" || pd_same=differs
done
printf 'tls=%s\n' "$pd_same"
if [ -n "$pd_began" ]; then
    for f in "$pd_etc"/conf.d/*.ini "$pd_etc"/ssl/*.pem "$pd_allow" "$pd_defaults"; do
        [ -e "$f" ] && [ "$(stat -L -c %Y "$f")" -gt "$pd_began" ] && printf 'stale=%s\n' "$f"
    done
fi
# What it could not store it keeps there; its metrics, which count that, are closed to us.
pd_vardir=$(pd_of vardir "$pd_etc/conf.d/config.ini" global)
pd_queue=${pd_vardir:-/var/lib/puppetdb}/stockpile
printf 'discarded=%s\n' "$(find "$pd_queue/discard" -type f -mtime -1 2>/dev/null | wc -l)"
# What it failed to store it tries again an hour later.
printf 'stuck=%s\n' "$(find "$pd_queue/cmd/q" -type f -mmin +90 2>/dev/null | wc -l)"
# --- what it says of itself, on its plain port: no certificate is asked for there ---
[ -n "$PC_ruby" ] && [ -n "$pd_began" ] || exit 0
pd_plain=$(pd_of port "$pd_etc/conf.d/jetty.ini" jetty)
pd_host=$(pd_of host "$pd_etc/conf.d/jetty.ini" jetty)
case $pd_host in '' | localhost | 0.0.0.0) pd_host=127.0.0.1 ;; esac
pc_within 25 "$PC_ruby" --disable-gems -rnet/http -rjson -e '
  host, port = ARGV
  ask = lambda do |path|
    http = Net::HTTP.new(host, port.to_i, nil)
    http.open_timeout, http.read_timeout = 3, 8
    http.get(path, "Accept" => "application/json")
  end
  begin
    answer = ask.("/status/v1/services/puppetdb-status")
    about = (JSON.parse(answer.body) rescue {})
    puts "state=#{about["state"] || answer.code}"
    inside = about["status"].is_a?(Hash) ? about["status"] : {}
    %w[maintenance_mode? queue_depth read_db_up? write_db_up?].each do |key|
      puts "#{key.delete("?")}=#{inside[key]}" if inside.key?(key)
    end
    version = ask.("/pdb/meta/v1/version")
    puts "version=" + JSON.parse(version.body)["version"] if version.code == "200"
    known = ask.("/pdb/query/v4/producers")
    JSON.parse(known.body).first(500).each { |p| puts "producer=#{p["name"]}" } if known.code == "200"
  rescue StandardError => e
    puts "error=#{e.class}: #{e.message}".tr("\r\n", " ")
  end
' "$pd_host" "${pd_plain:-8080}"
