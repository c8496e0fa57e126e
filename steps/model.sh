# What distributes code from a model master by Puppet itself: its mounts, and the manifests of each
# environment. Set before: pc_manifest (the name of ours), pc_model (yes on the model master).
printf 'agent=%s\n' "$(systemctl is-active puppet 2>/dev/null)"
pc_server_setting() { printf '%s\n' "$PC_server" | sed -n "s/^$1 = //p"; }
pc_environments=$(pc_server_setting environmentpath)
pc_environments=${pc_environments%%:*}
printf 'environments=%s\nreal=%s\n' "$pc_environments" "$(readlink -f "$pc_environments")"
[ "$pc_model" = yes ] || exit 0
pc_at=$(pc_server_setting confdir)/fileserver.conf
printf '[fileserver.conf]\npath=%s\n' "$pc_at"
pc_file "$pc_at"
for pc_root in "$pc_environments"/*; do
    [ -d "$pc_root" ] || continue
    # Relative to the environment; the setting default_manifest is where environment.conf has none.
    pc_at=$(sed -nE 's/^[[:space:]]*manifest[[:space:]]*=[[:space:]]*([^[:space:]]+).*/\1/p' "$pc_root/environment.conf" 2>/dev/null | tail -n 1)
    pc_at=${pc_at:-$(pc_server_setting default_manifest)}
    pc_at=${pc_at:-manifests}
    case $pc_at in
    /*) ;;
    *) pc_at=$pc_root/${pc_at#./} ;;
    esac
    printf '[manifest %s]\nfolder=%s\n' "${pc_root##*/}" "$pc_at"
    [ ! -f "$pc_at" ] || echo 'single=yes'
    printf 'path=%s\n' "${pc_at%/}/$pc_manifest"
    pc_file "${pc_at%/}/$pc_manifest"
done
:
