git_pack() { # upload or receive, a repository: the program that serves it
    # A path is served by its owner, as over ssh: git serves nobody what belongs to somebody else, and
    # what is written there has to stay the owner's.
    case $2 in
    /*) set -- "$1" "$2" ;;
    file:///*) set -- "$1" "${2#file://}" ;;
    *) printf 'git-%s-pack' "$1"; return ;;
    esac
    # shellcheck disable=SC2046  # two numbers
    printf 'setpriv --reuid=%s --regid=%s --clear-groups env HOME=/ git %s-pack' \
        $(stat -L -c '%u %g' -- "$2" 2>/dev/null || echo 0 0) "$1"
}
