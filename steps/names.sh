# What names lead to as this host itself sees it, hosts file and all; pc_names is the list.
for n in $(printf '%s\n' $pc_names "$(hostname -f 2>/dev/null || uname -n)" $PS_certname | sort -u); do
    printf '[%s]\n' "$n"
    for a in $(pc_within 10 getent ahosts "$n" 2>/dev/null | awk '{print $1}' | sort -u); do
        printf 'address=%s\n' "$a"
        printf 'reverse=%s %s\n' "$a" \
            "$(pc_within 10 getent hosts "$a" 2>/dev/null | awk '{$1 = ""; sub(/^ /, ""); print; exit}')"
    done
done
