# The timer that brings code by itself, and how its last run went. Set before: pc_unit.
for pc_kind in service timer; do
    printf '[%s]\npath=%s\n' "$pc_kind" "/etc/systemd/system/$pc_unit.$pc_kind"
    pc_file "/etc/systemd/system/$pc_unit.$pc_kind"
done
printf '[program]\npath=%s\n' "/usr/local/sbin/$pc_unit"
pc_file "/usr/local/sbin/$pc_unit"
echo '[state]'
printf 'timer=%s %s\n' "$(systemctl is-active "$pc_unit.timer" 2>/dev/null)" \
    "$(systemctl is-enabled "$pc_unit.timer" 2>/dev/null)"
systemctl show "$pc_unit.service" -p Result -p ExecMainStatus -p ActiveState 2>/dev/null |
    sed -n 's/^Result=/result=/p; s/^ExecMainStatus=/status=/p; s/^ActiveState=/active=/p'
# By the clock that nobody sets: against the day's clock, which somebody may have put right since, a
# run of long ago could seem to be of just now, or of tomorrow.
pc_ended=$(systemctl show "$pc_unit.service" -p ExecMainExitTimestampMonotonic --value 2>/dev/null)
[ "${pc_ended:-0}" = 0 ] || [ -z "$PC_ruby" ] || "$PC_ruby" --disable-gems -e '
  puts "ago=#{Process.clock_gettime(Process::CLOCK_MONOTONIC, :second) - ARGV[0].to_i / 1_000_000}"
' "$pc_ended"
printf 'log=%s\n' "$(journalctl -u "$pc_unit.service" -n 1 -o cat --no-pager 2>/dev/null | tr -d '\r' | head -c 300)"
:
