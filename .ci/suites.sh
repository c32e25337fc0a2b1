# The suites of .ci/run, one function each; sourced by it, never run. $root, $kit and $out (an empty folder) are given.
# Each runs in a subshell that ends at the first command that fails.
# In a pipe, grep reads to the end (no -q): with pipefail, a writer that is cut off would count as a failure.
# shellcheck shell=bash

target=x86_64-unknown-linux-gnu
binary=$root/target/$target/release/leasehold
binary_limit=2700000 # bytes
compressed_limit=1400000
image_limit=3000000  # bytes, uncompressed
image=leasehold:0.1.0
toolchain_image=localhost/leasehold-toolchain:1
state=$out/state
mkdir -p "$state"
export DEBIAN_FRONTEND=noninteractive CARGO_TERM_COLOR=never
# A bin of our own first: what is installed here must not depend on what the machine has.
export PATH=$state/bin:$PATH

say() { printf '%s\n' "$*"; }
die() { printf 'FAIL: %s\n' "$*" >&2; exit 1; }

# --- what the suites need -----------------------------------------------------------------

suite_tools() {
  apt-get -o DPkg::Lock::Timeout=300 update -qq
  apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends \
    buildah etcd-server faketime openssl xz-utils containerd runc containernetworking-plugins iptables conntrack \
    iproute2 procps mount util-linux curl jq ca-certificates prometheus python3-venv debootstrap binutils >"$out/apt.log" 2>&1 || { tail -n 20 "$out/apt.log"; return 1; }
  rustup component list --installed 2>/dev/null | grep '^clippy' >/dev/null || rustup component add clippy rustfmt
  # An earlier run that was interrupted may have left its bridge and mounts.
  "$kit/cluster/down" --purge
  assets >/dev/null
  kubectl_with_components >/dev/null
  rustc --version
  cargo --version
  buildah --version
  etcd --version | sed -n 1p
}

# A folder as the field's tools expect in KUBEBUILDER_ASSETS, from the kit's one binary.
assets() {
  local dir=$state/assets name
  if [ ! -d "$dir" ]; then
    mkdir -p "$dir.new"
    xz -dc "$kit/bin/kube.xz" >"$dir.new/kube"
    chmod 755 "$dir.new/kube"
    for name in kube-apiserver kubectl; do ln -s kube "$dir.new/$name"; done
    ln -s "$(command -v etcd)" "$dir.new/etcd"
    mv "$dir.new" "$dir"
  fi
  say "$dir"
}

# kustomize components came with kubectl 1.21; the kit's kubectl is 1.20.
kubectl_with_components() {
  local k
  for k in $(type -ap kubectl); do
    if "$k" version --client 2>/dev/null | grep -E 'v1\.(2[1-9]|[3-9][0-9])' >/dev/null; then say "$k"; return; fi
  done
  die "no kubectl of 1.21 or later on this machine, and the components can't be checked without one"
}

stop_everything() {
  [ ! -d "$state/api" ] || KUBE_CLUSTER_DIR=$state/api "$kit/cluster/down" --purge || true
  "$kit/cluster/down" --purge || true
  if command -v buildah >/dev/null && [ -e "$state/made-image" ]; then
    buildah rmi -f "$image" "$toolchain_image" >/dev/null 2>&1 || true
  fi
}

# --- the source ---------------------------------------------------------------------------

suite_format() { cargo fmt --all --check; }

# incompatible_msrv: nothing of the standard library that is newer than rust-version. That it compiles with that version is
# shown by .github/workflows/ci.yml, where it can be installed.
suite_clippy() {
  cargo clippy --workspace --all-targets --locked -- -D warnings -D clippy::incompatible_msrv
  cargo clippy --lib --no-default-features --locked -- -D warnings
  cargo clippy --manifest-path fuzz/Cargo.toml --all-targets -- -D warnings
}

suite_docs() { RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --locked; }

# What a newcomer runs, with nothing but Rust.
suite_test() {
  env -u KUBEBUILDER_ASSETS -u KUBECONFIG cargo test --locked
}

