#!/bin/sh
# The last step of the image, the same for both ways to build it: customize.sh ROOT, with ROOT / inside a
# Dockerfile.
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

# No documentation and no translations, now and for what a task installs. Taken out here and not as packages
# are unpacked: mmdebstrap would start a filter for each of them, which doubles the time.
cat >"$root/etc/dpkg/dpkg.cfg.d/99agirunner" <<'END'
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/lintian/*
path-exclude=/usr/share/groff/*
path-exclude=/usr/share/locale/*
path-include=/usr/share/locale/locale.alias
END
(
  cd "$root/usr/share"
  for folder in doc man info lintian groff locale; do
    [ ! -d "$folder" ] || find "$folder" -mindepth 1 ! -type d ! -name copyright ! -name locale.alias -delete
    [ ! -d "$folder" ] || find "$folder" -mindepth 1 -type d -empty -delete
  done
  # Some packages fail to install where there is no place for their manual page's link.
  for section in 1 2 3 4 5 6 7 8; do mkdir -p "man/man$section"; done
)

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
