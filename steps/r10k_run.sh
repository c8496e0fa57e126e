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
    # shellcheck disable=SC2086  # a list of words
    "$r10k" deploy environment $only -c "$config" --modules -v 2>&1
    code=$?
    # r10k says 0 although an environment failed or its postrun command did: its notes tell.
    for note in "$environments"/*/.r10k-deploy.json; do
        [ -f "$note" ] || continue
        ! grep -q '"deploy_success" *: *false' "$note" || fail "$(dirname "$note") was not deployed"
    done
    [ "$code" = 0 ] || fail "r10k ended with $code"
    after
}
