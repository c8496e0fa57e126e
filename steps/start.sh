# Start, restart or reload this compile master's Puppet Server; when it does not come, say why.
# Set before: the functions of serving.sh, denials.sh and dated.sh, and what they need; logdir; front,
# the unit of the proxy that ends TLS before it (empty: none), which has the same certificate.
set -u
# An installation that was broken off may have left its mask, which goes with the next boot anyway.
systemctl unmask --runtime --quiet puppetserver 2>/dev/null
log=$logdir/puppetserver.log
began=$(date +%s)
size=$(stat -c %s "$log" 2>/dev/null || echo 0)
explain() {
    said=$(
        said_since puppetserver
        # Of a masked unit nothing is logged.
        [ "$(systemctl is-enabled puppetserver 2>/dev/null)" != masked ] || echo 'the unit is masked'
    )
    printf '%s\n' "$said" |
        worth_telling 'error|exception|caused by|not found|unable|could not|insufficient|timed out'
    tell_denials
    # The known ones: puppetserver's own sources and logs (7.x).
    case $said in
    *"Duplicate implementations"*CaService*)
        why='ca.cfg switches both CA services on: leave certificate-authority-disabled-service' ;;
    *"Service ':CaService' not found"*)
        why='ca.cfg switches no CA service on: it needs certificate-authority-disabled-service' ;;
    *"Unable to open 'ssl-cert' file"*)
        why='there is no certificate yet, or the user puppet cannot read it: the certificate comes first' ;;
    *"Non-readable path specified for ssl-crl-path"* | *"Unable to open 'ssl-crl"*)
        why='there is no CRL, or the user puppet cannot read it: puppet ssl bootstrap' ;;
    *"private key"*"is missing"*) why='the ssldir is half cleaned: puppet ssl clean, then a new certificate' ;;
    *"Cannot initialize CA with partial state"*)
        why='the CA service is on, and its directory is incomplete: ca.cfg needs certificate-authority-disabled-service' ;;
    *"could not be found and no file at :cacert"*)
        why='the CA service is on, and the ssldir was wiped: ca.cfg needs certificate-authority-disabled-service' ;;
    *"Address already in use"* | *"BindException"*)
        why="port $port is taken by $(ss -Hltnp "sport = :$port" | sed -n 's/.*users:(("\([^"]*\)".*/\1/p' | head -n 1): stop that first" ;;
    *OutOfMemoryError* | *"insufficient memory"* | *"Could not reserve enough space"*)
        why='too little memory for the heap in JAVA_ARGS: more of it, or a smaller heap in the inventory' ;;
    *'ConfigException$Parse'*) why='a file in conf.d is not HOCON: mend it where the lines above say' ;;
    # A file of somebody else's fails where its mode is set, before it is read.
    *"Permission denied"* | *AccessDeniedException* | *"Operation not permitted"*)
        why='a file that the user puppet cannot read, or does not own: chown it to puppet; the lines above name it' ;;
    *"No space left"*) why='a disk is full: df -h' ;;
    *"the unit is masked"*) why='the unit is masked: systemctl unmask puppetserver' ;;
    *"operation timed out"*)
        why='it takes longer than its unit allows: a longer TimeoutStartSec, with systemctl edit puppetserver' ;;
    *) why='see the lines above' ;;
    esac
    case $why in
    *'cannot read'*) [ -z "$denied" ] || why=$DENIED ;;
    esac
    printf 'Error: Puppet Server does not start: %s\n' "$why" >&2
}
serve() { # start | restart | reload
    date_files
    [ -z "${front:-}" ] || systemctl reload-or-restart "$front" || exit 1
    case $1 in
    start) start_server ;;
    restart) stop_server && start_server ;;
    reload) systemctl reload puppetserver && wait_ready ;;
    esac || { explain; exit 1; }
}
