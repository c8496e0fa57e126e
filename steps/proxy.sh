# The proxy on its own host: its files, its service, and what it says of the servers behind it.
# Set before: pc_files, one "label path" a line; pc_links, the links it finds its
# certificate by; pc_port, where it listens; and the function of proxy_ask.sh.
printf '%s\n' "$pc_files" | while read -r pc_label pc_path; do
    printf '[%s]\npath=%s\n' "$pc_label" "$pc_path"
    pc_file "$pc_path"
done
echo '[service]'
command -v haproxy >/dev/null 2>&1 && printf 'version=%s\n' "$(haproxy -v 2>/dev/null | sed -n '1s/^[^0-9]*\([0-9.]*\).*/\1/p')"
printf 'active=%s\nenabled=%s\n' "$(systemctl is-active haproxy 2>/dev/null)" \
    "$(systemctl is-enabled haproxy 2>/dev/null)"
ss -Hltnp "sport = :$pc_port" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)".*/listener=\1/p' | sort -u
for pc_x in $pc_links; do
    [ -L "$pc_x" ] && printf 'link=%s %s\n' "$pc_x" "$(readlink "$pc_x")"
done
# Whoever listens one above is asked by this host's proxy alone.
ss -Hltnp "sport = :$((pc_port + 1))" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)".*/inner=\1/p' | sort -u
[ -e "${PS_hostcrl:-/}" ] && [ -f "$PS_hostcrl" ] &&
    printf 'crl_written=%s\nnow=%s\n' "$(stat -L -c %Y "$PS_hostcrl")" "$(date +%s)"
[ -S /run/haproxy/admin.sock ] || exit 0
pc_up=$(ask_haproxy 'show info' | sed -n 's/^Uptime_sec: //p')
[ -n "$pc_up" ] && printf 'began=%s\n' "$(($(date +%s) - pc_up))"
printf '%s\n' "$pc_files" | while read -r pc_label pc_path; do
    [ -n "$pc_up" ] && [ -e "$pc_path" ] || continue
    # What was written after the newest process began is not in it.
    [ "$(stat -L -c %Y "$pc_path")" -gt "$(($(date +%s) - pc_up))" ] && printf 'stale=%s\n' "$pc_path"
done
ask_haproxy 'show stat' | awk -F, '
    /^#/ {sub(/^# /, ""); for (i = 1; i <= NF; i++) at[$i] = i; next}
    $at["pxname"] == "compilers" && $at["svname"] !~ /^(FRONTEND|BACKEND)$/ {
        print "[" $at["svname"] "]"
        print "status=" $at["status"]
        print "check=" $at["check_status"] " " $at["last_chk"]
        print "weight=" $at["weight"]
        print "sessions=" $at["stot"]
    }'
:
