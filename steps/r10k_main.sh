[ "$(id -u)" = 0 ] || fail 'this needs root'
exec 9>/run/lock/puppet-code.lock
flock -w 900 9 || fail 'another deployment has been under way for 15 minutes'
[ "${1:-}" = deploy ] || fail "usage: $0 deploy"
deploy
