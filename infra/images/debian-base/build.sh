#!/bin/sh
# Builds the root file system of debian-base from Debian (or Ubuntu) packages alone: no registry, no engine.
#
#   build.sh OUT.tar
#
# Packages come from where this machine's own apt gets them, checked with this machine's own keys. Needs
# mmdebstrap, apt's package lists, and root or user namespaces. Prints mmdebstrap's progress; fails with its
# status.
set -eu

out=${1:?usage: build.sh OUT.tar}
here=$(cd "$(dirname "$0")" && pwd)
. /etc/os-release
distribution=$ID
suite=$VERSION_CODENAME

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The machine's sources in apt's own words, whichever way they are written down. Only the distribution's: a
# vendor's repository has no place in the image, and its key may be unknown in there.
keyring=/usr/share/keyrings/$distribution-archive-keyring.gpg
[ -r "$keyring" ] && signed="signed-by=$keyring" || signed=
apt-get indextargets --format '$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)' 'Created-By: Packages' |
  awk -F '|' -v options="${signed:+[$signed] }" -v distribution="$distribution" -v suite="$suite" '
    tolower($1) == distribution && index($3, suite) == 1 { print "deb " options $2 " " $3 " " $4 }
  ' | sort -u >"$work/sources.list"
if [ ! -s "$work/sources.list" ]; then
  echo "no apt source of $distribution $suite; the package lists are missing; run apt-get update" >&2
  exit 1
fi

# How this machine reaches them: proxies, certificates, retries. They are taken out of the image again.
apt-config dump | grep -E '^Acquire::((http|https|ftp)::|Retries|Check-Valid-Until|Check-Date)' |
  grep -v ' "";$' >"$work/apt.conf" || true

# The same packages give the same bytes: no file is younger than the newest release file that apt knows.
newest=$(sed -n 's/^Date: //p' /var/lib/apt/lists/*_*Release 2>/dev/null | date -u -f - +%s | sort -n | tail -n 1)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-${newest:-0}}
export SOURCE_DATE_EPOCH

packages=$(grep -v '^#' "$here/packages" | tr '\n' ',')
mmdebstrap --variant=apt --format=tar --include="${packages%,}" \
  --aptopt="$work/apt.conf" \
  --aptopt='Acquire::Languages "none"' \
  --customize-hook="sh '$here/customize.sh' \"\$1\"" \
  "$suite" "$work/root.tar" - <"$work/sources.list"
mv "$work/root.tar" "$out"
