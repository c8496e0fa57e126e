# What the running HAProxy says of its servers, and which of them are drained by us.
# Set before: the functions of proxy_ask.sh.
[ -S /run/haproxy/admin.sock ] || exit 0
haproxy_servers status | while read -r pc_name pc_status; do
    printf '[%s]\nstatus=%s\n' "$pc_name" "$pc_status"
done
for pc_mark in /run/pmrunbook-drained/*; do
    [ ! -e "$pc_mark" ] || printf '[%s]\nours=yes\n' "${pc_mark##*/}"
done
