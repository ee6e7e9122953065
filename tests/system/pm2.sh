#!/bin/bash
# `pm2` as PM2's own end-to-end scripts call it: appctl, and as little as possible beside it.
#
#   kill           there is no daemon, so nothing forgets the apps when it ends: delete all
#   delete all     is no mistake when there are none
#   start          of what runs already restarts it in PM2, and leaves it alone here: startOrRestart is that
case ${1-} in
    kill) appctl delete all || true ;;
    start)
        shift
        case ${1-} in
            *.json | *.yaml | *.yml | *.config.js | -) [ $# -eq 1 ] && exec appctl startOrRestart "$1" ;;
            *) [ $# -eq 1 ] && appctl pid "$1" >/dev/null 2>&1 && exec appctl restart "$1" ;;
        esac
        exec appctl start "$@"
        ;;
    *) exec appctl "$@" ;;
esac
