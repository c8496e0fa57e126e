# Pull the code of another Puppet Server, so that this one has exactly that.
#   puppet-code deploy
# Set before: source (its name), sshport, account, own (the folder with our key and the source's),
# environments (their folder here), only (environments; empty: all), folders (of the source's, by the
# names it lends them under, and where each goes: a line each), and the function `after`.
set -u
umask 022
LC_ALL=C.UTF-8
export LC_ALL
fail() { printf 'Error: %s\n' "$1" >&2; exit 1; }
noted=/var/lib/pmrunbook/puppet-code
aside=/var/lib/pmrunbook/code-aside
remote="ssh -p $sshport -i $own/id_ed25519 -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes
    -o StrictHostKeyChecking=yes -o UserKnownHostsFile=$own/known_hosts -o GlobalKnownHostsFile=/dev/null
    -o HostKeyAlias=$source -o UpdateHostKeys=no -o ControlPath=none -o ConnectTimeout=10 -o ServerAliveInterval=15"
remote=$(printf '%s' "$remote" | tr -s ' \n' ' ')
pull() { # arguments of rsync
    # Neither what somebody keeps hidden between the environments, nor a proof's own one.
    rsync -e "$remote" --timeout=300 --exclude='/.*' --exclude='/pmrunbook_exchange_*' "$@"
}
lent() { # folder it lends: the names in it
    found=$(pull --links --list-only -- "$account@$source::$1/") || return 1
    printf '%s\n' "$found" | sed -nE 's/^[-a-z][^ ]+ +[^ ]+ [^ ]+ [^ ]+ //p' | sed 's/ -> .*//' | grep -vxF .
    return 0
}
empty() { [ -z "$(ls -A -- "$1" 2>/dev/null)" ]; }
whole() { # folder it lends, where it goes: a disk that is not mounted there is no order to delete all here
    names=$(lent "$1") || fail "$source does not give $1: nothing was changed"
    [ -n "$names" ] || empty "$2" || fail "$source has nothing in $1: nothing was changed"
}
put_aside() { # environments that are this host's own: neither there, nor ever brought from there
    for at in "$environments"/*/; do
        name=${at%/}
        name=${name##*/}
        case $name in '*' | pmrunbook_exchange_*) continue ;; esac
        case " ${only:-$name} " in *" $name "*) ;; *) continue ;; esac
        printf '%s\n' "$1" | cat - "$noted/delivered" 2>/dev/null | grep -qxF -e "$name" && continue
        to=$aside/$name.$(date -u +%Y%m%dT%H%M%SZ)
        mkdir -p -m 0700 -- "$aside" && mv -T -- "${at%/}" "$to" || return 1
        printf '%s: %s lacks it, it is in %s now\n' "$name" "$source" "$to"
        : >"$noted/changed"
    done
}
take() { # folder it lends, where it goes, names in it (empty: all)
    from=$account@$source::$1/ to=$2/ these=$3
    mkdir -p -- "$to" || return 1
    # What a run that was killed had fetched and not put in its place: rsync takes that up again, but
    # does not delete what of it the source has no more.
    # shellcheck disable=SC2086  # a list of words
    (cd -- "$to" && find ${these:-.} -type d -name '.~tmp~' -prune -exec rm -rf -- {} + 2>/dev/null)
    set --
    for one in $these; do set -- "$@" "--include=/$one"; done
    [ -z "$these" ] || set -- "$@" '--exclude=/*'
    # Content decides, as in the proof: a file of the same size and time may be another, whatever the
    # clocks say. Files belong to root here: the source's owner may be somebody else's number. New
    # ones turn up together, and only then old ones go.
    said=$(pull --recursive --links --perms --times --omit-dir-times --checksum \
        --delay-updates --delete-delay --itemize-changes "$@" -- "$from" "$to")
    code=$?
    [ -z "$said" ] || { : >"$noted/changed"; printf '%s\n' "$said" | head -n 200; }
    return "$code"
}
deploy() {
    mkdir -p -m 0700 -- "$noted" || exit 1
    printf '%s\n' "$folders" | while read -r name to; do whole "$name" "$to"; done || exit 1
    there=$(lent environments) || fail "$source does not answer: nothing was changed"
    if ! empty "$environments/production"; then
        [ -n "$(lent environments/production 2>/dev/null)" ] ||
            fail "$source has no code in production: nothing was changed"
    fi
    put_aside "$there" || fail 'what only this host has could not be put aside: nothing else was changed'
    printf '%s\n' "$folders" | while read -r name to; do
        case $name in environments) these=$only ;; *) these= ;; esac
        take "$name" "$to" "$these" || fail "$name did not come whole"
    done || exit 1
    printf '%s\n' "$there" >"$noted/delivered.new" && mv -f -- "$noted/delivered.new" "$noted/delivered" || exit 1
    # What was not told to the server yet stays to be told.
    [ ! -e "$noted/changed" ] || { after && rm -f -- "$noted/changed"; } || fail 'Puppet Server keeps the old code in memory'
}
