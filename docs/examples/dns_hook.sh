#!/bin/sh
# A hook for [tls.dns]: ACME's challenges in a zone of the Knot DNS server on this machine.
#
#   hook = ["/path/to/dns_hook.sh", "example.com"]
#
# It is called as: dns_hook.sh ZONE present|cleanup RECORD VALUE, and writes by knotc; its user has to be in Knot's group.
set -eu

zone=$1 action=$2 record=$3 value=$4
knotc=${KNOTC:-knotc}

change() {
    $knotc zone-begin "$zone" >/dev/null
    # What was begun ends, whatever happens: the zone takes no other change before.
    trap '$knotc zone-abort "$zone" >/dev/null' EXIT
    "$@"
    $knotc zone-commit "$zone" >/dev/null
    trap - EXIT
}

there() {
    $knotc zone-read "$zone" "$record" TXT 2>/dev/null | grep -qF "\"$value\""
}

case $action in
present)
    there || change $knotc zone-set "$zone" "$record" 60 TXT "\"$value\""
    ;;
cleanup)
    ! there || change $knotc zone-unset "$zone" "$record" TXT "\"$value\""
    ;;
*)
    echo "unknown action: $action" >&2
    exit 2
    ;;
esac
