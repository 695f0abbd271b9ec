# The root filesystem of an agent as an OCI image. A layer each for the tools and for the agent, by how often they change;
# a project is never in it.
{
  lib,
  stdenv,
  nix2container,
  runCommand,
  coreutils,
  nix-ld,
  zlib,
  openssl,
  rcc-tools,
  claude-code,
  version,
}:
let
  inherit (rcc-tools) tools;
  loader = stdenv.cc.bintools.dynamicLinker;
  loaders = if stdenv.hostPlatform.isx86_64 then "lib64" else "lib";
  # The agent was not built by Nix.
  places = runCommand "rcc-image-places" { } ''
    mkdir -p $out/usr/bin $out/${loaders}
    ln -s ${coreutils}/bin/env $out/usr/bin/env
    ln -s ${nix-ld}/libexec/nix-ld $out/${loaders}/$(basename ${loader})
  '';
  libraries = [
    stdenv.cc.cc.lib
    zlib
    openssl
  ];
  layer = nix2container.buildLayer;
  toolLayer = layer {
    deps = libraries;
    copyToRoot = [
      tools
      places
    ];
  };
  agentLayer = layer {
    deps = [ claude-code ];
    layers = [ toolLayer ];
  };
in
nix2container.buildImage {
  name = "rcc-agent";
  tag = version;
  # It brings the layer of the tools.
  layers = [ agentLayer ];
  config = {
    Env = [
      "PATH=${claude-code}/bin:/bin"
      "SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt"
      "NIX_LD=${loader}"
      "NIX_LD_LIBRARY_PATH=${lib.makeLibraryPath libraries}"
    ];
    Entrypoint = [ "${claude-code}/bin/claude" ];
  };
}
