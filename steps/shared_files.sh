# Files that every Puppet Server has to have, byte for byte. Set before: pc_files, a path a line; of
# a folder the files in it.
printf '%s\n' "$pc_files" | while IFS= read -r pc_at; do
    [ -n "$pc_at" ] || continue
    if [ -d "$pc_at" ]; then find -L "$pc_at" -type f ! -name '.*' 2>/dev/null | LC_ALL=C sort | head -n 200; else printf '%s\n' "$pc_at"; fi
done | while IFS= read -r pc_at; do
    case $pc_at in
    *private* | *.key | *secring*) printf '[%s]\npath=%s\nstate=secret\n' "$pc_at" "$pc_at" ;;
    *) printf '[%s]\npath=%s\n' "$pc_at" "$pc_at"; pc_file "$pc_at" ;;
    esac
done
:
