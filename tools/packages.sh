# SPDX-License-Identifier: GPL-2.0-or-later
# Sourced by quickstart and check: Debian packages, installed only if missing.
# shellcheck shell=bash

# What building needs (slirp's pkg-config file asks for glib's), what preparing a guest needs, what the tests need more.
PACKAGES_BUILD="gcc libc6-dev meson ninja-build pkg-config python3 libzydis-dev liburing-dev libslirp-dev libglib2.0-dev libjansson-dev zlib1g-dev libzstd-dev libssl-dev libargon2-dev libnbd-dev libcurl4-openssl-dev libseccomp-dev libpng-dev libjpeg62-turbo-dev scdoc"
PACKAGES_GUEST="mmdebstrap e2fsprogs cpio kmod busybox-static openssh-client fakeroot fakechroot uidmap"
PACKAGES_TEST="openssl gnutls-bin swtpm seabios ovmf ipxe-qemu qemu-system-data grub-common grub-pc-bin grub-efi-amd64-bin mtools sbsigntool xorriso gdb libcmocka-dev acpica-tools qemu-utils qemu-system-common nbdkit libnbd-bin cryptsetup-bin"

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
	say "$*"
	exit 1
}

missing_packages() { # PACKAGE...
	local p
	for p in "$@"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || echo "$p"
	done
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

# Installs what is missing; everything goes to standard error.
need_packages() { # PACKAGE...
	local missing
	command -v dpkg-query >/dev/null || die "this is not a Debian system; install the equivalents of: $*"
	mapfile -t missing < <(missing_packages "$@")
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
		die "these Debian packages are needed, and there is no sudo; as root: apt-get install ${missing[*]}"
	fi
	say "installing Debian packages$([ "$(id -u)" = 0 ] || echo ' with sudo'): ${missing[*]}"
	# A fresh machine has no package lists yet.
	if ! apt-get -q -s --no-install-recommends install "${missing[@]}" >/dev/null 2>&1; then
		as_root apt-get -q update >&2 || die "apt-get update failed; are the apt sources right?"
	fi
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "${missing[@]}" >&2 ||
		{ as_root apt-get -q update >&2 &&
			as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "${missing[@]}" >&2; } ||
		die "apt-get could not install them; its messages are above"
}

# apt's own lists must know the kernel package before mkguest asks for it.
need_apt_lists() {
	apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 && return 0
	say "refreshing apt's package lists"
	as_root apt-get -q update >&2 || die "apt-get update failed; are the apt sources right?"
}
