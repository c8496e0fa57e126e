# The code this host's Puppet Server compiles: what there is, as digests. With pc_tar=yes all of it
# as well, where it is small enough to travel, for servers that have none.
for f in /var/lib/pmrunbook/seed-*.tar.gz; do [ -f "$f" ] && printf 'seed=%s\n' "$f"; done
[ -n "$PC_puppetserver" ] || exit 0
pc_server_setting() { printf '%s\n' "$PC_server" | sed -n "s/^$1 = //p"; }
codedir=$(pc_server_setting codedir)
environments=$(pc_server_setting environmentpath)
printf 'codedir=%s\nenvironmentpath=%s\n' "$codedir" "$environments"
pc_tree() { # what of a folder a catalog can depend on: its files and where its links lead
    (cd "$1" 2>/dev/null && {
        find . \( -name .git -o -name .resource_types \) -prune -o \
            -type f ! -name '.r10k-deploy.json*' -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum
        find . -name .git -prune -o -type l -printf '%p %l\n' | LC_ALL=C sort
    }) | sha256sum | cut -d' ' -f1
}
pc_ifs=$IFS
IFS=:
set -f
for d in $environments; do
    set +f
    IFS=$pc_ifs
    for e in "$d"/*/; do
        [ -d "$e" ] || continue
        n=${e%/}
        # One of pmrunbook's own, for a proof that is under way or was broken off.
        case ${n##*/} in pmrunbook_exchange_*) continue ;; esac
        # As packages ship it: with settings, and without any code.
        if [ -z "$(find "$e" -type f ! -name environment.conf ! -name hiera.yaml -print -quit)" ]; then
            printf 'stock=%s\n' "${n##*/}"
            continue
        fi
        printf 'environment=%s %s\n' "${n##*/}" "$(pc_tree "$e")"
    done
done
IFS=$pc_ifs
set +f
[ -d "$codedir/modules" ] && printf 'modules=%s\n' "$(pc_tree "$codedir/modules")"
if [ "${pc_tar:-no}" = yes ] && [ -d "$codedir" ]; then
    case $environments in
    "$codedir"/*)
        if [ -n "$(find "$codedir" -name '*private*key*' -print -quit 2>/dev/null)" ]; then
            echo 'secrets=yes'
            exit 0
        fi
        tar --help 2>/dev/null | grep -q -- '--sort=' || exit 0
        pc_all=$(tar --format=gnu --sort=name --exclude=.git --exclude='pmrunbook_exchange_*' -C "$codedir" -c . 2>/dev/null | gzip -n -9 | base64 -w 0 |
            head -c 6000001)
        if [ "${#pc_all}" -gt 6000000 ]; then echo 'large=yes'; else printf 'tar=%s\n' "$pc_all"; fi
        ;;
    *) echo 'elsewhere=yes' ;;
    esac
fi
:
