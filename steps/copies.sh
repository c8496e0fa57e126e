# Working copies of a repository, one for each environment and revision; an environment is a link,
# and moves when the copy beside the old one is complete.
#   puppet-code deploy                       fetch what the repository has now, then turn to it
#   puppet-code fetch ENVIRONMENT REVISION   only fetch
#   puppet-code switch ENVIRONMENT REVISION  turn to what was fetched
# Set before: kind, url, key, revision, only (environments), environments, store, ruby.
set -u
umask 022
LC_ALL=C.UTF-8 HGPLAIN=1 GIT_TERMINAL_PROMPT=0
export LC_ALL HGPLAIN GIT_TERMINAL_PROMPT
remote="ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=10${key:+ -i $key -o IdentitiesOnly=yes}"
export GIT_SSH_COMMAND="$remote" SVN_SSH="$remote"
cache=$store/.repository
fail() { printf 'Error: %s\n' "$1" >&2; exit 1; }
short() { printf %.12s "$1"; }
mirror() { # git: everything of the repository, once for all environments
    if [ ! -d "$cache" ]; then
        rm -rf -- "$cache.new"
        git -c safe.directory='*' clone -q --mirror --upload-pack="$(git_pack upload "$url")" -- "$url" "$cache.new" && mv -T -- "$cache.new" "$cache"
    else
        git -C "$cache" remote set-url origin "$url" && git -C "$cache" fetch -q --prune --tags --upload-pack="$(git_pack upload "$url")" origin
    fi
}
at() { # subversion: where in the repository an environment is
    if [ -n "$revision" ]; then printf %s "$url"
    elif [ "$1" = production ] && ! svn --non-interactive info "$url/branches/production" >/dev/null 2>&1; then
        printf '%s/trunk' "$url"
    else printf '%s/branches/%s' "$url" "$1"; fi
}
copy() { # environment, revision, where to
    case $kind in
    git)
        git -C "$cache" cat-file -e "$2^{commit}" 2>/dev/null || mirror || return 1
        git clone -q --no-checkout -- "$cache" "$3" && git -C "$3" remote set-url origin "$url" &&
            git -C "$3" -c advice.detachedHead=false checkout -q --detach "$2" || return 1
        [ ! -e "$3/.gitmodules" ] || git -C "$3" submodule -q update --init --recursive
        ;;
    mercurial)
        hg --config ui.ssh="$remote" clone -q --noupdate -- "$url" "$3" && hg -R "$3" update -q -r "$2" || return 1
        ;;
    subversion) svn --non-interactive checkout -q -r "$2" "$(at "$1")@$2" "$3" ;;
    esac
}
fetch() { # environment, revision
    to=$store/$1/$(short "$2")
    [ ! -d "$to" ] || edited "$to" || return 0
    mkdir -p -- "$store/$1" || return 1
    rm -rf -- "$to.new"
    copy "$1" "$2" "$to.new" || { rm -rf -- "$to.new"; return 1; }
    chmod 755 -- "$to.new" && sync -f -- "$to.new" || return 1
    if [ -d "$to" ]; then
        # Somebody edited it here: a fresh one takes its place at once, theirs is kept.
        kept=$store/$1/edited-$(date -u +%Y%m%dT%H%M%SZ)
        exchange "$to.new" "$to" && mv -T -- "$to.new" "$kept" ||
            { mv -T -- "$to" "$kept" && mv -T -- "$to.new" "$to"; } || return 1
        printf '%s: what was edited here is kept in %s\n' "$1" "$kept"
    else
        mv -T -- "$to.new" "$to" || return 1
    fi
    printf '%s: fetched %s\n' "$1" "$(short "$2")"
}
edited() { # a copy: somebody changed files in it
    case $kind in
    git) [ -n "$(git -C "$1" status --porcelain -- . ':!.resource_types' 2>/dev/null)" ] ;;
    mercurial) [ -n "$(hg -R "$1" status 2>/dev/null)" ] ;;
    subversion) [ -n "$(svn --non-interactive status "$1" 2>/dev/null)" ] ;;
    esac
}
exchange() { # two names for one another, at once where the file system can
    "$ruby" --disable-gems -e '
      number = { "x86_64" => 316, "aarch64" => 276 }[RbConfig::CONFIG["host_cpu"]] or exit 1
      $stderr = File.open(File::NULL, "w")
      begin
        syscall(number, -100, ARGV[0], -100, ARGV[1], 2) # renameat2, RENAME_EXCHANGE
      rescue SystemCallError, NotImplementedError
        exit 1
      end
    ' -rrbconfig "$1" "$2" 2>/dev/null
}
turn() { # environment, folder: the environment leads there from now on
    link=$environments/$1
    [ "$(readlink -- "$link" 2>/dev/null)" != "$2" ] || return 0
    rm -f -- "$environments/.$1.new"
    ln -s -- "$2" "$environments/.$1.new" || return 1
    if [ -L "$link" ] || [ ! -e "$link" ]; then
        mv -T -- "$environments/.$1.new" "$link"
        return
    fi
    # A folder of before: it is kept beside the copies, as it is.
    kept=$store/$1/before
    mkdir -p -- "$store/$1" && rm -rf -- "$kept.new" || return 1
    if exchange "$environments/.$1.new" "$link"; then
        mv -T -- "$environments/.$1.new" "$kept"
    else
        cp -a -- "$link" "$kept.new" && mv -T -- "$kept.new" "$kept" &&
            mv -T -- "$link" "$environments/.$1.old" && mv -T -- "$environments/.$1.new" "$link" &&
            rm -rf -- "$environments/.$1.old"
    fi
}
switch() { # environment, revision
    to=$store/$1/$(short "$2")
    [ -d "$to" ] || { printf 'Error: %s was not fetched\n' "$to" >&2; return 1; }
    turn "$1" "$to" || return 1
    printf '%s: %s\n' "$1" "$(short "$2")"
    # The three newest stay, for the way back.
    ls -1dt -- "$store/$1"/*/ 2>/dev/null | grep -vxF -e "$to/" -e "$store/$1/before/" | grep -v /edited- | tail -n +3 |
        while IFS= read -r old; do rm -rf -- "$old"; done
}
back() { # environment, where it led before: a folder, `before` (what it was), or nothing
    link=$environments/$1
    case $2 in
    before)
        [ -d "$store/$1/before" ] || { [ -d "$link" ] && [ ! -L "$link" ] && return 0; return 1; }
        if exchange "$store/$1/before" "$link"; then
            rm -f -- "$store/$1/before"
        else
            rm -rf -- "$environments/.$1.back" && cp -a -- "$store/$1/before" "$environments/.$1.back" &&
                rm -f -- "$link" && mv -T -- "$environments/.$1.back" "$link" && rm -rf -- "$store/$1/before"
        fi
        ;;
    '') [ ! -L "$link" ] || rm -f -- "$link" ;;
    *) [ ! -d "$2" ] || turn "$1" "$2" ;; # cleared away since: the way back goes on behind it
    esac
}
forget() { # environment, revision: a copy nothing leads to
    to=$store/$1/$(short "$2")
    [ "$(readlink -f -- "$environments/$1")" != "$to" ] || { echo "Error: $to is in use" >&2; return 1; }
    rm -rf -- "$to" "$to.new"
    # Copies that somebody edited stay.
    ls -d -- "$store"/*/* 2>/dev/null | grep -qv /edited- || rm -rf -- "$cache" "$cache.new"
    rmdir -- "$store"/* "$store" 2>/dev/null
    return 0
}
tips() { # what the repository has: environment, revision
    case $kind in
    git)
        mirror || return 1
        if [ -n "$revision" ]; then
            printf '%s %s\n' "$only" "$(git -C "$cache" rev-parse "$revision^{commit}")"
        else
            git -C "$cache" for-each-ref --format '%(refname:lstrip=2) %(objectname)' refs/heads
        fi
        ;;
    mercurial)
        for e in $only; do
            printf '%s %s\n' "$e" "$(hg --config ui.ssh="$remote" identify --debug -i -r "${revision:-$e}" "$url" | tr -d +)"
        done
        ;;
    subversion)
        for e in $only; do
            printf '%s %s\n' "$e" "$(svn --non-interactive info ${revision:+-r "$revision"} --show-item last-changed-revision "$(at "$e")" | tr -d ' ')"
        done
        ;;
    esac
}
deploy() {
    found=$(tips) || fail 'the repository does not answer'
    wanted=$(printf '%s\n' "$found" | while read -r e r; do
        case $e in '' | *[!A-Za-z0-9_]*) continue ;; esac
        case " ${only:-$e} " in *" $e "*) [ -z "$r" ] || printf '%s %s\n' "$e" "$r" ;; esac
    done)
    [ -n "$wanted" ] || fail 'the repository has none of the environments'
    # All of them, before the first one moves.
    printf '%s\n' "$wanted" | while read -r e r; do fetch "$e" "$r" || exit 1; done || fail 'nothing was changed'
    before=$(ls -l -- "$environments")
    printf '%s\n' "$wanted" | while read -r e r; do switch "$e" "$r" || exit 1; done || exit 1
    [ "$before" = "$(ls -l -- "$environments")" ] || : >"$store/.untold"
    # What was not told to the server yet stays to be told.
    [ ! -e "$store/.untold" ] || { after && rm -f -- "$store/.untold"; }
}
