# What a service said of itself since a start that failed, and what the kernel denied it.
# Set before: log, a file it writes to; began, when (epoch); size, of that file then.
audit_log=${audit_log:-/var/log/audit/audit.log}
said_since() { # UNIT
    journalctl -u "$1" --since "@$began" --no-pager -o cat 2>/dev/null | tail -n 200
    now=$(stat -c %s "$log" 2>/dev/null || echo 0)
    [ "$now" -ge "$size" ] || size=0
    tail -c "+$((size + 1))" "$log" 2>/dev/null | tail -n 400
}
worth_telling() { # PATTERN: of what comes in, without Java's stacks
    grep -vE '^[[:space:]]+at ' | grep -iE "$1" | tail -n 15
}
# What the kernel denied since: auditd keeps that from its log, and a site may keep it from the journal.
denials() {
    {
        journalctl -k --since "@$began" --no-pager -o cat
        journalctl _TRANSPORT=audit --since "@$began" --no-pager -o cat
        tail -n 1000 "$audit_log" | awk -F'audit[(]' -v since="$began" '$2 + 0 >= since' |
            tr '\035' '\n' # before what it adds of its own
    } 2>/dev/null | grep -oE '(apparmor="DENIED"|avc: +denied).*' | grep -v 'permissive=1' |
        awk '!seen[$0]++' | tail -n 3
}
tell_denials() {
    denied=$(denials)
    [ -z "$denied" ] || printf 'denied by the kernel:\n%s\n' "$denied"
}
DENIED='the kernel (AppArmor or SELinux) denies it a file: allow it in the profile that the lines above name, or give the file its context back (restorecon)'
