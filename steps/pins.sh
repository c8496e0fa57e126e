# Whether this host's hosts file has our line, and any other of that name. Set before: pc_names, pc_mark.
[ -r /etc/hosts ] || exit 0
grep -qF "# $pc_mark" /etc/hosts && echo 'pinned=yes'
for n in $pc_names; do
    grep -vF "# $pc_mark" /etc/hosts | awk -v n="$n" '
        {sub(/#.*/, ""); for (i = 2; i <= NF; i++) if ($i == n) print "fixed=" n " " $1}'
done
:
