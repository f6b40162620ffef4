# For the tests that need a Debian of their own. Sourced.

# Ends with 0, and says what was not tried, where the machine can't do it.
need() {
    local tool
    if [ "$(id -u)" != 0 ]; then
        echo "skipped: $1 needs root"
        exit 0
    fi
    shift
    for tool in "$@"; do
        if ! command -v "$tool" >/dev/null; then
            echo "skipped: there is no $tool"
            exit 0
        fi
    done
}

# make_chroot FOLDER PACKAGES: a minimal Debian with further packages, separated by commas, from the
# machine's own sources and with its ways to fetch from them.
make_chroot() {
    local sources=() file options
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources}; do
        if [ -s "$file" ]; then sources+=("$file"); fi
    done
    options=$(mktemp)
    apt-config dump | grep -E '^Acquire::(Check-|Retries|ForceIPv|https?::)' >"$options" || true
    # shellcheck disable=SC1091
    mmdebstrap --quiet --mode=root --variant=minbase --include="$2" --aptopt="$options" \
        "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$1" "${sources[@]}"
    rm -f "$options"
}

# in_chroot FOLDER COMMAND...: runs it with processes of its own, which end with it, and without
# /sys: what a package sets there would be set on this machine. BINDS are paths of this machine that
# are seen there too; MOUNTS is a command that changes what is mounted, $root being the folder.
BINDS=()
MOUNTS=:
in_chroot() {
    local root=$1 path
    shift
    for path in "${BINDS[@]}"; do
        if [ -d "$path" ]; then
            mkdir -p "$root$path"
        else
            mkdir -p "$(dirname "$root$path")" && touch "$root$path"
        fi
    done
    # shellcheck disable=SC2016
    root=$root mounts=$MOUNTS binds="${BINDS[*]}" unshare --mount --pid --fork --kill-child -- \
        /bin/sh -ec '
        eval "$mounts"
        mount -t proc proc "$root/proc"
        mount -t tmpfs tmpfs "$root/tmp"
        for path in $binds; do
            mount --bind "$path" "$root$path"
            mount -o remount,bind,ro "$root$path"
        done
        exec chroot "$root" "$@"' sh env -i \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}
