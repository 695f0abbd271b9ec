# The root filesystem of an agent as an OCI image. A layer each for the tools and for the agent, by how often they change;
# a project is never in it.
{
  nix2container,
  rcc-tools,
  claude-code,
  version,
}:
let
  inherit (rcc-tools) tools;
  layer = nix2container.buildLayer;
  toolLayer = layer {
    deps = [ tools ];
    copyToRoot = [ tools ];
  };
  agentLayer = layer {
    deps = [ claude-code ];
    layers = [ toolLayer ];
  };
in
nix2container.buildImage {
  name = "rcc-agent";
  tag = version;
  layers = [
    toolLayer
    agentLayer
  ];
  config = {
    Env = [
      "PATH=${claude-code}/bin:/bin"
      "SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt"
    ];
    Entrypoint = [ "${claude-code}/bin/claude" ];
  };
}
