# What the flake gives to other flakes.
{ lib }:
let
  policy = import ./policy.nix { inherit lib; };
in
{
  inherit policy;
  mkAgent = import ./agent.nix { inherit lib policy; };
}
