use std::{fs, io::Write as _, path::PathBuf};

use anyhow::{Context, Result};
use clap::Subcommand;

const SERVER: &str = r#"# A run over several hospitals, as the server's keeper decides it. Start it with: asyndgan server --config run.toml
# Paths count from this file's folder.

name = "our first run"
sites = ["north", "south"]      # names of certificates, in the order of the sums: asyndgan keys issue NAME
images = "tissue"               # brain (one channel, tumour and outline) or tissue (colour, nuclei)
profile = "desk"                # smoke, desk or paper: where the settings below begin
                                # every hospital prepares its images at their size and scale: asyndgan data prepare DIR --out prepared
                                #   --sites 1 --partition size, and --size 143 --shrink 2 for tissue, --size 72 for brains; paper: --size 286
seed = 0

folder = "run"                  # checkpoints, generator, ledger
keys = "keys"                   # asyndgan keys init --keys keys --server HOST
listen = "0.0.0.0:7443"
dashboard = "127.0.0.1:7480"    # a page for people, /metrics for Prometheus; without encryption: keep it on this machine

# Whom a round waits for. "all" is the paper's: the same seed gives the same generator, whatever breaks meanwhile.
waiting = "all"
# waiting = { quorum = { sites = 1, deadline_ms = 60000 } }
# waiting = { staleness = { sites = 1, rounds = 3 } }

# How tensors travel: f32 (exact), f16, bf16; synthetic images also as q8 (8 bits).
synthetic = "f32"
feedback = "f32"

device = "auto"                 # where the generator is: auto (a GPU if there is one), cpu or cuda
answer_minutes = 60             # a site that is connected and does not answer for so long is taken for lost
absence_hours = 24              # a site that is needed and away for so long ends the run; it can be started again

[settings]                      # any setting of the profile
# rounds = 3000
# batch = 4
# l1_weight = 10.0              # gives real images away to the server: sites must allow it
"#;

const SITE: &str = r#"# One hospital's part in a run, as the hospital decides it. Check it with: asyndgan doctor --config site.toml
# Start it with: asyndgan site --config site.toml. Paths count from this file's folder.

server = "localhost:7443"       # the site dials out: no port needs to be open here
bundle = "north.pem"            # from the server's keeper, on a safe way: it holds this site's private key
data = "prepared/site-1"        # asyndgan data prepare makes it, at the size and scale that the server's keeper names; these images never leave
folder = "north"                # checkpoints, the journal of what left, the ledger
device = "auto"                 # where the discriminator is: auto (a GPU if there is one), cpu or cuda
absence_hours = 24              # how long a server that is not there is waited for

[policy]                        # what this hospital allows, whatever the server describes
rounds_max = 100000             # the server gets answers at most twice as often, over all restarts
allow_l1 = false                # true gives real images away to the server
payloads = ["f32", "f16", "bf16", "q8"]
conditions = "all"              # masks that leave: all as they are, or recombined: put together from several patients'
# feedback_norm_max = 1.0       # shorten the gradient of each image to this length
"#;

#[derive(Subcommand)]
pub(crate) enum InitCommand {
    /// Write a commented run.toml.
    Server {
        /// Where.
        #[arg(long, default_value = "run.toml")]
        out: PathBuf,
    },
    /// Write a commented site.toml.
    Site {
        /// Where.
        #[arg(long, default_value = "site.toml")]
        out: PathBuf,
    },
}

pub(crate) fn init(command: InitCommand) -> Result<()> {
    let (out, text) = match command {
        InitCommand::Server { out } => (out, SERVER),
        InitCommand::Site { out } => (out, SITE),
    };
    // Never over somebody's own.
    let mut file = fs::File::create_new(&out)
        .with_context(|| format!("cannot write {}; if it is there already, give --out another name", out.display()))?;
    file.write_all(text.as_bytes())?;
    eprintln!("wrote {}: read it through, and change what is yours", out.display());
    Ok(())
}
