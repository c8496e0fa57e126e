# Deploy every environment with r10k on this server. Set before: r10k, config, only (environments;
# empty: all), key, environments (folder), and the function `after`.
#   puppet-code deploy
set -u
umask 022
LC_ALL=C.UTF-8 GIT_TERMINAL_PROMPT=0
export LC_ALL GIT_TERMINAL_PROMPT
export GIT_SSH_COMMAND="ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=10${key:+ -i $key -o IdentitiesOnly=yes}"
fail() { printf 'Error: %s\n' "$1" >&2; exit 1; }
deploy() {
    log=$(mktemp) || exit 1
    exec 4>&1
    # shellcheck disable=SC2086  # a list of words
    code=$({ { "$r10k" deploy environment $only -c "$config" --modules -v 2>&1; echo $? >&3; } | tee -- "$log" >&4; } 3>&1)
    exec 4>&-
    # What it says is long: why it failed is its first error, with the lines that belong to it.
    why=$(awk '/^[A-Z]+[ \t]+-> / { if (on) exit; on = /^ERROR/ } on' "$log" | tr -s '\t\n ' ' ' | sed 's/ $//' | cut -c1-400)
    rm -f -- "$log"
    # r10k says 0 although an environment failed or its postrun command did: its notes tell. Of a
    # Puppetfile that cannot be resolved it notes nothing: the note is of the deployment before.
    torn=
    for note in "$environments"/*/.r10k-deploy.json; do
        [ -f "$note" ] || continue
        at=$(dirname "$note") head=
        [ ! -e "$at/.git" ] || head=$(git -c safe.directory='*' -C "$at" rev-parse HEAD)
        grep -q "\"signature\" *: *\"$head" "$note" && ! grep -q '"deploy_success" *: *false' "$note" ||
            torn="$torn $at"
    done
    [ -z "$torn" ] || fail "not deployed cleanly:$torn${why:+; $why}"
    [ "$code" = 0 ] || fail "r10k ended with $code${why:+; $why}"
    after
}
