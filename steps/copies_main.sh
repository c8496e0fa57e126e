[ "$(id -u)" = 0 ] || fail 'this needs root'
exec 9>/run/lock/puppet-code.lock
flock -w 900 9 || fail 'another deployment has been under way for 15 minutes'
case ${1:-} in
deploy) deploy ;;
fetch | switch) [ $# = 3 ] || fail "usage: $0 $1 ENVIRONMENT REVISION"; "$1" "$2" "$3" ;;
*) fail "usage: $0 deploy | fetch ENVIRONMENT REVISION | switch ENVIRONMENT REVISION" ;;
esac
