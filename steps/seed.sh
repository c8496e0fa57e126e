# A first copy of the code for a server that has none: nothing of the site's is touched, and taking it
# back removes only what nobody changed since. Set before: codedir, seed.
set -eu
umask 022
record=/var/lib/pmrunbook/seeded
stock=/var/lib/pmrunbook/stock # environments as packages ship them: without any code
unpack() {
    aside=$codedir/.pmrunbook-seed
    mkdir -p -- "$codedir"
    rm -rf -- "$aside"
    mkdir -- "$aside"
    tar --extract --gzip --file="$seed" -C "$aside" --same-permissions --same-owner
    (cd "$aside" && find . -type f -exec sha256sum {} +) >"$record.new"
    mv -- "$record.new" "$record"
    for new in "$aside"/environments/*; do
        place=$codedir/environments/${new##*/}
        [ -d "$place" ] || continue
        if [ -z "$(find "$place" -type f ! -name environment.conf ! -name hiera.yaml -print -quit)" ]; then
            mkdir -p -m 0700 -- "$stock"
            mv -T -- "$place" "$stock/${new##*/}"
        fi
    done
    for new in "$aside"/* "$aside"/environments/*; do # a whole folder at once, where there is none
        place=$codedir/${new#"$aside"/}
        [ ! -e "$new" ] || [ -e "$place" ] || mv -T -- "$new" "$place"
    done
    rm -rf -- "$aside"
    rm -f -- "$seed"
}
take_back() {
    [ -e "$record" ] || exit 0
    rm -rf -- "$codedir/.pmrunbook-seed"
    cd "$codedir" || exit 0
    while read -r sum file; do
        [ -f "$file" ] && [ "$(sha256sum <"$file" | cut -d' ' -f1)" = "$sum" ] || continue
        rm -f -- "$file"
        d=$(dirname -- "$file")
        while [ "$d" != . ] && rmdir -- "$d" 2>/dev/null; do d=$(dirname -- "$d"); done
    done <"$record"
    for old in "$stock"/*; do
        [ -d "$old" ] || continue
        mkdir -p environments
        [ -e "environments/${old##*/}" ] || mv -T -- "$old" "environments/${old##*/}"
    done
    rm -rf -- "$stock" "$record"
}
