# Sourced by builds and by `nix develop`.
export PATH="${inputPath:+$inputPath:}$hostPath"
