# What a repository has, asked as this host's root will ask for it, and what of it is here already.
# Set before: pc_kind (git, mercurial, subversion, r10k), pc_url, pc_key, pc_names, pc_revision,
# pc_store (where checkouts are kept; empty: beside the environments).
for pc_x in git hg svn r10k rsync; do
    pc_at=$(command -v "$pc_x" 2>/dev/null)
    [ -n "$pc_at" ] || pc_at=$(pc_first "/opt/puppetlabs/puppet/bin/$pc_x")
    [ -z "$pc_at" ] || printf 'program=%s %s\n' "$pc_x" "$pc_at"
done
pc_environments=$(printf '%s\n' "$PC_server" | sed -n 's/^environmentpath = //p')
pc_environments=${pc_environments%%:*}
pc_store=${pc_store:-${pc_environments%/*}/deployed}
printf 'environments=%s\nstore=%s\n' "$pc_environments" "$pc_store"
for pc_x in "$pc_store"/*/*; do
    [ -d "$pc_x" ] || continue
    case $pc_x in *.new | */.*) continue ;; esac
    pc_e=${pc_x%/*}
    printf 'fetched=%s %s\n' "${pc_e##*/}" "${pc_x##*/}"
done
# What a copy that waits has otherwise than the folder that is served.
for pc_x in "$pc_environments"/*; do
    [ -d "$pc_x" ] && [ ! -L "$pc_x" ] || continue
    pc_new=$(ls -1dt "$pc_store/${pc_x##*/}"/*/ 2>/dev/null | grep -v -e /before/ -e /edited- | head -n 1)
    [ -z "$pc_new" ] || diff -rq --no-dereference -x .git -x .hg -x .svn "$pc_x" "$pc_new" 2>/dev/null |
        sed -n "s|^Only in $pc_x/*\(.*\): \(.*\)|-\1/\2|p; s|^Only in ${pc_new%/}/*\(.*\): \(.*\)|+\1/\2|p; s|^Files $pc_x/\(.*\) and .* differ|~\1|p" |
        sed 's|^\([-+~]\)/|\1|' | head -n 100 | while IFS= read -r pc_line; do printf 'differs=%s %s\n' "${pc_x##*/}" "$pc_line"; done
done
for pc_x in "$pc_environments"/*; do
    [ -L "$pc_x" ] && printf 'link=%s %s\n' "${pc_x##*/}" "$(readlink -f "$pc_x")"
done
[ -n "$pc_url" ] || exit 0
pc_ssh="ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=10${pc_key:+ -i $pc_key -o IdentitiesOnly=yes}"
[ -z "$pc_key" ] || [ -r "$pc_key" ] || printf 'error=the key %s is not there\n' "$pc_key"
pc_errors() { # what a client said, in a line
    printf 'error=%s\n' "$(printf '%s' "$1" | tr -s '\n\r' ' ' | head -c 400)"
}
pc_names=${pc_names:-$(cd "$pc_environments" 2>/dev/null && for pc_x in *; do [ -d "$pc_x" ] && printf '%s ' "$pc_x"; done)}
case $pc_kind in
git | r10k)
    command -v git >/dev/null 2>&1 || exit 0
    pc_pack=git-upload-pack # as r10k asks
    [ "$pc_kind" = r10k ] || pc_pack=$(git_pack upload "$pc_url")
    if pc_said=$(GIT_TERMINAL_PROMPT=0 GIT_SSH_COMMAND="$pc_ssh" pc_within 40 git ls-remote --upload-pack="$pc_pack" "$pc_url" 2>&1); then
        printf '%s\n' "$pc_said" | awk -F '\t' '
            $2 ~ /^refs\/heads\// {sub(/^refs\/heads\//, "", $2); print "head=" $2 " " $1}
            $2 ~ /^refs\/tags\// {sub(/^refs\/tags\//, "", $2); sub(/\^\{\}$/, "", $2); print "tag=" $2 " " $1}
            $2 == "HEAD" {print "default=" $1}'
        echo 'answered=yes'
    else
        pc_errors "$pc_said"
    fi
    ;;
mercurial)
    command -v hg >/dev/null 2>&1 || exit 0
    for pc_x in ${pc_revision:-$pc_names default}; do
        if pc_said=$(HGPLAIN=1 pc_within 40 hg --config ui.ssh="$pc_ssh" identify --debug -i -r "$pc_x" "$pc_url" 2>&1); then
            printf 'head=%s %s\nanswered=yes\n' "$pc_x" "$(printf '%s\n' "$pc_said" | tail -n 1 | tr -d '+')"
        else
            case $pc_said in
            *'unknown revision'* | *'unknown branch'*) echo 'answered=yes' ;;
            *) pc_errors "$pc_said"; break ;;
            esac
        fi
    done
    ;;
subversion)
    command -v svn >/dev/null 2>&1 || exit 0
    pc_svn() { SVN_SSH="$pc_ssh" pc_within 40 svn --non-interactive "$@" 2>&1; }
    if pc_said=$(pc_svn info --show-item revision "$pc_url"); then
        echo 'answered=yes'
        if [ -n "$pc_revision" ]; then
            printf 'head=%s %s\n' "$pc_revision" "$(pc_svn info -r "$pc_revision" --show-item last-changed-revision "$pc_url" | tr -d ' ')"
        fi
        for pc_x in $(pc_svn list "$pc_url/branches" | sed -n 's,/$,,p') trunk; do
            pc_at=branches/$pc_x
            [ "$pc_x" != trunk ] || pc_at=trunk
            pc_r=$(pc_svn info --show-item last-changed-revision "$pc_url/$pc_at") &&
                printf 'head=%s %s\n' "$pc_x" "$(printf %s "$pc_r" | tr -d ' ')"
        done
    else
        pc_errors "$pc_said"
    fi
    ;;
esac
:
