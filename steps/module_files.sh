# The module's files as they are; pc_files are their paths. And whether a deployment owns the place.
for f in $pc_files; do
    printf '[%s]\n' "$f"
    printf 'path=%s\n' "$f"
    pc_file "$f"
done
printf '[place]\n'
d=$pc_module
while [ "${#d}" -gt 1 ]; do
    d=$(dirname -- "$d")
    for f in .r10k-deploy.json .g10k-deploy.json .git; do
        [ -e "$d/$f" ] && printf 'deployed=%s/%s\n' "$d" "$f"
    done
done
:
