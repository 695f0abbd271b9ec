# What the machine has; `cargo xtask nix` writes this file anew in the copy that it hands to Nix, since a pure evaluation
# can't ask.
{
  # Where the machine's programs are.
  path = "/usr/local/bin:/usr/bin:/bin";
  # Where those are that packages have: the same, or static ones, which run where nothing else of the machine is.
  tools = "/usr/local/bin:/usr/bin:/bin";
  # It must be called `bash`: `nix develop` looks.
  bash = "/bin/bash";
  # A folder of rcc's static programs that are built already; "" has cargo build them from the flake's source.
  programs = "";
  # A folder of rcc's agents that was fetched already; "" has npm fetch Claude Code as the flake says.
  agents = "";
  # A folder with a C library's loader and libraries, which programs that Nix did not build then find in a devShell, as
  # nixpkgs' loader would find its own.
  libraries = "";
  # nix-ld, or what stands for it (../nix-ld.c); "" for none.
  nixLd = "";
  # For cargo: its home, its toolchains', and a target folder that is kept.
  cargoHome = "";
  rustupHome = "";
  cargoTarget = "";
}
