//! Configuration files with explanatory comments.

use asyndgan_paper::Profile;

const SERVER: &str = r#"# A run across several hospitals, as set by the server's operator. Start it with: asyndgan server --config run.toml
# Relative paths are relative to this file's folder.

name = "our first run"
sites = ["north", "south"]      # certificate names (asyndgan keys issue NAME); feedback is summed in this order
task = "tissue"                 # brain, tissue (the tasks of the paper), or a task file, as written by asyndgan plan
profile = "desk"                # smoke, desk or paper: the defaults of the settings below
                                # every hospital prepares its images for this task and at its size:
                                #   asyndgan data prepare DIR --out prepared --task task.toml --sites 1 --partition size
                                #   tissue: --size 143 --downsampling 2, brain: --size 72, paper profile: --size 286
seed = 0

folder = "run"                  # checkpoints, generator, ledger
keys = "keys"                   # asyndgan keys init --keys keys --server HOST
listen = "0.0.0.0:7443"
# carrier = "relay"             # messages travel through NVIDIA FLARE, without keys and listen: see the guide's page on FLARE
dashboard = "127.0.0.1:7480"    # web page, and /metrics for Prometheus; requires the access token that is printed at startup;
                                # on addresses other than localhost: HTTPS with the server's certificate

# Which sites a round waits for. "all" is the paper's method: the same seed gives the same generator, even after failures.
waiting = "all"
# waiting = { quorum = { sites = 1, deadline_ms = 60000 } }
# waiting = { staleness = { sites = 1, rounds = 3 } }

# Data type of transferred tensors: f32 (exact), f16 or bf16; synthetic images also as q8 (8 bits).
synthetic = "f32"
feedback = "f32"

device = "auto"                 # device of the generator: auto (a GPU if available), cpu or cuda
response_timeout_minutes = 60   # a connected site that does not answer for this long is considered lost
keep_alive_seconds = 30         # interval of keep-alive pings; a firewall that drops idle connections may need less
reconnect_timeout_hours = 24    # if a required site is away for this long, the server stops; restart it to resume the run

# Limits on what a site may do to the run.
cases_max = 100000              # cases that one site may claim
condition_bytes_max = 268435456 # bytes of one site's masks
weight_ratio_max = 10.0         # a site's weight is at most this many times the median
feedback_ratio_max = 10.0       # feedback is scaled down if its norm is more than this many times the median of the other
                                # sites, or of the site's own earlier feedback
lost_state = "fresh"            # if a site comes back without its checkpoint: fresh (it resumes with a fresh discriminator or its
                                # nearest checkpoint), wait (until its folder is restored), roll_back (all sites go back to a
                                # common checkpoint)
rollbacks_max = 10              # how often one site may set all others back by restarting from its checkpoint

[settings.protocol]             # overrides settings of the profile, by section; the guide's page on settings lists all of them
# rounds = 3000
# batch = 4                     # at least 2: the default policy of a site requires several patients per batch
# l1_weight = 10.0              # reveals real images to the server: every site must allow it
"#;

const RUNS: &str = r#"# A server that serves one run after another. Start it with: asyndgan run serve --config runs.toml
# Add a run: asyndgan run submit run.toml. The run uses the keys, the address and the dashboard of this file, and a folder within
# the folder below. Relative paths are relative to this file's folder.

folder = "runs"                 # a folder for each run: its configuration, states, checkpoints, generator, ledger
keys = "keys"                   # asyndgan keys init --keys keys --server HOST
listen = "0.0.0.0:7443"
dashboard = "127.0.0.1:7480"    # web page of the current run, and /metrics for Prometheus
"#;

const SITE: &str = r#"# One hospital's part in a run, as configured by the hospital. Check it with: asyndgan doctor --config site.toml
# Inspect the run and approve it: asyndgan site approve --config site.toml. Start it with: asyndgan site --config site.toml.
# Relative paths are relative to this file's folder.

server = "localhost:7443"       # the site only makes outgoing connections: no open port is needed here
bundle = "north.pem"            # certificates from the server's operator; if they include the private key, over a secure channel
# proxy = "http://proxy:3128"   # the hospital's HTTP proxy (http://USER:PASSWORD@HOST:PORT), or "none"; the default is that of the
                                # environment variable HTTPS_PROXY
# carrier = "relay"             # messages travel through NVIDIA FLARE, without server and bundle: see the guide's page on FLARE
# key = "north-key.pem"         # the private key, if this hospital created it with asyndgan keys request
data = "prepared/site-1"        # written by asyndgan data prepare, at the size and scale that the operator specifies; never sent
folder = "north"                # files of one run: secret, checkpoints, journal of all sent data, ledger. A new run needs a new folder,
                                # unless the site keeps running
keep_running = false            # true: take part in one run after another, each with a folder of its own within this folder, and
                                # each with the administrator's approval
# runs_max = 3                  # with keep_running and approval = "policy": how many runs to join without being asked
# privacy_ledger = "site-1.privacy.jsonl"   # steps that spend the privacy budget; the default is beside the data. Never use
                                # another file for other runs on the same patients: it would start the budget again
device = "auto"                 # device of the discriminator: auto (a GPU if available), cpu or cuda
# dashboard = "127.0.0.1:7481"  # web page of this site, and /metrics for Prometheus, on this machine alone
reconnect_timeout_hours = 24    # how long to wait for a server that does not answer
keep_alive_seconds = 30         # interval of keep-alive pings; a firewall that drops idle connections may need less
# approval = "policy"           # policy (the default): join the first run that the limits below allow, and no other run from this
                                # folder; administrator (the default with keep_running): join only a run that the administrator has
                                # approved

