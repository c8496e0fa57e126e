# The timer that brings code by itself, and how its last run went. Set before: pc_unit.
for pc_kind in service timer; do
    printf '[%s]\npath=%s\n' "$pc_kind" "/etc/systemd/system/$pc_unit.$pc_kind"
    pc_file "/etc/systemd/system/$pc_unit.$pc_kind"
done
printf '[program]\npath=%s\n' "/usr/local/sbin/$pc_unit"
pc_file "/usr/local/sbin/$pc_unit"
echo '[state]'
# A run that is under way hides how the last one ended: a short one is waited for.
pc_wait=20
while [ "$(systemctl show "$pc_unit.service" -p ActiveState --value 2>/dev/null)" = activating ] &&
    [ "$pc_wait" -gt 0 ]; do
    pc_wait=$((pc_wait - 1))
    sleep 0.5
done
printf 'timer=%s %s\n' "$(systemctl is-active "$pc_unit.timer" 2>/dev/null)" \
    "$(systemctl is-enabled "$pc_unit.timer" 2>/dev/null)"
systemctl show "$pc_unit.service" -p Result -p ExecMainStatus -p ActiveState 2>/dev/null |
    sed -n 's/^Result=/result=/p; s/^ExecMainStatus=/status=/p; s/^ActiveState=/active=/p'
# By the clock that nobody sets: against the day's clock, which somebody may have put right since, a
# run of long ago could seem to be of just now, or of tomorrow.
pc_ended=$(systemctl show "$pc_unit.service" -p InactiveEnterTimestampMonotonic --value 2>/dev/null)
[ "${pc_ended:-0}" = 0 ] || [ -z "$PC_ruby" ] || "$PC_ruby" --disable-gems -e '
  puts "ago=#{Process.clock_gettime(Process::CLOCK_MONOTONIC, :second) - ARGV[0].to_i / 1_000_000}"
' "$pc_ended"
printf 'log=%s\n' "$(journalctl -u "$pc_unit.service" -n 1 -o cat --no-pager 2>/dev/null | tr -d '\r' | head -c 300)"
:
