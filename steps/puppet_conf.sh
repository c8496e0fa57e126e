# puppet.conf, byte for byte; without Puppet there is none to speak of.
[ -n "$PS_config" ] || { echo 'state=unknown'; exit 0; }
printf 'path=%s\n' "$PS_config"
pc_file "$PS_config"
