//! The steps of a run, each a process of the program `asyndgan`. Steps that do not depend on each other can run in
//! parallel.

use std::{
    cmp::Reverse,
    ffi::OsString,
    fs::File,
    io::{BufRead, BufReader, IsTerminal as _, Write as _, stderr},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_paper::{Prepared, Run, SPENT, STEP_ENVIRONMENT, Step};
use indicatif::ProgressBar;

use crate::progress::{bar, now};

/// How often a log without a terminal shows how far a step is.
const EVERY: Duration = Duration::from_mins(1);

/// Environment of steps that run in parallel: waiting threads yield the processor.
const BESIDE: (&str, &str) = ("OMP_WAIT_POLICY", "passive");

pub(super) struct Runner<'a> {
    pub(super) program: &'a Path,
    /// Further arguments of every step.
    pub(super) arguments: &'a [OsString],
    pub(super) folder: &'a Path,
    pub(super) run: &'a Run,
    /// Steps that run in parallel, where they do not depend on each other.
    pub(super) jobs: usize,
}

/// Progress of the whole run.
struct Whole {
    bar: ProgressBar,
    started: Instant,
    /// Work of earlier starts: it does not count for the speed.
    skipped: AtomicU64,
    steps: usize,
    ended: AtomicUsize,
}

fn add_bar(message: &str) -> ProgressBar {
    bar("{msg:40} [{bar:30}] {percent:>3} %, {eta} left", message, 1)
}

/// A duration in a unit that fits: seconds below two minutes, else minutes or hours.
fn rough(time: Duration) -> String {
    match time.as_secs() {
        0 => "1 s".into(),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{:.1} h", seconds as f64 / 3600.0),
    }
}

/// How far a step is, for a log without a terminal: a line per minute.
struct Log {
    label: String,
    began: Instant,
    reported_at: Instant,
    /// What an earlier start had done.
    earlier: Option<u64>,
}

impl Log {
    fn new(step: Step) -> Self {
        Self { label: step.label(), began: now(), reported_at: now(), earlier: None }
    }

    /// The line that is due, if one is.
    fn line(&mut self, done: u64, total: u64) -> Option<String> {
        let earlier = *self.earlier.get_or_insert(done);
        if self.reported_at.elapsed() < EVERY || done >= total {
            return None;
        }
        self.reported_at = now();
        let here = done.saturating_sub(earlier);
        let left = (here > 0).then(|| self.began.elapsed().mul_f64((total - done) as f64 / here as f64));
        let left = left.map_or_else(String::new, |left| format!(", about {} left", rough(left)));
        Some(format!("{}: {done} of {total}{left}", self.label))
    }
}

impl Whole {
    /// Prints that a step has ended, and the time left of the run; also without a terminal.
    fn report(&self, step: Step, how: &str) {
        let i = self.ended.fetch_add(1, Ordering::Relaxed) + 1;
        let skipped = self.skipped.load(Ordering::Relaxed);
        let (done, all) = (self.bar.position().saturating_sub(skipped), self.bar.length().unwrap_or(0).saturating_sub(skipped));
        let left = (0 < done && done < all).then(|| self.started.elapsed().mul_f64((all - done) as f64 / done as f64));
        let left = left.map_or_else(String::new, |left| format!(", about {} left", rough(left)));
        tracing::info!("[{i}/{}] {}: {how}{left}", self.steps, step.label());
    }
}

