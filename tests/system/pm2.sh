#!/bin/bash
# `pm2` as PM2's own end-to-end scripts call it: appctl, and as little as possible beside it.
#
#   kill     there is no daemon to forget its apps when it ends: `delete all`
#   start    restarts in PM2 what runs already, and leaves it alone here: `startOrRestart FILE`, `restart NAME`
case ${1-} in
    kill) appctl delete all || true ;;
    start)
        shift
        case ${1-} in
            *.json | *.yaml | *.yml | *.config.js | -) exec appctl startOrRestart "$@" ;;
        esac
        [ $# -eq 1 ] && appctl pid "$1" >/dev/null 2>&1 && exec appctl restart "$1"
        exec appctl start "$@"
        ;;
    *) exec appctl "$@" ;;
esac
