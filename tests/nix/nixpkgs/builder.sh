# What stands for stdenv's generic builder.
if [ -n "${NIX_ATTRS_SH_FILE:-}" ]; then source "$NIX_ATTRS_SH_FILE"; out=${outputs[out]}; fi
source "$stdenv/setup"
if [ -n "${buildCommandPath:-}" ]; then source "$buildCommandPath"; exit 0; fi
if [ -n "${buildCommand:-}" ]; then eval "$buildCommand"; exit 0; fi
if [ -n "${programs:-}" ]; then
  # The test command has built them: from the same checkout, static, by the same flags.
  mkdir -p "$out/bin"
  for program in rcc rcc-hook rcc-gateway rcc-firewall rcc-setup; do cp "$programs/$program" "$out/bin/"; done
  exit 0
fi
export HOME="$NIX_BUILD_TOP/home" CARGO_NET_OFFLINE=true CARGO_INCREMENTAL=0
export CARGO_TARGET_DIR="${hostCargoTarget:-$NIX_BUILD_TOP/target}"
mkdir -p "$HOME"
cp -R --no-preserve=mode "$src" "$NIX_BUILD_TOP/source"
cd "$NIX_BUILD_TOP/source"
triple=$(rustc -vV | sed -n 's/^host: //p')
cargo build --release --locked --offline --target "$triple" $cargoBuildFlags
mkdir -p "$out/bin"
find "$CARGO_TARGET_DIR/$triple/release" -maxdepth 1 -type f -perm -0100 ! -name '*.so' -exec cp {} "$out/bin/" \;
