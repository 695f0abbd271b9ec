# services.rcc on a NixOS machine of its own, by nixpkgs' own test driver: for CI, which has the network and a kernel to
# run it with (`nix build --file tests/nix/vm.nix`).
let
  flake = builtins.getFlake (toString ../..);
  system = builtins.currentSystem;
  pkgs = import flake.inputs.nixpkgs { inherit system; };
in
pkgs.testers.runNixOSTest {
  name = "rcc";
  nodes.machine = {
    imports = [ flake.nixosModules.default ];
    networking.nftables.enable = true;
    networking.nftables.flushRuleset = true;
    users.users.alice = {
      isNormalUser = true;
      linger = true;
    };
    services.rcc = {
      enable = true;
      policy = {
        users = [ "alice" ];
        allow = [ "docs.example.org:443" ];
        limits.unenforceable = "warn";
      };
    };
    # The same without nftables' own unit, where iptables makes the firewall.
    specialisation.iptables.configuration.networking.nftables.enable = pkgs.lib.mkForce false;
  };
  testScript = ''
    machine.wait_for_unit("multi-user.target")
    machine.succeed("systemctl is-active rcc-firewall.service rcc-gateway.socket rcc-status.socket rcc-firewall.path")
    machine.succeed("rcc-firewall status")
    machine.succeed("rcc status")
    # What nftables' reload flushes comes back.
    machine.succeed("systemctl reload nftables.service")
    machine.wait_until_succeeds("rcc-firewall status", timeout=30)
    machine.succeed("systemctl restart nftables.service")
    machine.wait_until_succeeds("rcc-firewall status", timeout=30)
    # Setup leaves a system that is made from its configuration alone.
    machine.fail("rcc setup")
    machine.succeed("su - alice -c 'rcc status'")
    # There is no /usr: the agent has the module's tools.
    machine.succeed("su - alice -c 'mkdir project && cd project && rcc run -- rg --version'")
    machine.succeed("/run/current-system/specialisation/iptables/bin/switch-to-configuration test")
    machine.succeed("systemctl restart firewall.service")
    machine.succeed("rcc-firewall status")
  '';
}
