# All code of this host's Puppet Server, where it is small enough to travel and holds no key, for
# servers that have none.
[ -n "$PC_puppetserver" ] || exit 0
codedir=$(printf '%s\n' "$PC_server" | sed -n 's/^codedir = //p')
environments=$(printf '%s\n' "$PC_server" | sed -n 's/^environmentpath = //p')
[ -d "$codedir" ] || exit 0
case $environments in
"$codedir"/*) ;;
*) echo 'elsewhere=yes'; exit 0 ;;
esac
if [ -n "$(find "$codedir" -name '*private*key*' -print -quit 2>/dev/null)" ]; then
    echo 'secrets=yes'
    exit 0
fi
tar --help 2>/dev/null | grep -q -- '--sort=' || exit 0
pc_all=$(tar --format=gnu --sort=name --exclude=.git --exclude='pmrunbook_exchange_*' -C "$codedir" -c . 2>/dev/null |
    gzip -n -9 | base64 -w 0 | head -c 6000001)
if [ "${#pc_all}" -gt 6000000 ]; then echo 'large=yes'; else printf 'tar=%s\n' "$pc_all"; fi
:
