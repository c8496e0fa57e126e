# Bring an environment as it is on this host into the repository, as a branch of its own: what is in
# the repository already is never touched. Set before: the functions of copies.sh, environment,
# folder (its code), who.
work=$(mktemp -d) || exit 1
trap 'rm -rf -- "$work"' EXIT
said="Import of environment $environment by pmrunbook, from $who"
copied() { # to: all but what belongs to version control or is a secret
    tar -C "$folder" --exclude-vcs --exclude='.r10k-deploy.json*' --exclude='*private_key*' --exclude='.resource_types' -cf - . |
        tar -C "$1" --no-same-owner -xf -
}
case $kind in
git)
    git ls-remote --exit-code --heads --upload-pack="$(git_pack upload "$url")" "$url" "refs/heads/$environment" >/dev/null 2>&1 &&
        { echo "$environment is there already"; exit 0; }
    git init -q "$work/copy" && copied "$work/copy" && cd "$work/copy" || exit 1
    git checkout -q --orphan "$environment" && git add -A -f . &&
        git -c user.name=pmrunbook -c user.email="root@$who" commit -q --allow-empty -m "$said" &&
        git push -q --receive-pack="$(git_pack receive "$url")" "$url" "HEAD:refs/heads/$environment" || exit 1
    git rev-parse HEAD
    ;;
mercurial)
    hg --config ui.ssh="$remote" identify -r "$environment" "$url" >/dev/null 2>&1 && { echo "$environment is there already"; exit 0; }
    hg --config ui.ssh="$remote" clone -q --noupdate -- "$url" "$work/copy" && cd "$work/copy" || exit 1
    hg update -q null && hg branch -q "$environment" && copied . &&
        hg addremove -q && hg commit -q -u "pmrunbook <root@$who>" -m "$said" &&
        hg --config ui.ssh="$remote" push -q --new-branch -f || exit 1
    ;;
subversion)
    to=$url/branches/$environment
    svn --non-interactive info "$to" >/dev/null 2>&1 && { echo "$environment is there already"; exit 0; }
    mkdir "$work/copy" && copied "$work/copy" || exit 1
    svn --non-interactive import -q --no-ignore "$work/copy" "$to" -m "$said" || {
        svn --non-interactive mkdir -q --parents "$url/branches" -m 'branches, by pmrunbook' &&
            svn --non-interactive import -q --no-ignore "$work/copy" "$to" -m "$said"
    } || exit 1
    ;;
esac
echo "imported: $environment"
