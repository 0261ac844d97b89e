# Sourced by stack/try and tests/run: installs what a fresh Debian or Ubuntu lacks, and says so. What is there already is left alone.

# Where rustup puts its programs; a shell that was open before does not look there yet.
PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH:/usr/sbin:/sbin"
export PATH

say() { printf '%s\n' "$*" >&2; }

# as_root COMMAND...: as root, by sudo where this is not root.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo -- "$@"
  else
    say "root is needed for: $* (run this as root, or install sudo)"
    return 1
  fi
}

# packages NEEDED=PACKAGE...: NEEDED is a command, or a file by its whole path; the package comes from apt when it is not there.
packages() {
  local pair needed missing=()
  for pair in "$@"; do
    needed=${pair%%=*}
    case $needed in
      /*) [ -e "$needed" ] || missing+=("${pair#*=}") ;;
      *) command -v "$needed" >/dev/null || missing+=("${pair#*=}") ;;
    esac
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if ! command -v apt-get >/dev/null; then
    say "missing, and this machine has no apt-get to install it with: ${missing[*]}"
    return 1
  fi
  say "installing with apt-get: ${missing[*]}"
  # Lists that are there may be months old; on a fresh machine there are none, and its own first upgrade may hold the lock.
  as_root apt-get -qq -o DPkg::Lock::Timeout=300 update || return 1
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${missing[@]}" >/dev/null
}

# The Rust version that Cargo.toml asks for.
rust_wanted() { sed -n 's/^rust-version = "\(.*\)"/\1/p' "$1/Cargo.toml"; }

# rustup_installer VERSION: the official installer, from the address it is known by or the one where it lies. No shell profile is changed, and a
# distribution's older Rust may stay where it is.
rustup_installer() {
  local url script
  for url in https://sh.rustup.rs https://static.rust-lang.org/rustup/rustup-init.sh; do
    # Whole before it is run: a download that breaks off is no script.
    if script=$(curl --proto '=https' --tlsv1.2 -sSfL "$url"); then
      RUSTUP_INIT_SKIP_PATH_CHECK=yes sh -s -- -y --quiet --profile minimal --default-toolchain "$1" --no-modify-path <<<"$script" >/dev/null
      return
    fi
  done
  say "the installer of Rust could not be fetched; install Rust $1 or newer yourself: https://rustup.rs"
  return 1
}

# rust ROOT [COMPONENT...]: cargo and rustc, not older than ROOT/Cargo.toml asks for, with the components given; the official toolchain goes into
# the home of whoever runs this.
rust() {
  local root=$1 wanted have
  shift
  wanted=$(rust_wanted "$root")
  have=$(cd "$root" && rustc --version 2>/dev/null | cut -d' ' -f2) || have=
  if [ -z "$have" ] || ! command -v cargo >/dev/null || [ "$(printf '%s\n' "$wanted" "${have%%-*}" | sort -V | head -n1)" != "$wanted" ]; then
    if command -v rustup >/dev/null; then
      say "installing Rust $wanted with rustup (found: ${have:-none})"
      rustup toolchain install "$wanted" --profile minimal --no-self-update || return 1
    else
      say "installing Rust $wanted with the installer of https://rustup.rs into ${CARGO_HOME:-$HOME/.cargo} (found: ${have:-none})"
      rustup_installer "$wanted" || return 1
      hash -r
    fi
    export RUSTUP_TOOLCHAIN=$wanted
  fi
  local component missing=()
  for component in "$@"; do
    (cd "$root" && cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1) || missing+=("$component")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if ! command -v rustup >/dev/null; then
    say "this Rust has no ${missing[*]}, and is not rustup's: install them as you installed it"
    return 1
  fi
  say "installing with rustup: ${missing[*]}"
  (cd "$root" && rustup component add "${missing[@]}")
}

# rust_exactly ROOT: as rust, and where a newer Rust is rustup's, the version of ROOT/Cargo.toml all the same: formatting and lints differ by version.
rust_exactly() {
  local wanted
  rust "$1" || return 1
  wanted=$(rust_wanted "$1")
  case $(cd "$1" && rustc --version) in "rustc $wanted."*) return 0 ;; esac
  if ! command -v rustup >/dev/null; then
    say "this Rust is newer than $wanted, and is not rustup's: lints may differ"
    return 0
  fi
  rustup toolchain list | grep -q "^$wanted-" || { say "installing Rust $wanted with rustup"; rustup toolchain install "$wanted" --profile minimal --no-self-update || return 1; }
  export RUSTUP_TOOLCHAIN=$wanted
}
