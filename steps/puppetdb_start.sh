# Start or restart PuppetDB and wait until it answers: the database is migrated first, which it tells
# by "maintenance". When it does not come, say why. Set before: the functions of denials.sh and dated.sh;
# ruby, etc (its folder), logdir, plain (its plain port), plain_host.
set -u
files=$(printf '%s\n' "$etc"/conf.d/*.ini "$etc"/ssl/*.pem "$etc"/certificate-*list)
log=$logdir/puppetdb.log
began=$(date +%s)
size=$(stat -c %s "$log" 2>/dev/null || echo 0)
look() {
    timeout 15 "$ruby" --disable-gems -rnet/http -rjson -e '
      http = Net::HTTP.new(ARGV[0], ARGV[1].to_i, nil)
      http.open_timeout, http.read_timeout = 3, 8
      about = JSON.parse(http.get("/status/v1/services/puppetdb-status").body)
      inside = about["status"]
      puts "#{about["state"]}#{", in maintenance" if inside["maintenance_mode?"]}"
      exit(about["state"] == "running" && !inside["maintenance_mode?"] ? 0 : 1)
    ' "$plain_host" "$plain" 2>/dev/null
}
explain() {
    said=$(said_since puppetdb)
    printf '%s\n' "$said" | worth_telling 'error|exception|caused by|fatal|unable|refused'
    tell_denials
    case $said in # PuppetDB's own sources and logs (7.x, 8.x)
    *'password authentication failed'*) why='the database refuses the password in database.ini' ;;
    *'schema migration'*'does not recognize'* | *'too new for this version'*)
        why='the database was written by a newer PuppetDB: install that version, or give this one a database of its own' ;;
    *'Connection to '*' refused'* | *'connection attempt failed'* | *'the database system is '*)
        why='the database does not answer' ;;
    *_trgm_ops*'does not exist'*) why='the extension pg_trgm is missing in the database' ;;
    *'does not exist'*) why='the database, or its role, does not exist' ;;
    *'Address already in use'* | *BindException*) why='its port is taken by another program' ;;
    *OutOfMemoryError* | *'insufficient memory'* | *'Could not reserve enough space'*) why='too little memory for its heap' ;;
    # Java calls both of these FileNotFoundException as well.
    *'Permission denied'*) why='a file that the user puppetdb may not read; the lines above name it' ;;
    *'No space left'*) why='a disk is full' ;;
    *FileNotFoundException* | *'No such file'*) why='a file of its configuration is not there; the lines above name it' ;;
    *'Confusing configuration settings'*) why='certificate-whitelist and certificate-allowlist are both set' ;;
    *'Missing PostgreSQL extension'*) why='the extension pg_trgm is missing in the database' ;;
    *'Will retry database connection'*)
        why='the database does not let it in; its log does not tell whether for the address, the user or the password' ;;
    *) why='see the lines above' ;;
    esac
    case $why in
    *'may not read'*) [ -z "$denied" ] || why=$DENIED ;;
    esac
    printf 'Error: PuppetDB does not start: %s\n' "$why" >&2
}
ended() { # its program did, while Debian's unit waits on for it, 5 minutes long
    case $(systemctl show -p MainPID,SubState puppetdb | sort | tr '\n' ' ') in
    'MainPID=0 SubState=start-post '*) true ;;
    *) false ;;
    esac
}
serve() { # start | restart
    date_files
    systemctl unmask --runtime --quiet puppetdb 2>/dev/null
    echo "$1: PuppetDB"
    systemctl reset-failed --quiet puppetdb 2>/dev/null
    systemctl "$1" --no-block puppetdb || { explain; exit 1; }
    waited=0
    until said=$(look); do
        # It tries a database that does not let it in for ever, and says neither why nor so.
        if [ "$waited" -ge 90 ] && [ "$(tail -c "+$((size + 1))" "$log" 2>/dev/null |
            grep -c 'Will retry database connection')" -ge 10 ]; then
            explain
            [ "$1" = restart ] || systemctl stop --no-block puppetdb
            exit 1
        fi
        if ended; then
            explain
            systemctl stop --no-block puppetdb
            exit 1
        fi
        case $(systemctl is-active puppetdb) in
        active | activating | reloading) ;;
        deactivating) ;;
        *) explain; exit 1 ;;
        esac
        [ "$waited" -lt 900 ] || { printf 'PuppetDB is %s after 900 s\n' "${said:-silent}" >&2; explain; exit 1; }
        [ $((waited % 10)) != 0 ] || printf '%s s: %s\n' "$waited" "${said:-not answering yet}"
        sleep 5 # each look is a line in its log until it has started
        waited=$((waited + 5))
    done
    echo "PuppetDB answers after $waited s"
}
