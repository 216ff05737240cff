#!/usr/bin/env bash
# Brings what building, testing and showing amzmp needs, on Debian 12. The one set-up script: make demo, make test
# and CI all call it. When nothing is missing it does nothing, and says nothing.
#
#   script/setup.sh          what make, make demo and make test need
#   script/setup.sh node     that, and node and npm for make conformance; wherever they come from
#   script/setup.sh clang    that, and clang with libFuzzer for make fuzz
#   script/setup.sh bench    that, and the Python driver that a benchmark compares with
#
# It is not for installing amzmp, and changes the machine no further than apt-get does: it starts no server, and the
# "main" cluster that Debian makes with the server package is not made, because nothing here would use it.
# AMZMP_NO_SETUP=1 skips it, for systems other than Debian whose owner has brought the same things.
set -euo pipefail

packages=(
	gcc libc6-dev make                                                      # build
	postgresql-15 postgresql-client-15 postgresql-server-dev-15             # the server and its headers
	libcurl4-openssl-dev libssl-dev libjansson-dev zlib1g-dev               # what the library links
	libmicrohttpd-dev libexpat1-dev pkg-config                              # the simulator
	postgresql-15-cron postgresql-15-pgtap                                  # the clock; the tests' assertions
	libtap-parser-sourcehandler-pgtap-perl                                  # pg_prove
	clang-format-14 pgformatter                                             # the formats
	binutils ca-certificates curl openssl util-linux                        # what scripts call
)

for part in "$@"; do
	case $part in
		node) command -v node >/dev/null && command -v npm >/dev/null || packages+=(nodejs npm) ;;
		clang) packages+=(clang-14 libclang-rt-14-dev) ;;
		bench) packages+=(python3-psycopg) ;;
		*)
			echo "usage: $0 [node] [clang] [bench]" >&2
			exit 2
			;;
	esac
done

missing()
{
	local package
	for package in "${packages[@]}"; do
		[ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
	done
}

# One look for all of them: asking dpkg package by package takes half a second, which each make would pay.
all_there()
{
	[ "$(dpkg-query -W -f='${db:Status-Status}\n' "${packages[@]}" 2>/dev/null | grep -cx installed)" -ge ${#packages[@]} ]
}

as_root()
{
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

# Debian's server package makes and starts a cluster called "main" when it is first installed, unless this says no.
# The file is taken away again, so that later installations on this machine behave as their owner expects.
no_main_cluster=/etc/postgresql-common/createcluster.d/amzmp-setup.conf

install_packages()
{
	as_root mkdir -p "${no_main_cluster%/*}"
	echo 'create_main_cluster = false' | as_root tee "$no_main_cluster" >/dev/null
	trap 'as_root rm -f "$no_main_cluster"' EXIT
	as_root apt-get update -q
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

[ "${AMZMP_NO_SETUP:-0}" != 1 ] || exit 0
if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	echo "setup: this is not Debian. Bring PostgreSQL 15 and what the list in $0 names, then set AMZMP_NO_SETUP=1." >&2
	exit 1
fi
! all_there || exit 0

mapfile -t wanted < <(missing)
if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
	echo "setup: missing: ${wanted[*]}" >&2
	echo "setup: run it as root, or install sudo, or have somebody install these packages." >&2
	exit 1
fi
echo "setup: installing ${wanted[*]}"
install_packages "${wanted[@]}"
