# What the running HAProxy says of its servers, and which of them are drained by us.
# Set before: the function of proxy_ask.sh.
[ -S /run/haproxy/admin.sock ] || exit 0
ask_haproxy 'show stat' | awk -F, '
    /^#/ {sub(/^# /, ""); for (i = 1; i <= NF; i++) at[$i] = i; next}
    $at["pxname"] == "compilers" && $at["svname"] !~ /^(FRONTEND|BACKEND)$/ {
        print "[" $at["svname"] "]"
        print "status=" $at["status"]
    }'
for pc_mark in /run/pmrunbook-drained/*; do
    [ ! -e "$pc_mark" ] || printf '[%s]\nours=yes\n' "${pc_mark##*/}"
done
