"""The `sh` scripts that perform an action on a host, save what it replaces, and put it back.

Pure text in, text out; POSIX `sh`, coreutils and tar only. Every value enters a script through
`quote`, so it comes out as exactly one word.

A backup is a folder per job, 0700 root, its files 0600, on the host it came from: `manifest` (one
line a path: its number, `file` or `none`, SHA-256 of its archive), one tar per path, and `made`
with the folders the action had to create. `restore` refuses an archive whose checksum moved.
"""

from __future__ import annotations

import base64
import posixpath
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from runbook.model import Action, RemoveFile, Script, WriteFile

ROOT = "/var/lib/pmrunbook"
BACKUPS = f"{ROOT}/backups"
LENT = "/run/pmrunbook"  # in memory: gone with the next boot at the latest
IDLE = ":"  # the script that takes back what left nothing
CHANGED = 75  # exit status: the host is not as the plan saw it (EX_TEMPFAIL)
DISTRUSTED = 4  # exit status: a fingerprint or a key is not the expected one (errors.TrustError)


def quote(word: str) -> str:
    """`word` as exactly one shell word; ValueError for NUL, which no word can carry."""
    if "\0" in word:
        raise ValueError("a shell word cannot contain NUL")
    return shlex.quote(word)


PRIVATE = r"""
private() { # folders, the outer first: made, or refused where they are not root's own; closed
    for d; do
        [ ! -L "$d" ] || { printf '%s is a symbolic link; refusing\n' "$d" >&2; exit 1; }
        [ -d "$d" ] || mkdir -m 0700 -- "$d" || [ -d "$d" ] || exit 1
        [ -O "$d" ] || { printf "%s is not root's\n" "$d" >&2; exit 1; }
        chmod 0700 -- "$d" || exit 1
    done
}
"""

_LIBRARY = rf"""
changed() {{ printf '%s\n' "$1" >&2; exit {CHANGED}; }}
sum() {{ sha256sum <"$1" | cut -d' ' -f1; }}
save() ( # number, path
    umask 077
    if [ -e "$2" ] || [ -L "$2" ]; then
        tar --create --file="$B/$1.tar" --numeric-owner --xattrs --acls \
            -C "$(dirname -- "$2")" -- "$(basename -- "$2")"
        printf '%s file %s\n' "$1" "$(sum "$B/$1.tar")" >>"$B/manifest"
        sync -- "$B/$1.tar"
    else
        printf '%s none -\n' "$1" >>"$B/manifest"
    fi
    sync -- "$B/manifest" "$B"
)
{PRIVATE}"""

_RESTORE = r"""
sound() { # number, path: before anything is touched
    line=$(grep -- "^$1 " "$B/manifest") || { printf 'no backup of %s\n' "$2" >&2; exit 1; }
    set -- "$1" "$2" ${line#* }
    [ "$3" = none ] || [ "$(sum "$B/$1.tar")" = "$4" ] ||
        { printf 'the backup of %s is damaged\n' "$2" >&2; exit 1; }
}
restore() { # number, path
    line=$(grep -- "^$1 " "$B/manifest")
    set -- "$1" "$2" ${line#* }
    dir=$(dirname -- "$2")
    if [ "$3" = none ]; then
        rm -rf -- "$2"
        return 0
    fi
    new=$(mktemp -d "$dir/.pmrunbook.XXXXXX")
    tar --extract --file="$B/$1.tar" -C "$new" --same-owner --same-permissions --numeric-owner \
        --xattrs --acls
    if [ -d "$2" ] && [ ! -L "$2" ]; then mv -T -- "$2" "$new/.old"; fi
    mv -f -T -- "$new/$(basename -- "$2")" "$2"
    rm -rf -- "$new"
    sync -- "$dir"
}
"""


def _head(job_id: str) -> list[str]:
    return ["set -eu", f"B={quote(posixpath.join(BACKUPS, job_id))}", _LIBRARY]


def _saves(paths: Sequence[str]) -> list[str]:
    mine = f'private {quote(ROOT)} {quote(BACKUPS)} "$B"'
    return [mine, *(f"save {n} {quote(p)}" for n, p in enumerate(paths))]


def _spares(folders: Sequence[str]) -> list[str]:
    """Refuse where the key of a CA lies in one of these folders, links included."""
    return [
        f'if [ -n "$(find -L {folder} -maxdepth 4 -name ca_key.pem -print 2>/dev/null)" ]; then '
        f"printf 'the key of a CA lies in %s; refusing\\n' {folder} >&2; exit {DISTRUSTED}; fi"
        for folder in map(quote, folders)
    ]


def saved_paths(do: Mapping[str, Any]) -> tuple[str, ...]:
    """The paths a recorded action (its plain form) put into its backup."""
    if do["kind"] in ("WriteFile", "RemoveFile"):
        return (str(do["path"]),)
    return tuple(do.get("saves", ()))


def perform(action: Action, job_id: str) -> str:
    """The script of an action on a host; TypeError for what does not happen on a host."""
    match action.do:
        case WriteFile() as do:
            lines = [*_head(job_id), *_write(do)]
        case RemoveFile(path, before):
            file = quote(path)
            lines = [
                *_head(job_id),
                f"[ -f {file} ] || exit 0",
                f'[ "$(sum {file})" = {before} ] || changed {quote(path + ": changed since")}',
                *_saves([path]),
                f"rm -- {file}",
            ]
        case Script() as do:
            head = [*_head(job_id), *_spares(do.removes), *_saves(do.saves)]
            head = head if do.saves or do.removes else []
            if do.secrets:
                head += _borrow(job_id, [name for name, _ in do.secrets])
            # A subshell of its own: the script's options and traps are not ours.
            lines = [*head, "set +eu", "(", do.script, ")"]
        case _:
            raise TypeError(f"{action.id} is not performed on a host")
    return "\n".join(lines) + "\n"


