# The window in which the CA signs alternative names. What ca.conf was is kept beside pmrunbook's
# other things, so that closing gives it back byte for byte, whoever closes it and when.
# Set before: config, the functions of serving.sh; to open: before (SHA-256), content (base64).
set -u
umask 077
window=/var/lib/pmrunbook/window
sum() { sha256sum <"$1" | cut -d' ' -f1; }
put() { # new file, place
    cp -- "$1" "$2.pmrunbook" && chown --reference="$2" -- "$2.pmrunbook" &&
        chmod --reference="$2" -- "$2.pmrunbook" && sync -- "$2.pmrunbook" &&
        mv -f -T -- "$2.pmrunbook" "$2"
}
reload() {
    systemctl reload puppetserver || return 1
    wait_ready
}
open_window() {
    if [ ! -d "$window" ]; then
        [ "$(sum "$config")" = "$before" ] || { echo "$config changed since the plan was made" >&2; exit 75; }
        rm -rf -- "$window.new"
        mkdir -p -m 0700 -- "$window.new" && cp -p -- "$config" "$window.new/was" &&
            printf '%s' "$content" | base64 -d >"$window.new/is" && sync -- "$window.new" || exit 1
        mv -T -- "$window.new" "$window" || exit 1
    fi
    put "$window/is" "$config" || exit 1
    reload
}
close_window() {
    [ -d "$window" ] || { echo 'the window is closed'; return 0; }
    if [ "$(sum "$config")" = "$(sum "$window/is")" ]; then
        put "$window/was" "$config" || return 1
        # Its times as well: nobody else has to wonder what changed.
        touch -r "$window/was" -- "$config"
    elif [ "$(sum "$config")" != "$(sum "$window/was")" ]; then
        echo "$config was changed by somebody meanwhile: only the setting is taken back" >&2
        cp -p -- "$config" "$window/now" && sed -i -E \
            's/^([[:space:]]*"?allow-subject-alt-names"?[[:space:]]*[:=][[:space:]]*)"?true"?/\1false/' \
            "$window/now" && put "$window/now" "$config" || return 1
    fi
    reload || return 1
    rm -rf -- "$window"
}
