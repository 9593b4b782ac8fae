//! The command `privacy`: plans a budget, and shows what was spent.

use std::path::PathBuf;

use anyhow::Result;
use asyndgan::{
    asyndgan_training::DpSgd,
    privacy::{PrivacyPlan, spent},
};
use clap::{Args, Subcommand};

use crate::{
    experiment::{self, TradeOffArguments},
    stdout::{print, print_note},
};

const PLAN: &str = "Examples:
  asyndgan privacy plan --epsilon 8 --patients 200 --rounds 2000
  asyndgan privacy plan --epsilon 8 --patients 200 --rounds 2000 --patients-per-step 64
  asyndgan privacy plan --noise-multiplier 1.5 --patients 200 --rounds 2000";
const TRADE_OFF: &str = "Examples:
  asyndgan privacy trade-off table1 --patients 20,200,2000 --epsilons 16,8,4,2,1 --out run
  asyndgan privacy trade-off table1 --masks all,deformed,recombined,sampled --out run
  asyndgan privacy trade-off table2 --data DIR --epsilons 8,1 --out run";
const SPENT: &str = "Example:
  asyndgan privacy spent privacy.jsonl";

#[derive(Subcommand)]
pub(crate) enum PrivacyCommand {
    /// Compute the noise that a budget requires, or the epsilon of a given noise, without any data.
    #[command(after_help = PLAN)]
    Plan(PlanArguments),
    /// Measure what differential privacy costs: runs an experiment with several epsilons, numbers of
    /// patients and choices of masks, and attacks every generator. Resumes if started again.
    #[command(after_help = TRADE_OFF)]
    TradeOff(Box<TradeOffArguments>),
    /// Show the epsilon that all runs on a site's patients have spent, from the site's ledger.
    #[command(after_help = SPENT)]
    Spent {
        /// The ledger, as named by `privacy_ledger` in site.toml.
        ledger: PathBuf,
        /// The probability with which the bound may fail.
        #[arg(long, default_value_t = 1e-5)]
        delta: f64,
    },
}

#[derive(Args)]
pub(crate) struct PlanArguments {
    /// Epsilon of the whole run for each patient.
    #[arg(long, required_unless_present = "noise_multiplier", conflicts_with = "noise_multiplier")]
    epsilon: Option<f64>,
    /// Standard deviation of the noise, as a multiple of the clipping norm: shows its epsilon.
    #[arg(long)]
    noise_multiplier: Option<f64>,
    /// The probability with which the bound may fail; far below one divided by the number of patients.
    #[arg(long, default_value_t = 1e-5)]
    delta: f64,
    /// Number of patients of the site.
    #[arg(long)]
    patients: u32,
    /// Rounds of the run.
    #[arg(long)]
    rounds: u64,
    /// Expected number of patients in a step.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    patients_per_step: u32,
    /// Steps of the discriminator in each round.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    discriminator_steps: u32,
}

pub(crate) fn privacy(command: &PrivacyCommand) -> Result<()> {
    match command {
        PrivacyCommand::Plan(arguments) => plan(arguments),
        PrivacyCommand::TradeOff(arguments) => experiment::trade_off(arguments),
        PrivacyCommand::Spent { ledger, delta } => {
            let (epsilon, runs) = spent(ledger, *delta)?;
            for (run, steps) in runs {
                print(&format!("run {run}: {steps} steps\n"))?;
            }
            print(&format!("epsilon {epsilon:.4} at delta {delta}\n"))
        }
    }
}

fn plan(arguments: &PlanArguments) -> Result<()> {
    let PlanArguments { epsilon, noise_multiplier, delta, patients, rounds, patients_per_step, discriminator_steps } = *arguments;
    let training = DpSgd::new(epsilon.unwrap_or(1.0), delta).with(|sgd| {
        (sgd.patients_per_step, sgd.discriminator_steps) = (patients_per_step, discriminator_steps);
    });
    let plan = PrivacyPlan::new(training, patients, rounds);
    let planned = match noise_multiplier {
        Some(noise) => plan.with_noise(noise)?,
        None => plan.compute()?,
    };
    let rate = planned.step.sampling_rate();
    if delta * f64::from(patients) >= 1.0 {
        print_note(&format!("warning: a delta of {delta} allows the data of one of {patients} patients to be published; use far less"));
    }
    print(&format!(
        "sampling rate      {rate:.5} (each step has {:.1} of {patients} patients on average)\n\
         noise multiplier   {:.4}\n\
         steps              {}\n\
         epsilon            {:.4} at delta {delta}\n\
         noise per weight   {:.4} of the clipping norm\n",
        rate * f64::from(patients),
        planned.step.noise_multiplier(),
        planned.steps,
        planned.epsilon,
        planned.noise_per_weight,
    ))
}
