#!/bin/sh
# Makes the image's file system from a weir binary and from what it links to on this host, and prints what is in it.
#
#   stage.sh BINARY DIRECTORY        DIRECTORY must not exist
#
# `cargo xtask image` and the tests call it; by hand it is all that the Dockerfile beside it needs.
set -eu
binary=$1 root=$2
mkdir "$root"
for folder in dev etc/ssl/certs etc/weir proc run/weir sys tmp usr/bin var/lib/weir; do
    mkdir -p "$root/$folder"
done
chmod 1777 "$root/tmp"

# Debug information is nine tenths of the binary; symbols stay, for the names in a backtrace.
strip --strip-debug -o "$root/usr/bin/weir" "$binary"

# The C library and what else `ldd` names, at the paths that the binary looks for.
ldd "$binary" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$root${library%/*}"
    cp -L "$library" "$root$library"
done

# Whom TLS towards endpoints trusts where a cluster names no `ca`.
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"

# Tools ask for the names of users. It runs as root, whose capabilities the runtime takes away: those of another user would
# not outlast the start of a program without setting them on its file, which `allowPrivilegeEscalation: false` forbids.
echo 'root:x:0:0:root:/:/usr/bin/weir' > "$root/etc/passwd"
echo 'root:x:0:' > "$root/etc/group"

# Two builds of the same binary are the same image.
find "$root" -exec touch --no-dereference --date=@0 {} +

(cd "$root" && find . -mindepth 1 -type d -printf '%11s  %P/\n' -o -type f -printf '%11s  %P\n' | sort -k 2 | sed 's|^ *[0-9]*  \(.*/\)$|             \1|')
find "$root" -type f -printf '%s\n' | awk '{ bytes += $1 } END { printf "%11d  bytes in %d files\n", bytes, NR }'
