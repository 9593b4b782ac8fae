use std::{fs, io::Write as _, path::PathBuf};

use anyhow::{Context, Result};
use clap::Subcommand;

const SERVER: &str = r#"# A run over several hospitals, as the server's operator decides it. Start it with: asyndgan server --config run.toml
# Relative paths are relative to this file's folder.

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
dashboard = "127.0.0.1:7480"    # a page for people, /metrics for Prometheus, behind an access token that is printed at the start;
                                # beyond this machine encrypted with the server's certificate

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

# What a site may do to the run.
cases_max = 100000              # cases that one site may claim
condition_bytes_max = 268435456 # bytes of one site's masks
weight_ratio_max = 10.0         # a site's weight is at most so many times the median
feedback_ratio_max = 10.0       # feedback so many times longer than the others', or than the site's own before, is scaled down
lost_state = "fresh"            # a site that comes back without its checkpoint: fresh (goes on alone), wait (until it is restored),
                                # go_back (everybody goes back to a common checkpoint)
set_backs_max = 10              # how often one site may set everybody back by restarting from its checkpoint

[settings]                      # any setting of the profile
# rounds = 3000
# batch = 4                     # at least 2: hospitals want several patients in a batch
# l1_weight = 10.0              # gives real images away to the server: sites must allow it
"#;

const SITE: &str = r#"# One hospital's part in a run, as the hospital decides it. Check it with: asyndgan doctor --config site.toml
# Look at the run and approve it: asyndgan site approve --config site.toml. Start it with: asyndgan site --config site.toml.
# Relative paths are relative to this file's folder.

server = "localhost:7443"       # the site dials out: no port needs to be open here
bundle = "north.pem"            # certificates, from the server's operator; with the private key in it, deliver it over a secure channel
# key = "north-key.pem"         # the private key, where this hospital made it: asyndgan keys request
data = "prepared/site-1"        # made by asyndgan data prepare, at the size and scale that the operator names; these images never leave
folder = "north"                # one run: secret, checkpoints, journal of what left, ledger. A new run needs a new folder
device = "auto"                 # where the discriminator is: auto (a GPU if there is one), cpu or cuda
absence_hours = 24              # how long to wait for a server that does not answer
approval = "policy"             # policy: takes part in the first run that the bounds below allow, and in no other from this folder;
                                # administrator: only in a run that was approved

# What this hospital allows. Every bound is checked before anything is computed.
[policy]
# How much may be asked: each answer reveals something about the images.
rounds_max = 100000             # rounds of a run, and answers in all
repeated_rounds_max = 1000      # answers to rounds that were answered before, to other synthetic images
answers_per_round_max = 5       # answers to one and the same round, to different synthetic images: its real images are the same each time
restores_max = 200              # starts from a checkpoint: after each, the server meets a discriminator that it has seen before
skipped_rounds_max = 1000       # rounds that a server may pass over without a lost connection
missed_rounds_max = 20000       # rounds that the site missed in all, also while it was away
case_rounds_max = 200           # rounds that show one image
patient_rounds_max = 20000      # rounds that show one patient
# What one answer may depend on.
cases_min = 32                  # a discriminator that sees few images memorises each of them
batch_min = 2                   # images in a batch
batch_max = 64
patients_per_batch_min = 2      # different patients in a batch, so that no answer depends on a single one
crop_min = 64                   # rows and columns of a crop
crop_margin_min = 8             # rows and columns by which crops move within the stored images
require_symmetry = true         # images are flipped at random
augmentation_min = 0.25         # how strongly images are changed before the discriminator sees them, 0 to 1
# What is trained here.
discriminators = ["segmenting"] # "patch" sees the mask, and can learn which patient it belongs to: for sites with many patients
width_max = 128                 # a wider discriminator memorises more
require_spectral_norm = false   # true bounds how much the discriminator amplifies
learning_rate_min = 1e-5        # one that does not learn answers as a fixed function of the images
learning_rate_max = 1e-2        # a huge step writes single images into the weights
checkpoint_every_max = 1000     # rounds between checkpoints: little is asked again after a restart
threads_max = 64
memory_bytes_max = 8589934592
# What leaves.
allow_l1 = false                # true gives real images away to the server
payloads = ["f32", "f16", "bf16", "q8"]
conditions = "all"              # masks: all as they are, or recombined: put together from several patients'
losses = "none"                 # or { mean = { rounds = 100 } }: clipped and rounded means over at least 50 rounds
feedback_norm_max = 1.0         # longer gradients of one image are scaled down to this norm; inf leaves them
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
