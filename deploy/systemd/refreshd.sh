#!/bin/sh
# refreshd's commands, as the service sees things: its user, state, keys and secrets, and its walls. Install it as
# /usr/local/bin/refreshd. It works whether the service runs or not. For a replica: REFRESHD_UNIT=refreshd@NAME
unit=${REFRESHD_UNIT:-refreshd}
[ "$(id -u)" = 0 ] || exec sudo REFRESHD_UNIT="$unit" "$0" "$@"
# The audit names the person: who logged in, as the kernel keeps it through sudo and su, else who called sudo.
person=$(cat /proc/self/loginuid 2>/dev/null)
case $person in '' | 4294967295) person=${SUDO_UID:-0} ;; esac
state=$(systemctl show --property=StateDirectory --value "$unit")
# A command may read files of yours, like a journal from elsewhere, so it sees home directories and /tmp.
set -- --property=User=refreshd --property=UMask=0077 --property=SyslogIdentifier=refreshd-command \
  --setenv=SUDO_UID="$person" --setenv=SUDO_USER="$(id -un "$person" 2>/dev/null)" \
  --property=StateDirectory="$state" --property=StateDirectoryMode=0700 --property=ProtectHome=read-only \
  --property=ProtectSystem=full -- /opt/refreshd/bin/refreshd "$@"
# The rest is as the unit and its drop-ins have it, in their order: of system call filters the first decides what is usual.
as_the_unit='LoadCredential|LoadCredentialEncrypted|LimitCORE|MemorySwapMax|IPAddressAllow|IPAddressDeny|AmbientCapabilities
|CapabilityBoundingSet|DevicePolicy|KeyringMode|LockPersonality|MemoryDenyWriteExecute|NoNewPrivileges|PrivateDevices
|PrivateIPC|PrivateMounts|PrivateUsers|ProtectClock|ProtectControlGroups|ProtectHostname|ProtectKernelLogs
|ProtectKernelModules|ProtectKernelTunables|ProtectProc|RestrictAddressFamilies|RestrictNamespaces|RestrictRealtime
|RestrictSUIDSGID|SystemCallArchitectures|SystemCallErrorNumber|SystemCallFilter'
as_the_unit=$(echo "$as_the_unit" | tr -d '\n')
set -f
IFS='
'
for line in $(systemctl cat "$unit" | grep -E "^($as_the_unit)=" | tac); do
  set -- --property="$line" "$@"
done
exec systemd-run --quiet --pipe --wait --collect "$@"
