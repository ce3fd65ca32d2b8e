#!/bin/sh
# Runs refreshd's commands as the service runs: with its user, state, keys, secrets and sandbox. Install it as
# /usr/local/bin/refreshd. It also works while the service is stopped. For a replica, set REFRESHD_UNIT=refreshd@NAME.
unit=${REFRESHD_UNIT:-refreshd}
[ "$(id -u)" = 0 ] || exec sudo REFRESHD_UNIT="$unit" "$0" "$@"
# The audit names the person: the login user, which the kernel keeps through sudo and su, else the caller of sudo.
person=$(cat /proc/self/loginuid 2>/dev/null)
case $person in '' | 4294967295) person=${SUDO_UID:-0} ;; esac
state=$(systemctl show --property=StateDirectory --value "$unit")
# Commands can see home directories and /tmp, because they may read your files, such as a journal from another machine.
set -- --property=User=refreshd --property=UMask=0077 --property=SyslogIdentifier=refreshd-command \
  --setenv=SUDO_UID="$person" --setenv=SUDO_USER="$(id -un "$person" 2>/dev/null)" \
  --property=StateDirectory="$state" --property=StateDirectoryMode=0700 --property=ProtectHome=read-only \
  --property=ProtectSystem=full -- /opt/refreshd/bin/refreshd "$@"
# Copy the other properties from the unit and its drop-ins, in their order: the first system call filter sets the default.
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