# The same and the rest of the workspace, with the real API server at hand: a test that skips now is an error.
suite_test_real() {
  KUBEBUILDER_ASSETS=$(assets) LEASEHOLD_REQUIRE_REAL=1 cargo test --workspace --locked
}

# The README's first command: an election, a crash and a hand-over on a machine with nothing but Rust.
# The limit is for a machine that has to compile first; the demo itself takes ten seconds.
suite_demo() { timeout 900 cargo run --locked --example demo; }

# 20,000 schedules, 2,000 on the wire, and every known mistake caught.
suite_simulation() { cargo test --release --locked --test simulation -- --nocapture; }

# Real processes, a real API server, and what can go wrong between them; an observer must never see two leaders.
suite_faults() {
  cargo build --locked --bin leasehold
  KUBEBUILDER_ASSETS=$(assets) LEASEHOLD_BIN=$root/target/debug/leasehold tests/faults/run --quick
}

# --- what ships ---------------------------------------------------------------------------

suite_static_build() {
  RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --target x86_64-unknown-linux-gnu
  check_binary "$binary"
}

check_binary() { # FILE [PROGRAM that runs it]
  local bytes compressed
  bytes=$(stat -c %s "$1")
  compressed=$(gzip -9c "$1" | wc -c)
  say "binary: $bytes bytes, gzip -9 $compressed bytes, sha256 $(sha256sum <"$1" | cut -d' ' -f1)"
  [ "$bytes" -le $binary_limit ] || die "the binary has $bytes bytes, more than $binary_limit"
  [ "$compressed" -le $compressed_limit ] || die "compressed, the binary has $compressed bytes, more than $compressed_limit"
  if readelf -lW "$1" | grep INTERP >/dev/null; then die "$1 asks for a dynamic linker"; fi
  if readelf -dW "$1" | grep NEEDED >/dev/null; then die "$1 needs shared libraries"; fi
  "${2:-$1}" --version
}

# The integration tests once more, on the binary that ships: cargo builds its own for tests with known mistakes in it.
suite_test_shipped() { LEASEHOLD_TEST_BINARY=$binary cargo test --locked --test it; }

# What it costs, printed; that it holds more memory than it should is the one verdict.
suite_benches() {
  cargo bench --locked --bench costs
  cargo bench --locked --bench footprint -- "$binary" 15
}

copy_source() { # FOLDER
  mkdir -p "$1"
  git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$1"
}

# Two builds in different folders are byte-identical. Given: the same toolchain, and the same CARGO_HOME (paths of the
# registry's crates stand in panic messages; those of this package are relative).
suite_reproducible() {
  local elsewhere=$out/somewhere/else/entirely
  copy_source "$elsewhere"
  (cd "$elsewhere" && RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --target x86_64-unknown-linux-gnu)
  sha256sum "$binary" "$elsewhere/target/$target/release/leasehold"
  cmp "$binary" "$elsewhere/target/$target/release/leasehold"
  rm -rf "$out/somewhere"
}

# A stand-in for the Dockerfile's first base image where no registry can be reached: an empty root that sees this
# machine's toolchain.
toolchain() {
  local base=$out/base link container
  mkdir -p "$base"/{etc,tmp,usr,root}
  chmod 1777 "$base/tmp"
  for link in bin sbin lib lib64; do ln -s usr/$link "$base/$link"; done
  cp -a /etc/passwd /etc/group /etc/alternatives "$base/etc/"
  container=$(buildah from scratch)
  buildah add -q "$container" "$base" / >/dev/null
  buildah config --env PATH=/root/.cargo/bin:/usr/bin --env HOME=/root --env CARGO_NET_OFFLINE=true "$container"
  touch "$state/made-image"
  buildah commit -q --rm "$container" "$toolchain_image" >/dev/null
}

