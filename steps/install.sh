# Install packages at exact versions, with no service started on the way, or take away exactly what
# that installed. Set before: manager, specs (such as "puppetserver=7.9.5-2"), unit (that may not
# start; empty: none); record where it is another one, and preseed (answers for debconf).
set -u
umask 022
record=${record:-/var/lib/pmrunbook/installed}
folders='/etc/puppet /etc/puppetlabs /var/lib/puppet /var/lib/puppetserver /var/cache/puppet
/var/log/puppet /var/log/puppetserver /var/log/puppetlabs /opt/puppetlabs /run/puppetserver
/usr/share/puppet /etc/default/puppetserver /etc/sysconfig/puppetserver
/etc/puppetdb /var/lib/puppetdb /var/log/puppetdb /etc/dbconfig-common
/etc/postgresql /var/lib/postgresql /var/log/postgresql
/etc/haproxy /var/lib/haproxy /etc/default/haproxy'
packages() {
    case $manager in
    apt) dpkg-query -W -f '${db:Status-Status} ${Package}:${Architecture}\n' | sed -n 's/^installed //p' ;;
    *) rpm -qa --qf '%{NAME}.%{ARCH}\n' ;;
    esac | LC_ALL=C sort
}
remember() { # once: what is here before the first try is what undo keeps
    [ ! -e "$record/before" ] || return 0
    mkdir -p -m 0700 -- "$record" || return 1
    for f in $folders; do [ -e "$f" ] || printf '%s\n' "$f"; done >"$record/absent"
    packages >"$record/.before" && mv -- "$record/.before" "$record/before"
}
quietly() { # no package may start the server before its CA is switched off
    [ -n "$unit" ] || return 0
    systemctl mask --runtime --quiet "$unit" 2>/dev/null
    trap 'systemctl unmask --runtime --quiet "$unit" 2>/dev/null' EXIT
}
failed() { # last of all: the package manager's own last words do not name a full disk
    df -Pk /usr /opt /var /var/lib /tmp 2>/dev/null | awk '
        NR > 1 && $4 < 262144 && !seen[$6]++ {full = full ", " $6 " has " int($4 / 1024) " MiB free"}
        END {if (full) print "Error: little room is left: " substr(full, 3)}' >&2
    exit 1
}
finish_interrupted() { # an installation that was broken off, by somebody or by a full disk
    [ -n "$(dpkg --audit 2>/dev/null)" ] || return 0
    echo 'finishing an installation that was interrupted: dpkg --configure -a'
    dpkg --force-confdef --force-confold --configure -a # says nothing of what is half installed
    # What others need may not have come to it at all; and what was cut off while it was unpacked can
    # only be unpacked again (dpkg(1), reinst-required). Each may be in the way of the other.
    for round in 1 2; do
        [ -n "$(dpkg --audit 2>/dev/null)" ] || return 0
        mend --fix-broken install
        torn=$(dpkg-query -W -f '${db:Status-Abbrev}|${binary:Package}\n' | sed -n 's/^..R|//p')
        # shellcheck disable=SC2086  # a list of words
        [ -z "$torn" ] || mend --reinstall install $torn
    done
    [ -z "$(dpkg --audit 2>/dev/null)" ]
}
mend() { # nothing is removed for it
    apt-get -q -y --no-remove --no-install-recommends -o DPkg::Lock::Timeout=300 \
        -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}
install_packages() {
    if [ -n "$unit" ] && systemctl is-active --quiet "$unit"; then
        echo "$unit runs already" >&2
        exit 1
    fi
    remember || failed
    quietly
    case $manager in
    apt)
        export DEBIAN_FRONTEND=noninteractive
        finish_interrupted || failed
        apt-get -q -o DPkg::Lock::Timeout=300 update ||
            echo 'the lists of packages could not be fetched; going on with those of before' >&2
        [ -z "${preseed:-}" ] || printf '%s\n' "$preseed" | debconf-set-selections
        # shellcheck disable=SC2086  # a list of words
        apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 -o APT::Color=false \
            -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
            install $specs || failed
        ;;
    *)
        # shellcheck disable=SC2086
        "$manager" -y install $specs || failed
        ;;
    esac
    [ -z "$unit" ] || systemctl unmask --runtime --quiet "$unit" 2>/dev/null
    if [ -n "$unit" ] && systemctl is-active --quiet "$unit"; then
        echo "the packages started $unit, before it was set up" >&2
        exit 1
    fi
    # What is installed later is somebody else's: undo leaves it.
    packages | LC_ALL=C comm -13 "$record/before" - >"$record/.added" &&
        mv -- "$record/.added" "$record/added" || exit 1
    echo "installed: $specs"
}
remove_packages() {
    [ -e "$record/before" ] || exit 0
    [ -z "$unit" ] || systemctl disable --now --quiet "$unit" 2>/dev/null
    if [ -e "$record/added" ]; then
        new=$(packages | LC_ALL=C comm -12 "$record/added" -)
    else
        new=$(packages | LC_ALL=C comm -13 "$record/before" -)
    fi
    if [ -n "$new" ]; then
        case $manager in
        apt)
            export DEBIAN_FRONTEND=noninteractive
            # shellcheck disable=SC2086
            apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 purge $new || exit 1
            ;;
        *)
            # shellcheck disable=SC2086
            "$manager" -y remove $new || exit 1
            ;;
        esac
    fi
    # What is left in folders that were not there (keys, code, logs) is put aside, not thrown away.
    left=/var/lib/pmrunbook/left-$(date +%Y%m%dT%H%M%S)
    while IFS= read -r f; do
        case " $(echo $folders) " in *" $f "*) ;; *) continue ;; esac
        [ -e "$f" ] || continue
        mkdir -p -m 0700 -- "$left$(dirname -- "$f")" && mv -- "$f" "$left$f" || exit 1
    done <"$record/absent"
    [ ! -d "$left" ] || echo "what was left behind is in $left"
    rm -rf -- "$record"
    systemctl daemon-reload
}
