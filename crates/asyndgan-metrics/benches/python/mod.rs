use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use criterion::{BenchmarkGroup, measurement::WallTime};

/// Lets Python do the same, if there is one.
pub(crate) fn bench(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, arguments: &[&str]) {
    let Ok(python) = std::env::var("PYTHON_WITH_METRICS") else {
        eprintln!("SKIPPED {name}: PYTHON_WITH_METRICS names no Python with medpy, MONAI and SciPy");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/reference.py");
    group.bench_function(name, |b| {
        b.iter_custom(|count| {
            let run = Command::new(&python).arg(&script).args(arguments).arg(count.to_string()).stderr(Stdio::null()).output();
            let said = String::from_utf8(run.expect("Python starts").stdout).expect("text");
            Duration::from_secs_f64(said.trim().parse().expect("seconds"))
        });
    });
}