# What this hospital allows. Every limit is checked before anything is computed.
[policy]
# How many answers the server may request: each answer reveals something about the images.
rounds_max = 100000             # rounds of a run, and answers in total; the paper's schedule needs 220000
repeated_rounds_max = 1000      # different answers to rounds that were answered before
answers_per_round_max = 5       # different answers to the same round: its real images are the same each time
restores_max = 200              # starts from a checkpoint: after each one, the server queries a discriminator that it has queried before
skipped_rounds_max = 1000       # rounds that the server may skip without a lost connection
missed_rounds_max = 20000       # rounds that the site may miss in total, including while it is away
case_rounds_max = 200           # rounds that use the same image
patient_rounds_max = 20000      # rounds that use the same patient
# What one answer may depend on.
cases_min = 32                  # a discriminator that sees few images memorises each of them
batch_min = 2                   # images in a batch
batch_max = 64
patients_per_batch_min = 2      # different patients in a batch, so that no answer depends on a single one
crop_min = 64                   # rows and columns of a crop
crop_margin_min = 8             # rows and columns by which a crop can shift within the stored image
require_symmetry = true         # images are flipped at random
augmentation_min = 0.25         # strength of the augmentation before the discriminator sees an image, 0 to 1
# What is trained here.
discriminators = ["unet"] # "patch" sees the mask, and can learn which patient it belongs to: for sites with many patients
width_max = 128                 # a wider discriminator memorises more
require_spectral_norm = false   # true requires spectral normalization, which limits how much the discriminator amplifies
learning_rate_min = 1e-5        # a discriminator that does not learn answers with a fixed function of the images
learning_rate_max = 1e-2        # a very large step writes single images into the weights
checkpoint_every_max = 1000     # rounds between checkpoints: limits how many rounds a restart repeats
threads_max = 64
memory_bytes_max = 8589934592
# What leaves this site.
allow_l1 = false                # true reveals real images to the server
payloads = ["f32", "f16", "bf16", "q8"]
conditions = "recombined"       # masks: recombined (from several patients, and deformed), deformed, all (as they are), or
                                # sampled (from a model of their shapes, with a proof; organs and lesions only)
conditions_epsilon = 2.0        # epsilon of sampled masks; it counts towards epsilon_max
losses = "none"                 # or { mean = { rounds = 100 } }: clipped and rounded means over at least 50 rounds
feedback_norm_max = 1.0         # gradients of one image with a larger norm are scaled down to it; inf disables the limit
# What anyone can learn about one patient, with a proof (see the guide, "Privacy").
epsilon_max = inf               # epsilon of all runs together: 1 is strong, 8 is weak (factor exp(8) = 3000); inf: no proof.
                                # With a limit, the site trains only with differential privacy
delta = 1e-5                    # the probability with which that bound may fail: far below 1 / number of patients
"#;

/// A commented `run.toml` for the operator of a server. The task is brain, tissue, or a task file, whose profile
/// applies unless another one is given.
pub fn server_template(profile: Option<Profile>, task: &str) -> String {
    let text = with_values(SERVER, &[("task", task)]);
    match profile {
        Some(profile) => with_values(&text, &[("profile", profile.name())]),
        None if ["brain", "tissue"].contains(&task) => text,
        None => text.split_inclusive('\n').filter(|line| !line.starts_with("profile = ")).collect(),
    }
}

/// A commented `runs.toml` for a server that serves one run after another.
pub fn runs_template() -> String {
    RUNS.into()
}

/// A commented `site.toml` for a hospital, with other values for some of its keys: server, bundle, data, folder.
pub fn site_template(values: &[(&str, &str)]) -> String {
    with_values(SITE, values)
}

/// A template with other strings for some of its keys.
fn with_values(template: &str, values: &[(&str, &str)]) -> String {
    let line = |line: &str| {
        let changed = values.iter().find_map(|(key, value)| {
            let rest = line.strip_prefix(&format!("{key} = \""))?;
            let (_, comment) = rest.split_once('"')?;
            let assigned = format!("{key} = {}", toml::Value::from(*value));
            Some(format!("{assigned:<31} {}", comment.trim_start()))
        });
        changed.unwrap_or_else(|| line.to_owned()) + "\n"
    };
    template.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_of_a_task_file_applies() {
        assert!(server_template(None, "tissue").contains("\nprofile = \"desk\""));
        let own = server_template(None, "task.toml");
        assert!(own.contains("\ntask = \"task.toml\"") && !own.contains("\nprofile = "));
        assert!(server_template(Some(Profile::Paper), "task.toml").contains("\nprofile = \"paper\""));
    }

    #[test]
    fn values_replace_those_of_the_template_and_nothing_else() {
        let unchanged = with_values(SITE, &[("server", "localhost:7443"), ("bundle", "north.pem")]);
        assert_eq!(unchanged, SITE);
        let text = with_values(SITE, &[("data", "C:\\images \"x\""), ("folder", "a/very/long/path/of/a/folder/of/the/site")]);
        let table: toml::Table = text.parse().expect("TOML");
        assert_eq!(table["data"].as_str(), Some("C:\\images \"x\""));
        assert_eq!(table["folder"].as_str(), Some("a/very/long/path/of/a/folder/of/the/site"));
        assert_eq!(text.lines().count(), SITE.lines().count());
    }
}
