# The database behind PuppetDB: role, database and extension, and the file that tells PuppetDB of
# them. The password is made here, goes to PostgreSQL and into that file, and nowhere else.
# One of the site's own is used with the password it is given.
# Set before: etc (PuppetDB's folder), host, port, name, user; for one of the site's own: subname,
# sslmode, sslrootcert (as far as they are given), password.
set -u
umask 077
ini=$etc/conf.d/database.ini
sql() { (cd / && runuser -u postgres -- psql -qtAX -v ON_ERROR_STOP=1 "$@"); }
unit() { # Debian's is a unit for all clusters, the vendor's has the version in its name
    for u in postgresql $(systemctl list-unit-files --no-legend 'postgresql-[0-9]*.service' 2>/dev/null | cut -d' ' -f1); do
        systemctl cat "$u" >/dev/null 2>&1 && { printf %s "$u"; return 0; }
    done
    return 1
}
running() {
    u=$(unit) || { echo 'Error: no PostgreSQL is installed here' >&2; return 1; }
    if command -v postgresql-setup >/dev/null 2>&1 && [ -z "$(ls -A /var/lib/pgsql/data 2>/dev/null)" ]; then
        postgresql-setup --initdb || return 1
    fi
    systemctl enable --now --quiet "$u" || return 1
    waited=0
    until sql -c 'select 1' >/dev/null 2>&1; do
        [ "$waited" -lt 60 ] || {
            echo 'Error: PostgreSQL does not answer' >&2
            journalctl -u "$u" -u 'postgresql@*' -n 15 --no-pager -o cat >&2
            return 1
        }
        sleep 1
        waited=$((waited + 1))
    done
}
password() { # the one in PuppetDB's file, of the database it writes to
    sed -n '/^[[:space:]]*\[database\]/,/^[[:space:]]*\[/s/^[[:space:]]*password[[:space:]]*=[[:space:]]*//p' \
        "$ini" 2>/dev/null | head -n 1
}
logs_in() { # as PuppetDB will, by the password in its file
    # Of a password file libpq would want more; the environment of this one process is root's alone.
    said=$(cd / && PGPASSWORD=$(password) PGSSLMODE=${sslmode:-prefer} PGSSLROOTCERT=${sslrootcert:-} \
        PGCONNECT_TIMEOUT=10 psql -w -qtAX -h "$host" -p "$port" -U "$user" -d "$name" -c 'select 1' 2>&1)
}
tell_puppetdb() { # where its database is, with the password `word`; what else somebody set stays
    [ -f "$ini" ] || : >"$ini" # Debian's package leaves one with nothing filled in
    subname=//localhost:$port/$name user=$user word=$word awk '
        function ours() {
            print "subname = " ENVIRON["subname"]; print "username = " ENVIRON["user"]
            print "password = " ENVIRON["word"]; done = 1
        }
        /^[[:space:]]*\[/ {inside = $0 ~ /\[database\]/}
        inside && /^[[:space:]]*(subname|username|password)[[:space:]]*=/ {next}
        {print}
        inside && !done && /\[database\]/ {ours()}
        END {if (!done) {print "[database]"; ours()}}
    ' "$ini" >"$ini.new" &&
        chown root:puppetdb -- "$ini.new" && chmod 0640 -- "$ini.new" && sync -- "$ini.new" &&
        mv -f -T -- "$ini.new" "$ini"
}
create_database() {
    running || exit 1
    word=$(password)
    if [ -z "$word" ]; then
        word=$(head -c 30 /dev/urandom | base64 | tr -d '/+=\n')
        [ "${#word}" -ge 30 ] || { echo 'Error: no randomness for a password' >&2; exit 1; }
        tell_puppetdb || exit 1
    fi
    # Over stdin, and past the server's own log: an argument or a statement log would tell it.
    if ! sql <<SQL; then
set log_statement = 'none';
set log_min_duration_statement = -1;
set log_min_error_statement = 'panic';
do \$body\$ begin
    if not exists (select from pg_roles where rolname = '$user') then create role "$user" login; end if;
end \$body\$;
alter role "$user" login password '$word';
SQL
        echo 'Error: the role could not be made' >&2
        exit 1
    fi
    if [ "$(sql -c "select 'yes' from pg_database where datname = '$name'")" != yes ]; then
        # Its own template: the usual one may have another encoding.
        sql -c "create database \"$name\" owner \"$user\" encoding 'UTF8' template template0" || exit 1
    fi
    sql -d "$name" -c 'create extension if not exists pg_trgm' || {
        echo 'Error: the extension pg_trgm is missing: it is in the contrib package of PostgreSQL' >&2
        exit 1
    }
    if ! logs_in && case $said in *[Ii]dent*) true ;; *) false ;; esac then
        # As Red Hat has it, nobody logs in by password from this very host.
        hba=$(sql -c 'show hba_file')
        cp -p -- "$hba" "$hba.pmrunbook" &&
            { printf 'host "%s" "%s" 127.0.0.1/32 md5\nhost "%s" "%s" ::1/128 md5\n' "$name" "$user" "$name" "$user"
                cat -- "$hba.pmrunbook"; } >"$hba" && sql -c 'select pg_reload_conf()' >/dev/null && sleep 1 || exit 1
    fi
    logs_in || { printf 'Error: %s cannot log in to %s: %s\n' "$user" "$name" "$said" >&2; exit 1; }
    echo "database $name is there, $user logs in by password"
}
use_database() { # tried before PuppetDB is: it goes on for ever, and does not tell what is wrong
    {
        printf '[database]\nsubname = %s\nusername = %s\n' "$subname" "$user"
        printf 'password = %s\n' "$password"
    } >"$ini.new" && chown root:puppetdb -- "$ini.new" && chmod 0640 -- "$ini.new" &&
        sync -- "$ini.new" && mv -f -T -- "$ini.new" "$ini" || exit 1
    if ! command -v psql >/dev/null 2>&1; then
        echo 'there is no psql here to try it with: the start of PuppetDB will show'
    elif logs_in; then
        echo "$user logs in to $name on $host"
    else
        printf 'Error: the database does not let %s in: %s\n' "$user" "$said" >&2
        exit 1
    fi
}
drop_database() { # what is in it is kept: it may hold reports that nobody else has
    systemctl stop --quiet puppetdb 2>/dev/null
    if running && [ "$(sql -c "select 'yes' from pg_database where datname = '$name'")" = yes ]; then
        mkdir -p -m 0700 -- /var/lib/pmrunbook/left || exit 1
        kept=/var/lib/pmrunbook/left/$name-$(date +%Y%m%dT%H%M%S).dump
        (cd / && runuser -u postgres -- pg_dump -Fc "$name") >"$kept" || { echo "Error: no copy of $name could be made" >&2; exit 1; }
        sql -c "drop database \"$name\"" && sql -c "drop role \"$user\"" || exit 1
        hba=$(sql -c 'show hba_file')
        [ ! -f "$hba.pmrunbook" ] || { cat -- "$hba.pmrunbook" >"$hba" && rm -f -- "$hba.pmrunbook" && sql -c 'select pg_reload_conf()' >/dev/null; }
        echo "what was in it is in $kept"
    fi
}