impl Runner<'_> {
    /// Runs all steps that are not done yet.
    pub(super) fn all(&self) -> Result<()> {
        let proof = Step::Prepare.proof(self.folder, self.run.experiment);
        if !self.is_done(Step::Prepare) {
            self.one(Step::Prepare, true, |_, _| ())?;
        }
        let text = std::fs::read_to_string(&proof).with_context(|| format!("cannot read {}", proof.display()))?;
        let prepared: Prepared = serde_json::from_str(&text)
            .with_context(|| format!("{} was written by a different version: delete the run folder", proof.display()))?;
        let sites = prepared.sites.len() as u32;
        let all = self.run.possible_arms(sites);
        for arm in self.run.arms.iter().flatten() {
            ensure!(all.contains(arm), "{} has no {arm} with {sites} sites", self.run.experiment.name());
        }
        let steps = self.run.steps(sites);
        let cost = |step: &Step| step.cost(&self.run.settings, sites);
        let bar = add_bar(&format!("{} {}", self.run.experiment.name(), self.run.profile.name()));
        bar.set_length(steps.iter().map(cost).sum());
        let skipped = steps.iter().filter(|step| self.is_done(**step)).map(cost).sum();
        bar.set_position(skipped);
        bar.reset_eta();
        let whole = Whole { bar, started: now(), skipped: AtomicU64::new(skipped), steps: steps.len(), ended: AtomicUsize::new(0) };
        for chains in groups(&steps) {
            self.beside(chains, &whole, &cost)?;
        }
        whole.bar.finish_and_clear();
        Ok(())
    }

    /// Runs chains of steps, `jobs` of them in parallel; if more than one, the longest first.
    fn beside(&self, mut chains: Vec<&[Step]>, whole: &Whole, cost: &(impl Fn(&Step) -> u64 + Sync)) -> Result<()> {
        let left = |chain: &[Step]| chain.iter().filter(|step| !self.is_done(**step)).map(cost).sum::<u64>();
        let unfinished = chains.iter().filter(|chain| left(chain) > 0).count();
        let (workers, failed) = (self.jobs.min(unfinished).max(1), AtomicBool::new(false));
        let alone = workers == 1;
        if !alone {
            chains.sort_by_cached_key(|chain| Reverse(left(chain)));
        }
        let chains = Mutex::new(chains.into_iter());
        let next = || chains.lock().expect("no worker panics with it").next();
        let work = || {
            while let Some(chain) = next() {
                for &step in chain {
                    if failed.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    self.counted(step, whole, cost(&step), alone).inspect_err(|_| {
                        failed.store(true, Ordering::Relaxed);
                        if !alone {
                            tracing::error!("{}: failed; no further step starts, and the running ones are finished", step.label());
                        }
                    })?;
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let ends: Vec<Result<()>> =
                workers.into_iter().map(|w| w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect();
            ends.into_iter().collect()
        })
    }

    /// Runs a step unless it is done already, and counts it.
    fn counted(&self, step: Step, whole: &Whole, cost: u64, alone: bool) -> Result<()> {
        if self.is_done(step) {
            whole.report(step, "done already");
            return Ok(());
        }
        let of_cost = |share: f64| (cost as f64 * share) as u64;
        let (mut counted, mut skipped) = (0, 0);
        let seconds = self.one(step, alone, |done, earlier| {
            whole.bar.inc(of_cost(done).saturating_sub(counted));
            counted = counted.max(of_cost(done));
            whole.skipped.fetch_add(of_cost(earlier).saturating_sub(skipped), Ordering::Relaxed);
            skipped = skipped.max(of_cost(earlier));
        })?;
        whole.report(step, &format!("{seconds:.0} s"));
        Ok(())
    }

    /// The report depends on all other steps and is fast: it is always made again.
    fn is_done(&self, step: Step) -> bool {
        step != Step::Report && step.proof(self.folder, self.run.experiment).is_file()
    }

    /// Runs a step, and returns the seconds from the start of its process to its end. `progress` gets the share that is
    /// done, and the share that an earlier start had done.
    fn one(&self, step: Step, alone: bool, mut progress: impl FnMut(f64, f64)) -> Result<f64> {
        let (bar, began) = (add_bar(&step.label()), now());
        let mut command = Command::new(self.program);
        command
            .args(step.arguments())
            .args(self.arguments)
            .arg("--run")
            .arg(self.folder)
            .env("ASYNDGAN_PROGRESS", "lines")
            .stdout(Stdio::piped());
        for (name, value) in STEP_ENVIRONMENT.into_iter().chain((!alone).then_some(BESIDE)) {
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let (mut earlier, mut log) = (None, (!stderr().is_terminal()).then(|| Log::new(step)));
        for line in lines.map_while(std::io::Result::ok) {
            let mut words = line.split(' ');
            let (Some("progress"), Some(Ok(done)), Some(Ok(total))) =
                (words.next(), words.next().map(str::parse::<u64>), words.next().map(str::parse::<u64>))
            else {
                continue;
            };
            let share = done as f64 / total.max(1) as f64;
            if earlier.is_none() {
                // What an earlier start has done does not count for the speed.
                bar.set_length(total);
                bar.set_position(done);
                bar.reset_eta();
            }
            bar.set_position(done);
            if let Some(line) = log.as_mut().and_then(|log| log.line(done, total)) {
                tracing::info!("{line}");
            }
            progress(share, *earlier.get_or_insert(share));
        }
        let status = child.wait().context("cannot wait for the step")?;
        bar.finish_and_clear();
        if !status.success() {
            bail!("{} failed ({status}): fix the cause and run the same command again, which resumes here", step.label());
        }
        progress(1.0, earlier.unwrap_or(0.0));
        let seconds = began.elapsed().as_secs_f64();
        self.note(step, seconds)?;
        Ok(seconds)
    }

    /// Adds a line with the seconds of a step to steps.csv; the header first.
    fn note(&self, step: Step, seconds: f64) -> Result<()> {
        let path = self.folder.join(SPENT);
        let mut file = File::options().create(true).append(true).open(&path).with_context(|| format!("cannot write {}", path.display()))?;
        // Preparation comes first and alone.
        let header = if file.metadata().is_ok_and(|m| m.len() == 0) { "command,step,seconds\n" } else { "" };
        // One write, so that a line is there whole or not at all.
        let line = format!("{header}{},{},{seconds:.1}\n", step.arguments()[0], step.label());
        file.write_all(line.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Steps in groups that run one after the other. The chains of a group can run in parallel; the steps of a chain run in
/// order.
fn groups(steps: &[Step]) -> Vec<Vec<&[Step]>> {
    let waits = |step: &Step| step.arm().map(|(arm, _)| arm.uses().is_some());
    let groups = steps.chunk_by(|a, b| a.arm().is_some() && waits(a) == waits(b));
    groups.map(|group| group.chunk_by(|a, b| a.arm() == b.arm()).collect()).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use asyndgan_paper::{Arm, DataKind, Experiment, PreparedSite, Profile, Settings};

    use super::*;

    #[test]
    fn a_chain_is_of_one_arm_under_one_seed_and_the_report_comes_last() {
        let settings = Settings::new(Experiment::Table2, Profile::Paper);
        let run = Run { seeds: vec![0, 1], ..Run::phantoms(Experiment::Table2, Profile::Paper, settings) };
        let steps = run.steps(4);
        let groups = groups(&steps);
        assert_eq!(groups.len(), 4);
        assert_eq!((groups[0][0], groups[3][0]), (&[Step::Estimate][..], &[Step::Report][..]));
        assert_eq!(groups[2].len(), 2 * 4);
        assert_eq!(groups[1].len(), 2 * 8);
        let (arm, first) = (Arm::AsynDgan, 0);
        let wanted = [Step::Train(arm, first), Step::Synthesize(arm, first), Step::Evaluate(arm, first), Step::Curve(arm, first)];
        assert!(groups[1].contains(&&wanted[..]), "{groups:?}");
        assert_eq!(groups.concat().concat(), steps);
    }

    #[test]
    fn what_is_done_is_not_begun_again_and_what_takes_longest_is_begun_first() {
        let all = [
            "evaluate RealSubset-1",
            "train SynAll",
            "synthesize SynAll",
            "train AsynDgan",
            "evaluate AsynDgan",
            "evaluate OwnPlusSyn-2",
            "report",
        ];
        // Side by side, a training ends when the other has begun.
        let both = "n=0; case $step in train*) until [ $(grep -c train begun) = 2 ]; do n=$((n+1)); [ $n -lt 1000 ] || exit 1; sleep 0.01; done;; esac";
        for (jobs, script) in [(1, ""), (2, both)] {
            let (ended, begun) = run_script(script, jobs, &[Step::Evaluate(Arm::RealAll, 0), Step::Evaluate(Arm::SynAll, 0)]);
            ended.expect("nothing fails");
            assert!(all.iter().all(|step| begun.iter().filter(|b| b == step).count() == 1), "{begun:?}");
            assert!(!begun.iter().any(|step| step == "evaluate RealAll" || step == "evaluate SynAll"), "{begun:?}");
            assert_eq!(begun.last().map(String::as_str), Some("report"));
            let trainings_first = begun.iter().take(2).all(|step| step.starts_with("train"));
            assert_eq!(trainings_first, jobs == 2, "{begun:?}");
        }
    }

    #[test]
    fn the_time_left_is_given_in_a_unit_that_fits() {
        let of = |seconds| rough(Duration::from_secs(seconds));
        assert_eq!([of(0), of(8), of(119), of(150), of(7200)], ["1 s", "8 s", "119 s", "2 min", "2.0 h"]);
    }

    #[test]
    fn once_a_step_has_failed_no_other_is_begun() {
        // AsynDgan's training ends when the runner has taken note that SynAll's has failed, and a little later.
        let script = r#"case $step in
            "train SynAll") echo $$ > failing; mv failing failed; exit 1;;
            "train AsynDgan") n=0; until [ -e failed ]; do n=$((n+1)); [ $n -lt 1000 ] || exit 1; sleep 0.01; done; while kill -0 "$(cat failed)" 2>&-; do sleep 0.01; done; sleep 0.3;;
        esac"#;
        let (ended, mut begun) = run_script(script, 2, &[]);
        assert!(ended.is_err_and(|error| error.to_string().contains("SynAll: train generator (seed 0) failed")));
        begun.sort();
        assert_eq!(begun, ["train AsynDgan", "train SynAll"]);
    }

    /// Does a table's steps by a program that only writes down what is asked of it and does what `script` says; returns
    /// how that ended, and what was begun.
    fn run_script(script: &str, jobs: usize, done: &[Step]) -> (Result<()>, Vec<String>) {
        let place = tempfile::tempdir().expect("a folder");
        let write = |path: &Path, text: &str| {
            fs::create_dir_all(path.parent().expect("in a folder")).and_then(|()| fs::write(path, text)).expect("written");
        };
        let site = |name: &str| PreparedSite { name: name.into(), patients: Vec::new(), cases: 1 };
        let prepared =
            Prepared { kind: DataKind::Phantom, sites: vec![site("1"), site("2")], test: Vec::new(), test_patients: BTreeMap::new() };
        let proof = |step: Step| step.proof(place.path(), Experiment::Table2);
        write(&proof(Step::Prepare), &serde_json::to_string(&prepared).expect("text"));
        for step in done {
            write(&proof(*step), "");
        }
        write(&place.path().join("script"), script);
        let run = Run::phantoms(Experiment::Table2, Profile::Smoke, Settings::new(Experiment::Table2, Profile::Smoke));
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_program.sh");
        let ended = Runner { program: &program, arguments: &[], folder: place.path(), run: &run, jobs }.all();
        let begun = fs::read_to_string(place.path().join("begun")).expect("something was begun");
        (ended, begun.lines().map(str::to_owned).collect())
    }
}
