# What an exchange of resources that was broken off left on this Puppet Server: its environment (named
# pc_environment), and on the CA's host its certificates.
pc_path=$(printf '%s\n' "$PC_server" | sed -n 's/^environmentpath = //p')
pc_path=${pc_path%%:*}
printf 'path=%s\n' "$pc_path"
[ -d "$pc_path/$pc_environment" ] && echo 'environment=yes'
[ -e "$pc_path/$pc_environment/manifests/site.pp" ] && echo 'manifest=yes'
[ -d /var/lib/pmrunbook/exchange ] && echo 'certificates=yes'
:
