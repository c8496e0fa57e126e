# How code is pulled from another Puppet Server over ssh: this host's key and what it trusts; on the
# source its sshd, the account that is asked, and what that may read. Set before: pc_own (our folder),
# pc_account, pc_source (yes on the source), pc_from (its name), pc_ports, pc_files (folders besides).
printf 'key=%s\n' "$(head -c 2000 "$pc_own/id_ed25519.pub" 2>/dev/null)"
[ -e /var/lib/pmrunbook/puppet-code/delivered ] && echo 'delivered=yes'
for pc_x in ssh ssh-keygen; do
    command -v "$pc_x" >/dev/null 2>&1 && printf 'program=%s\n' "$pc_x"
done
printf '[known_hosts]\npath=%s\n' "$pc_own/known_hosts"
pc_file "$pc_own/known_hosts"
if [ "$pc_source" != yes ]; then
    echo '[sources]'
    # shellcheck disable=SC2086  # a list of words
    [ -z "$PC_ruby" ] || "$PC_ruby" --disable-gems -rsocket -e '
      name, *ports = ARGV
      ports.each do |port|
        puts "asked=#{port}"
        Socket.tcp(name, port.to_i, connect_timeout: 5) do |s|
          puts "answers=#{port}" if s.wait_readable(5) && s.read_nonblock(4) == "SSH-"
        end
      rescue SystemCallError, SocketError, IOError => e
        puts "error=#{port}: #{e.message}"
      end
    ' -rio/wait "$pc_from" $pc_ports
    exit 0
fi
printf '[rsyncd.conf]\npath=%s\n' "$pc_own/rsyncd.conf"
pc_file "$pc_own/rsyncd.conf"
pc_home=$(getent passwd "$pc_account" | cut -d: -f6)
pc_user=nobody # as good as an account that is not there yet
[ -z "$pc_home" ] || pc_user=$pc_account
pc_home=${pc_home:-/var/lib/$pc_account}
pc_said=$(sshd -T -C "user=$pc_account,host=localhost,addr=127.0.0.1" 2>&1)
pc_keys=$(printf '%s\n' "$pc_said" | sed -n 's/^authorizedkeysfile //p' | cut -d' ' -f1 |
    sed "s,%h,$pc_home,g; s,%u,$pc_account,g")
case $pc_keys in
/*) ;;
*) pc_keys=$pc_home/${pc_keys:-.ssh/authorized_keys} ;;
esac
printf '[authorized_keys]\npath=%s\n' "$pc_keys"
pc_file "$pc_keys"
echo '[source]'
[ "$pc_user" = nobody ] || echo 'account=yes'
printf 'home=%s\n' "$pc_home"
printf '%s\n' "$pc_said" | sed -nE 's/^port /port=/p;
    s/^(allowusers|denyusers|allowgroups|denygroups|pubkeyauthentication|authenticationmethods|authorizedkeysfile|forcecommand) /sshd=&/p'
printf '%s\n' "$pc_said" | grep -q '^port ' || printf 'sshd=error %s\n' "$(printf %s "$pc_said" | tr '\n' ' ' | head -c 300)"
printf 'group=%s\n' "$(id -nG "$pc_account" 2>/dev/null || printf %s "$pc_account")"
printf '%s\n' "$pc_said" | sed -n 's/^hostkey //p' | while IFS= read -r pc_x; do
    [ ! -r "$pc_x.pub" ] || printf 'hostkey=%s\n' "$(cut -d' ' -f1,2 "$pc_x.pub" | head -n 1)"
done
pc_server_setting() { printf '%s\n' "$PC_server" | sed -n "s/^$1 = //p"; }
pc_codedir=$(pc_server_setting codedir)
pc_environments=$(pc_server_setting environmentpath)
pc_environments=${pc_environments%%:*}
printf 'codedir=%s\nreal=%s\n' "$pc_codedir" "$(readlink -f "$pc_environments")"
{
    printf '%s\n' "$pc_environments"
    # What all environments share and no package brought.
    pc_server_setting basemodulepath | tr ':' '\n' | grep -F "$pc_codedir/"
    printf '%s\n' "$pc_files"
} | while IFS= read -r pc_x; do
    [ -n "$pc_x" ] && [ -d "$pc_x" ] || continue
    printf 'folder=%s\n' "$pc_x"
    pc_found=$(runuser -u "$pc_user" -- find "$pc_x/." \( -name .git -o -name .hg -o -name .svn \) -prune -o \
        \( ! -type l ! -readable -o -type d ! -executable \) -print -quit 2>&1)
    case $pc_found in
    '') ;;
    /*) printf 'unreadable=%s\n' "$pc_found" ;;
    *) printf 'unreadable=%s\n' "$pc_x" ;; # it does not even get there
    esac
done
:
