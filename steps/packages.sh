# What this host's package manager could install, and whether it is free to. Set before: pc_packages.
# Nothing is fetched: these are the lists of the host's last update.
if command -v apt-cache >/dev/null 2>&1; then
    echo 'manager=apt'
    for p in $pc_packages; do
        # An empty name: no cache file is written.
        apt-cache -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= madison "$p" 2>/dev/null |
            awk -F'|' '$3 ~ / Packages *$/ {gsub(/ /, "", $1); gsub(/ /, "", $2); print "candidate=" $1 " " $2}'
    done
    printf 'broken=%s\n' "$(dpkg --audit 2>/dev/null | tr '\n' ' ' | head -c 300)"
    # Whoever installs has the lock's file open (its inode in /proc/locks is another on overlays).
    for f in /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock; do
        find /proc/[0-9]*/fd -maxdepth 1 -lname "$f" 2>/dev/null | cut -d/ -f3
    done | sort -u | while read -r p; do
        printf 'locked=%s (process %s)\n' "$(cat "/proc/$p/comm" 2>/dev/null)" "$p"
    done
elif command -v dnf >/dev/null 2>&1; then
    echo 'manager=dnf'
    # shellcheck disable=SC2086  # a list of words
    pc_within 25 dnf -q -C repoquery --available --showduplicates \
        --qf 'candidate=%{name} %{version}-%{release}\n' $pc_packages 2>/dev/null | sed '/^$/d'
elif command -v yum >/dev/null 2>&1; then
    echo 'manager=yum'
    for p in $pc_packages; do
        pc_within 25 yum -q -C list available --showduplicates "$p" 2>/dev/null |
            awk -v p="$p" '$1 ~ "^" p "\\." {sub(/^[0-9]+:/, "", $2); print "candidate=" p " " $2}'
    done
fi
:
