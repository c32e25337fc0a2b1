# The suite `arm` of .ci/run, which uses Debian's own toolchain. Sourced by it after suites.sh, never run. The toolchain is in
# a root made by debootstrap, which takes a minute and is kept for a week in $roots.
# shellcheck shell=bash

roots=${LEASEHOLD_ROOTS:-/var/tmp/leasehold-roots}

# A root of this Debian suite with these packages; prints its folder.
debian_root() { # SUITE PACKAGE…
  local root=$roots/$1 suite=$1
  shift
  if [ "$(cat "$root/made-of" 2>/dev/null)" != "$*" ] || [ -z "$(find "$root/made-of" -mtime -7)" ]; then
    rm -rf --one-file-system "$root"
    mkdir -p "$roots"
    debootstrap --variant=minbase --include="$(IFS=, && printf %s "$*")" "$suite" "$root" >"$out/$suite.log" 2>&1 ||
      { tail -n 20 "$out/$suite.log" >&2; return 1; }
    rm -f "$root"/var/cache/apt/archives/*.deb
    say "$*" >"$root/made-of"
  fi
  say "$root"
}

# Runs a command in a root that sees a copy of this repository at PLACE. The mounts end with their namespace.
in_root() { # ROOT SOURCE PLACE COMMAND…
  CARGO_HOME=${CARGO_HOME:-$HOME/.cargo} unshare --mount bash -euc '
    root=$1 source=$2 place=$3
    shift 3
    mkdir -p "$root$place" "$root/cargo"
    mount --bind "$source" "$root$place"
    mount --bind "$CARGO_HOME" "$root/cargo"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    exec chroot "$root" env -i -C "$place" HOME=/root PATH=/usr/bin:/bin CARGO_HOME=/cargo CARGO_NET_OFFLINE=true \
      CARGO_TERM_COLOR=never "$@"' in_root "$@"
}

# --- arm64 and armv7, as users have them on boards; x86-64 with the same toolchain, which has no lld of its own

arm_root() {
  local root version
  root=$(debian_root sid rustc cargo gcc libc6-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-arm-linux-gnueabihf \
    libc6-dev-armhf-cross qemu-user) || return 1
  # Debian's standard libraries for Arm can't be installed beside an x86-64 rustc; unpacked, they are found. They must be of
  # its version. (sid's lists are valid for a week; a mirror may be behind.)
  if [ ! -e "$root/made-for-arm" ]; then
    version=$(chroot "$root" dpkg-query -W -f '${Version}' rustc)
    chroot "$root" sh -euc '
      cd /tmp
      dpkg --add-architecture arm64
      dpkg --add-architecture armhf
      apt-get -qq -o Acquire::Check-Valid-Until=false update
      apt-get -qq download "libstd-rust-dev:arm64=$1" "libstd-rust-dev:armhf=$1"
      for package in libstd-rust-dev_*.deb; do dpkg -x "$package" / && rm "$package"; done
      touch /made-for-arm' sh "$version" >"$out/libstd.log" 2>&1 || { cat "$out/libstd.log" >&2; return 1; }
  fi
  say "$root"
}

# TARGET, C compiler and emulator of an architecture.
arm_tools() { # NAME
  case $1 in
    x86-64) say x86_64-unknown-linux-gnu gcc "" ;;
    arm64) say aarch64-unknown-linux-gnu aarch64-linux-gnu-gcc qemu-aarch64 ;;
    armv7) say armv7-unknown-linux-gnueabihf arm-linux-gnueabihf-gcc qemu-arm ;;
  esac
}

# Cargo for one architecture, in a copy of the source.
arm_cargo() { # ROOT NAME SOURCE PLACE VARIABLE=VALUE… cargo ARGUMENT…
  local root=$1 source=$3 place=$4 triple compiler emulator upper runner=()
  read -r triple compiler emulator <<<"$(arm_tools "$2")"
  upper=$(tr a-z- A-Z_ <<<"$triple")
  [ -z "$emulator" ] || runner=("CARGO_TARGET_${upper}_RUNNER=$emulator -L /usr/${compiler%-gcc}")
  shift 4
  in_root "$root" "$source" "$place" env "CARGO_TARGET_${upper}_LINKER=$compiler" "CC_${triple//-/_}=$compiler" "${runner[@]}" \
    "$@" --locked --target "$triple"
}

# For Arm: two builds in two folders, byte-identical, and the election's tests. For x86-64: that this toolchain can.
arm_one() { # ROOT NAME
  local root=$1 name=$2 triple folder=$out/arm/$2 at places=(src) started=$SECONDS
  read -r triple _ <<<"$(arm_tools "$name")"
  [ "$name" = x86-64 ] || places+=(elsewhere/src)
  for at in "${places[@]}"; do
    copy_source "$folder/$at"
    arm_cargo "$root" "$name" "$folder/$at" "/$at" RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet --release
    say "$(sha256sum <"$folder/$at/target/$triple/release/leasehold" | cut -d' ' -f1) built in /$at, $((SECONDS - started)) s"
    cmp "$folder/src/target/$triple/release/leasehold" "$folder/$at/target/$triple/release/leasehold"
  done
  ln "$folder/src/target/$triple/release/leasehold" "$folder/leasehold"
  [ "$name" != x86-64 ] || return 0
  # Dependencies unoptimized: these tests hardly use them.
  arm_cargo "$root" "$name" "$folder/src" /src cargo test --quiet --config 'profile.dev.package."*".opt-level=0' --test election
  say "with the tests: $((SECONDS - started)) s"
}

# Where the program is loaded, and what of it can't be written or executed then.
arm_hardening() { # FILE NAME
  local type stack relro
  type=$(readelf -hW "$1" | awk '$1 == "Type:" { print $2 }')
  stack=$(readelf -lW "$1" | awk '$1 == "GNU_STACK" { print $(NF - 1) }')
  relro=$(readelf -lW "$1" | grep -c GNU_RELRO || true)
  say "$2: $([ "$type" = DYN ] && say "position-independent" || say "at a fixed address"), stack $stack, read-only relocations $relro"
  if [ "$2" != armv7 ] && [ "$type" != DYN ]; then die "$2 is not position-independent"; fi
  [ "$stack" = RW ] || die "$2 has a stack of $stack"
  [ "$relro" = 1 ] || die "$2 has no read-only relocations"
  if readelf -dW "$1" | grep TEXTREL >/dev/null; then die "$2 has relocations in its code"; fi
}

suite_arm() {
  local root name emulator job programs=() jobs=()
  cargo fetch --locked
  root=$(arm_root)
  chroot "$root" rustc --version
  for name in arm64 armv7 x86-64; do
    mkdir -p "$out/arm/$name"
    (set -e; arm_one "$root" "$name") >"$out/arm/$name.log" 2>&1 &
    jobs+=($!)
  done
  for name in arm64 armv7 x86-64; do
    job=0
    wait "${jobs[0]}" || job=$?
    jobs=("${jobs[@]:1}")
    sed "s/^/$name: /" "$out/arm/$name.log"
    [ $job = 0 ] || die "$name"
    read -r _ _ emulator <<<"$(arm_tools "$name")"
    # An emulator of Debian sid runs here too, as it is a static program.
    printf '#!/bin/sh\nexec %s "$@"\n' "${emulator:+$root/usr/bin/$emulator }$out/arm/$name/leasehold" >"$out/arm/run-$name"
    chmod 755 "$out/arm/run-$name"
    check_binary "$out/arm/$name/leasehold" "$out/arm/run-$name"
    arm_hardening "$out/arm/$name/leasehold" "$name"
    programs+=("$name=$out/arm/run-$name")
  done
  KUBEBUILDER_ASSETS=$(assets) python3 tests/arm/smoke.py "${programs[@]}"
  rm -rf "$out/arm"
}
