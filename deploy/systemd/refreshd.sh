#!/bin/sh
# refreshd's commands, as the service sees things: its user, state, keys and secrets. Install it as
# /usr/local/bin/refreshd. It works whether the service runs or not. For a replica: REFRESHD_UNIT=refreshd@NAME
unit=${REFRESHD_UNIT:-refreshd}
[ "$(id -u)" = 0 ] || exec sudo REFRESHD_UNIT="$unit" "$0" "$@"
# The audit names the person: who logged in, as the kernel keeps it through sudo and su, else who called sudo.
person=$(cat /proc/self/loginuid 2>/dev/null)
case $person in '' | 4294967295) person=${SUDO_UID:-0} ;; esac
state=$(systemctl show --property=StateDirectory --value "$unit")
set -- --property=User=refreshd --property=UMask=0077 --property=SyslogIdentifier=refreshd-command \
  --setenv=SUDO_UID="$person" --setenv=SUDO_USER="$(id -un "$person" 2>/dev/null)" \
  --property=StateDirectory="$state" --property=StateDirectoryMode=0700 -- /opt/refreshd/bin/refreshd "$@"
for credential in $(systemctl cat "$unit" | grep -E '^LoadCredential(Encrypted)?=.'); do
  set -- --property="$credential" "$@"
done
exec systemd-run --quiet --pipe --wait --collect "$@"
