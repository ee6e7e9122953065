#!/bin/bash
# The same for a shell.
who=pm2
[ -n "$APPCTL_APP" ] && who=appctl
exec 4>/dev/tcp/127.0.0.1/4999
printf '{"who":"%s","name":"%s","index":"%s","pid":%d,"event":"start","environment":{"NODE_APP_INSTANCE":"%s","GREETING":"%s"},"arguments":["%s"],"runtime":[],"directory":"%s","user":%d,"group":%d}\n' \
    "$who" "$name" "${NODE_APP_INSTANCE:-0}" $$ "$NODE_APP_INSTANCE" "$GREETING" "$*" "$PWD" "$(id -u)" "$(id -g)" >&4
exec 4>&-
exec sleep 1000000