suite_image() {
  local archive=$out/image.tar mount container bytes
  cargo fetch --locked
  toolchain
  buildah bud --isolation chroot --pull-never --build-arg RUST_IMAGE=$toolchain_image \
    --build-arg REVISION="$(git rev-parse HEAD)" \
    -v /usr:/usr:ro -v "${CARGO_HOME:-$HOME/.cargo}:/root/.cargo" -v "${RUSTUP_HOME:-$HOME/.rustup}:/root/.rustup:ro" \
    -t $image .
  container=$(buildah from --pull-never $image)
  mount=$(buildah mount "$container")
  say "image holds: $(cd "$mount" && find . -type f | sort | tr '\n' ' ')"
  [ "$(cd "$mount" && find . -type f)" = ./leasehold ] || die "the image holds more than the one binary"
  check_binary "$mount/leasehold"
  cmp "$mount/leasehold" "$binary" || die "the image's binary is another than the one built here"
  buildah rm "$container" >/dev/null
  buildah inspect --type image $image >"$out/inspect.json"
  jq -e '.OCIv1.config | .User == "65532:65532" and .Entrypoint == ["/leasehold"]
    and .Labels["org.opencontainers.image.licenses"] == "Apache-2.0 OR MIT"' "$out/inspect.json" >/dev/null ||
    die "user, entry point or labels are wrong: $(jq -c .OCIv1.config "$out/inspect.json")"
  buildah push -q $image "docker-archive:$archive:$image"
  bytes=$(stat -c %s "$archive")
  say "image: $bytes bytes, $(gzip -9c "$archive" | wc -c) compressed"
  [ "$bytes" -lt $image_limit ] || die "the image has $bytes bytes, not less than $image_limit"
  mv "$archive" "$state/image.tar"
}

# --- the crate ----------------------------------------------------------------------------

# What crates.io would be given: it builds from what it holds, its snippets compile, and it holds little else.
suite_crate() {
  local files bytes
  cargo publish --dry-run --locked $([ -n "${CI:-}" ] || echo --allow-dirty) 2>&1 | tee "$out/publish.log"
  # A target is left out where only the repository has its source; every other warning is a mistake.
  if grep '^warning' "$out/publish.log" | grep -vE 'not included in the published package|aborting upload|profile package spec'; then
    die "cargo publish warns"
  fi
  files=$(cargo package --list --locked --allow-dirty 2>/dev/null | wc -l)
  cargo package --quiet --no-verify --locked --allow-dirty 2>/dev/null
  mkdir -p "$out/crate"
  tar -xzf target/package/leasehold-*.crate -C "$out/crate"
  bytes=$(stat -c %s target/package/leasehold-*.crate)
  say "crate: $files files, $bytes bytes"
  [ "$files" -le 130 ] && [ "$bytes" -le 300000 ] || die "the crate holds too much: see include in Cargo.toml"
  # The Elector's two snippets run on the in-memory API server, which is not published; the suite `test` runs them.
  (cd "$out"/crate/leasehold-* && CARGO_TARGET_DIR=$out/crate/target cargo test --locked --doc -- --skip elector::Elector)
  rm -rf "$out/crate"
}

# --- the manifests ------------------------------------------------------------------------

# Rendered by the oldest and the newest kubectl at hand, and taken by a real API server as they stand.
suite_manifests() {
  local new old
  new=$(kubectl_with_components)
  old=$(assets)/kubectl
  KUBE_CLUSTER_DIR=$state/api KUBECONFIG=$(KUBE_CLUSTER_DIR=$state/api "$kit/cluster/up" --apiserver-only)
  export KUBECONFIG
  python3 tests/cluster/manifests.py --old-kubectl "$old" --kubectl "$new"
  python3 -m venv "$state/cel"
  "$state/cel/bin/pip" install --quiet --disable-pip-version-check cel-expr-python==0.1.3 PyYAML==6.0.3
  "$state/cel/bin/python" tests/cluster/admission.py --kubectl "$new"
  KUBE_CLUSTER_DIR=$state/api "$kit/cluster/down" --purge
}

# --- the supply chain ---------------------------------------------------------------------

suite_supply_chain() { python3 .ci/supply_chain.py; }

# --- the real cluster ---------------------------------------------------------------------

suite_cluster() {
  [ -f "$state/image.tar" ] || suite_image
  KUBECONFIG=$("$kit/cluster/up")
  export KUBECONFIG LEASEHOLD_KIT=$kit
  "$kit/cluster/image-load" --archive "$state/image.tar"
  PATH=$(dirname "$(kubectl_with_components)"):$PATH python3 tests/cluster/all.py
  "$kit/cluster/down" --purge
}
