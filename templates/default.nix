rec {
  default = claude;
  claude = {
    path = ./claude;
    description = "A project whose devShell is the agent's toolchain";
  };
  python = {
    path = ./python;
    description = "Python with uv";
  };
  node = {
    path = ./node;
    description = "Node.js with npm";
  };
  rust = {
    path = ./rust;
    description = "Rust with cargo";
  };
  go = {
    path = ./go;
    description = "Go";
  };
}