def lend_script(job_id: str, secrets: Mapping[str, str]) -> str:
    """Put secrets into the host's memory, for the script of one job; what an earlier job left goes.

    The values are in the text of the script, which travels over the channel, and go through a
    builtin: no argument of a process has them.
    """
    folder = quote(posixpath.join(LENT, job_id))
    return "\n".join(
        (
            "umask 077",
            f"rm -rf -- {LENT}",
            f"mkdir -m 0700 -- {LENT} {folder} || exit 1",
            *(f"printf %s {quote(v)} >{folder}/{name} || exit 1" for name, v in secrets.items()),
        )
    )


def _borrow(job_id: str, names: Sequence[str]) -> list[str]:
    folder = quote(posixpath.join(LENT, job_id))
    gone = "echo 'Error: the secrets of this job are gone: the host rebooted' >&2; exit 1"
    return [
        f"[ -d {folder} ] || {{ {gone}; }}",
        *(f"{name}=$(cat {folder}/{name})" for name in names),
        f"rm -rf -- {folder}",
    ]


def _write(do: WriteFile) -> list[str]:
    """Write beside, fsync, rename; an existing file lends its owner, mode and attributes."""
    file = quote(do.path)
    changed = f"changed {quote(do.path + ': changed since the plan was made')}"
    if do.before:
        link = quote(f"{do.path} is a symbolic link; name the file it leads to")
        guard = [
            f"[ ! -L {file} ] || {{ printf '%s\\n' {link} >&2; exit 1; }}",
            f'[ -f {file} ] && [ "$(sum {file})" = {do.before} ] || {changed}',
        ]
        # All but the time: other programs tell a changed file by it.
        like = [f'cp --attributes-only --preserve=all -- {file} "$T"', 'touch -- "$T"']
    else:
        guard = [f"[ ! -e {file} ] && [ ! -L {file} ] || {changed}"]
        like = [f'chown {quote(do.owner)} -- "$T"', f'chmod {quote(do.mode)} -- "$T"']
    return [
        # Done already, by this very job before it was cut short: the same content, nothing to do.
        f'if [ -f {file} ] && [ "$(sum {file})" = {do.after} ]; then exit 0; fi',
        *guard,
        *_saves([do.path]),
        'make() { [ -d "$1" ] || { make "$(dirname -- "$1")"; mkdir -m 0755 -- "$1"; '
        '(umask 077; printf \'%s\\n\' "$1" >>"$B/made"); }; }',
        f'make "$(dirname -- {file})"',
        f'T=$(mktemp "$(dirname -- {file})/.pmrunbook.XXXXXX")',
        "trap 'rm -f -- \"$T\"' EXIT",
        'base64 -d >"$T" <<"EOF"',
        base64.encodebytes(do.content).decode().rstrip("\n"),
        "EOF",
        f'[ "$(sum "$T")" = {do.after} ] || {{ echo "no room for {do.path}" >&2; exit 1; }}'
        if quote(do.path) == do.path
        else f'[ "$(sum "$T")" = {do.after} ] || exit 1',
        *like,
        'sync -- "$T"',
        f'mv -f -T -- "$T" {file}',
        f'sync -- "$(dirname -- {file})"',
    ]


def undo(
    do: Mapping[str, Any], undo: Mapping[str, Any], job_id: str, *, force: bool = False
) -> str | None:
    """The script that takes a recorded action back; None where nothing is to be done.

    `do` and `undo` are the plain forms the journal holds. A written file that was changed by
    somebody since makes the script exit with `CHANGED`, unless `force`. ValueError for an
    irreversible action, TypeError for one that did not happen on a host.
    """
    if do["kind"] not in ("WriteFile", "RemoveFile", "Script", "Human"):
        raise TypeError(f"a {do['kind']} is not taken back on a host")
    match undo["kind"]:
        case "Nothing":
            return None
        case "Compensate":
            return str(undo["script"])
        case "Restore":
            pass
        case _:
            raise ValueError(str(undo.get("reason", "cannot be undone")))
    lines = [*_head(job_id), _RESTORE]
    lines.append('[ -f "$B/manifest" ] || exit 0  # it never came to a change')
    if do["kind"] == "WriteFile" and not force:
        file, after = quote(str(do["path"])), str(do["content"]["sha256"])
        text = quote(f"{do['path']}: changed by somebody since pmrunbook wrote it")
        before = str(do["before"]) or "-"  # already taken back, by an undo that was cut short
        lines.append(
            f'if [ -e {file} ]; then case "$(sum {file})" in {before} | {after}) ;; '
            f"*) changed {text} ;; esac; fi"
        )
    lines += [f"sound {n} {quote(p)}" for n, p in enumerate(saved_paths(do))]
    if undo.get("then"):
        # Once `first` stopped something, `then` starts it again whatever happens in between.
        lines += ["finally() (", str(undo["then"]), ")"]
        lines.append("trap 'code=$?; trap - EXIT; finally || code=1; exit $code' EXIT")
    if undo.get("first"):
        lines += ["(", str(undo["first"]), ")"]
    lines += [f"restore {n} {quote(p)}" for n, p in enumerate(saved_paths(do))]
    lines.append(
        'if [ -f "$B/made" ]; then sort -r "$B/made" | while IFS= read -r d; do '
        'rmdir -- "$d" 2>/dev/null || :; done; fi'
    )
    return "\n".join(lines) + "\n"
