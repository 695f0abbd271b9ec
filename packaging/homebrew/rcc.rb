# rcc by Homebrew, built from source (`brew install --HEAD`, as there is no release yet): the programs, and nothing that
# changes the Mac. What does is `sudo rcc setup`, which copies them to where only root writes; Homebrew's own folder is its
# user's.
class Rcc < Formula
  desc "Runs AI coding agents so that they change one project and reach named hosts"
  homepage "https://github.com/OWNER/rcc"
  license any_of: ["Apache-2.0", "MIT"]
  head "https://github.com/OWNER/rcc.git", branch: "main"

  depends_on "go" => :build
  depends_on "rust" => :build
  depends_on macos: :ventura
  depends_on :macos
  depends_on "podman"

  def install
    ENV["MACOSX_DEPLOYMENT_TARGET"] = "13.0"
    system "cargo", "build", "--locked", "--release", "--bins",
           "-p", "rcc", "-p", "rcc-launch", "-p", "rcc-gateway", "-p", "rcc-firewall", "-p", "rcc-setup", "-p", "rcc-gvproxy"
    libexec.install %w[rcc rcc-gateway rcc-firewall rcc-setup gvproxy].map { |name| "target/release/#{name}" }
    # Of the one version that was read for what a guest can ask of it, by Go's own checksums.
    ENV["GOBIN"] = buildpath/"go"
    system "go", "install", "github.com/containers/gvisor-tap-vsock/cmd/gvproxy@v0.8.9"
    libexec.install buildpath/"go/gvproxy" => "gvproxy.pinned"
    # Not linked one by one: setup takes what lies beside the running program.
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
    assert_match version.to_s, shell_output("#{bin}/rcc --version") unless head?
    # A machine is judged by its facts anywhere; this one is not ready, or nothing is known of it.
    (testpath/"facts.json").write "{}"
    assert_match "RCC-020", shell_output("#{bin}/rcc check --facts facts.json 2>&1", 125)
  end
end
