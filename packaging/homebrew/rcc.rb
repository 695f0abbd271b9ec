# rcc by Homebrew: a release's programs, and nothing that changes the Mac. What does is `sudo rcc setup`, which copies them to
# where only root writes; Homebrew's own folder is its user's. The release workflow fills in what stands between at-signs.
class Rcc < Formula
  desc "Runs AI coding agents so that they change one project and reach named hosts"
  homepage "@REPOSITORY@"
  version "@VERSION@"
  license any_of: ["Apache-2.0", "MIT"]

  on_arm do
    url "@REPOSITORY@/releases/download/v@VERSION@/rcc-aarch64-darwin.tar.gz"
    sha256 "@AARCH64@"
  end
  on_intel do
    url "@REPOSITORY@/releases/download/v@VERSION@/rcc-x86_64-darwin.tar.gz"
    sha256 "@X86_64@"
  end

  depends_on macos: :ventura
  depends_on :macos
  depends_on "podman"

  def install
    # Setup takes what lies beside the running program, so they stay together.
    libexec.install Dir["*"]
    bin.install_symlink libexec/"rcc"
  end

  def caveats
    <<~EOS
      Nothing is protected yet. See what this Mac lacks, then set it up:
        rcc check
        sudo #{opt_libexec}/rcc setup
      and before `brew uninstall rcc`:
        sudo /usr/local/bin/rcc uninstall
    EOS
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/rcc --version")
    # A machine is judged by its facts anywhere; these are none.
    (testpath/"facts.json").write "{}"
    assert_match "RCC-020", shell_output("#{bin}/rcc check --facts facts.json 2>&1", 125)
  end
end
