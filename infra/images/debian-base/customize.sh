#!/bin/sh
# The last step of the image, the same for both ways to build it: customize.sh ROOT, with ROOT / inside a Dockerfile.
set -eu
root=${1%/}

# The user that tasks run as. Written by hand: the programs that would do it are no essential packages.
echo 'agent:x:10001:' >>"$root/etc/group"
echo 'agent:x:10001:10001:agent:/home/agent:/bin/sh' >>"$root/etc/passwd"
echo 'agent:*:19000:0:99999:7:::' >>"$root/etc/shadow"
[ ! -e "$root/etc/gshadow" ] || echo 'agent:!::' >>"$root/etc/gshadow"
mkdir -p "$root/home/agent" "$root/workspace"
chmod 0755 "$root/home/agent" "$root/workspace"
chown 10001:10001 "$root/home/agent" "$root/workspace"

# How the building machine reached its packages (a proxy's password, say) is nobody else's business.
cat >"$root/etc/apt/apt.conf.d/99mmdebstrap" <<'END'
Acquire::Languages "none";
APT::Install-Recommends "false";
END

# What differs from build to build, or belongs to the building machine.
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb
rm -rf "$root"/var/cache/ldconfig/* "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old
rm -f "$root"/etc/passwd- "$root"/etc/group- "$root"/etc/shadow- "$root"/etc/gshadow-
find "$root/var/log" -type f -delete
# Inside a build the engine holds these two.
: >"$root/etc/hostname" 2>/dev/null || true
: >"$root/etc/resolv.conf" 2>/dev/null || true
